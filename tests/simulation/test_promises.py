"""Sentences of ``docs/guarantees.md`` that no other test states on its own."""

from __future__ import annotations

import itertools

import pytest

from artemis.outcomes import Registered
from tests.simulation import cluster as clusters
from tests.simulation.clients import FOREVER_MS, Answer, elements_of, register
from tests.simulation.cluster import Cluster, Machine
from tests.simulation.directed import SERVICE, engine_of, leader_of, new_cluster, settle, settled_cluster
from tests.simulation.lease_tails import LeaseTails
from tests.simulation.settings import Settings
from tests.simulation.world import World

TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000


def test_a_write_is_in_the_state_of_its_node_before_it_is_acknowledged() -> None:
    cluster = settled_cluster("own write")
    for node in cluster.members:
        engine = engine_of(cluster, node)
        seen: list[bool] = []

        def answered(answer: Answer, node: str = node, seen: list[bool] = seen) -> None:
            assert isinstance(answer, Registered)
            seen.append(node in elements_of(engine_of(cluster, node).registry, SERVICE))

        engine.propose(register(SERVICE, (node,), FOREVER_MS), None, 5_000, answered)
        assert cluster.world.run_until_true(lambda seen=seen: bool(seen), within=5)  # type: ignore[misc]
        assert seen == [True]


def test_nobody_ever_sees_a_part_of_a_request() -> None:
    """Looked at on every node after every entry and every snapshot, while leaders are killed and come back."""
    cluster = new_cluster("whole requests")
    sizes: set[int] = set()

    def watch(machine: Machine) -> None:
        engine = machine.engine
        assert engine is not None

        def look(_index: int) -> None:
            names = sorted(elements_of(engine.registry, SERVICE))
            by_request = [list(group) for _, group in itertools.groupby(names, key=lambda name: name.split("-")[0])]
            sizes.update(len(group) for group in by_request)

        engine.on_applied(look)

    cluster.on_booted.append(watch)
    cluster.start_all()
    settle(cluster)
    answers: list[Answer] = []
    for number in range(30):
        node = cluster.running[number % len(cluster.running)]
        names = tuple(f"r{number}-{part}" for part in range(7))
        engine_of(cluster, node).propose(register(SERVICE, names, FOREVER_MS), None, 1_000, answers.append)
        if number % 5 == 4:
            leader = leader_of(cluster)
            cluster.kill(leader)
            cluster.world.run_for(1.5)
            cluster.start(leader)
            settle(cluster)
    assert sum(isinstance(answer, Registered) for answer in answers) >= 10
    assert sizes == {7}


def test_wall_clocks_that_differ_by_years_change_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node starts, and starts again, with a wall clock of its own."""
    cluster = Cluster(World("wall clocks"), Settings(clock_drift=0.0))
    tails = LeaseTails(cluster)
    now_ms = clusters.WALL_MS

    def start(node: str, years_off_ms: int) -> None:
        monkeypatch.setattr(clusters, "WALL_MS", now_ms + years_off_ms)
        cluster.start(node)

    for node, off_ms in zip(cluster.members, (-TEN_YEARS_MS, 0, TEN_YEARS_MS), strict=True):
        start(node, off_ms)
    settle(cluster)
    tails.start_canary()
    for off_ms in (TEN_YEARS_MS, -TEN_YEARS_MS, 0):
        tails.hold(f"i{off_ms}", 3_000, renewals=2)
        cluster.world.run_for(0.5)
        leader = leader_of(cluster)
        cluster.kill(leader)
        start(leader, off_ms)
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
    assert cluster.world.run_until_true(lambda: len(tails.ended()) == 3, within=30)
    for each in tails.ended():
        assert each.early >= 0
        assert each.late <= 1.0
