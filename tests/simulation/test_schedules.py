"""Schedules written out: what must be available when, and the worst moments of single guards."""

from __future__ import annotations

from typing import Literal

import pytest

from artemis.consensus.timing import Bounds
from artemis.errors import Unavailable
from artemis.outcomes import Registered
from tests.simulation.clients import FOREVER_MS, Answer, elements_of, register
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import ObservedEngine
from tests.simulation.network import NetworkSettings
from tests.simulation.settings import Settings
from tests.simulation.world import World

ELECTION_SECONDS_MAX = 2.0
"""Two followers that campaign together, once, and a slow answer."""


def started(settings: Settings | None = None, seed: str = "schedule") -> Cluster:
    cluster = Cluster(World(seed), settings or Settings())
    cluster.start_all()
    assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
    return cluster


def engine_of(cluster: Cluster, name: str) -> ObservedEngine:
    engine = cluster.engine(name)
    assert engine is not None
    return engine


def leader_and_followers(cluster: Cluster) -> tuple[str, list[str]]:
    leader = cluster.leader()
    assert leader is not None
    return leader, [name for name in cluster.members if name != leader]


def cut(cluster: Cluster, name: str, way: Literal["both", "mute", "deaf"] = "both") -> None:
    for other in cluster.members:
        if other != name and way != "deaf":
            cluster.network.cut(name, other)
        if other != name and way != "mute":
            cluster.network.cut(other, name)


def propose(cluster: Cluster, node: str, element: str, timeout_ms: int = 3000) -> list[Answer]:
    answers: list[Answer] = []
    engine_of(cluster, node).propose(register("s", (element,), FOREVER_MS), None, timeout_ms, answers.append)
    return answers


def write(cluster: Cluster, node: str, element: str, within: float = 5.0) -> None:
    answers = propose(cluster, node, element)
    assert cluster.world.run_until_true(lambda: bool(answers), within=within)
    assert isinstance(answers[0], Registered), answers


def barrier(cluster: Cluster, node: str, timeout_ms: int = 3000) -> list[Answer]:
    answers: list[Answer] = []
    engine_of(cluster, node).barrier(timeout_ms, answers.append)
    return answers


def test_a_killed_leader_is_replaced_within_two_seconds() -> None:
    cluster = started()
    leader, followers = leader_and_followers(cluster)
    cluster.kill(leader)
    write(cluster, followers[0], "after", within=ELECTION_SECONDS_MAX)


@pytest.mark.parametrize("way", ["both", "mute", "deaf"])
def test_a_cut_off_leader_is_replaced_and_acknowledges_nothing(way: Literal["both", "mute", "deaf"]) -> None:
    cluster = started()
    leader, followers = leader_and_followers(cluster)
    cut(cluster, leader, way)
    lost = propose(cluster, leader, "lost", timeout_ms=1500)
    write(cluster, followers[0], "kept", within=2 * ELECTION_SECONDS_MAX)
    if way == "both":
        assert cluster.world.run_until_true(lambda: bool(lost), within=2)
        assert isinstance(lost[0], Unavailable)
        assert not lost[0].definite
    cluster.network.heal_all()
    assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=5)
    assert cluster.world.run_until_true(
        lambda: all("kept" in elements_of(engine_of(cluster, name).registry, "s") for name in cluster.members), within=5
    )


def test_the_minority_refuses_quickly_and_says_that_nothing_happened() -> None:
    """A node that knows it has no leader has handed its proposals to nobody."""
    cluster = started()
    leader, (lonely, _) = leader_and_followers(cluster)
    cut(cluster, lonely)
    cluster.world.run_for(1.5)
    refused, unread = propose(cluster, lonely, "x", timeout_ms=1000), barrier(cluster, lonely, timeout_ms=1000)
    cluster.world.run_for(1.1)
    for (answer,) in (refused, unread):
        assert isinstance(answer, Unavailable)
        assert answer.definite
    write(cluster, leader, "y")


def test_a_leader_without_a_majority_gives_up_within_an_election_timeout() -> None:
    cluster = started()
    leader, _ = leader_and_followers(cluster)
    cut(cluster, leader)
    timing = cluster.settings.timing
    cluster.world.run_for((timing.election_timeout_ms_min + 2 * timing.heartbeat_ms) / 1000)
    assert engine_of(cluster, leader).core.role != "leader"


def test_a_returning_node_does_not_depose_a_healthy_leader() -> None:
    """It asked for pre-votes all the while; its term must not have grown."""
    cluster = started()
    leader, (away, _) = leader_and_followers(cluster)
    term = engine_of(cluster, leader).core.term
    for _ in range(5):
        cut(cluster, away)
        cluster.world.run_for(3.0)
        cluster.network.heal_all()
        cluster.world.run_for(2.0)
    assert cluster.leader() == leader
    assert engine_of(cluster, away).core.term == engine_of(cluster, leader).core.term == term


def test_one_broken_link_does_not_make_leaders_alternate() -> None:
    """The two ends of it see the third node, so each could go on campaigning against the other's leadership."""
    cluster = started()
    leader, (other, _) = leader_and_followers(cluster)
    cluster.network.cut(leader, other)
    cluster.network.cut(other, leader)
    cluster.world.run_for(20.0)
    assert len(cluster.watch.leaders) <= 2
    write(cluster, cluster.leader() or leader, "x")


def test_a_paused_leader_comes_back_as_a_follower_of_the_new_one() -> None:
    cluster = started()
    leader, followers = leader_and_followers(cluster)
    cluster.pause(leader)
    write(cluster, followers[0], "meanwhile", within=2 * ELECTION_SECONDS_MAX)
    cluster.resume(leader)
    stale = barrier(cluster, leader)
    assert cluster.world.run_until_true(lambda: bool(stale), within=3)
    assert stale[0] is None
    assert "meanwhile" in elements_of(engine_of(cluster, leader).registry, "s")


def test_linearizable_reads_work_however_long_a_round_trip_takes() -> None:
    """From a follower it takes two of them; each was given up after 100 ms, and so for ever."""
    cluster = started(Settings(network=NetworkSettings(latency_min=0.06, latency_max=0.08)))
    _, (follower, _) = leader_and_followers(cluster)
    answers = barrier(cluster, follower)
    assert cluster.world.run_until_true(lambda: bool(answers), within=1)
    assert answers == [None]


def test_a_follower_catches_up_while_snapshots_are_taken_faster_than_one_travels() -> None:
    bounds = Bounds(snapshot_log_entries=20, snapshot_trailing_entries=1, snapshot_chunk_bytes=64)
    cluster = started(Settings(bounds=bounds))
    leader, (away, _) = leader_and_followers(cluster)
    cluster.kill(away)
    for number in range(40):
        write(cluster, leader, f"i{number}")
    cluster.start(away)
    for number in range(200):
        write(cluster, leader, f"j{number}")
    assert cluster.watch.snapshots_installed <= 2
    reached = engine_of(cluster, leader).core.applied_index
    assert cluster.world.run_until_true(lambda: engine_of(cluster, away).core.applied_index >= reached, within=5)
