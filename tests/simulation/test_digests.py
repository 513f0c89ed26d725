"""A node whose state is not that of the others says so and serves nobody (P8), whatever damaged it."""

from __future__ import annotations

import pytest

from artemis.commands import Register
from artemis.consensus.digests import DOUBT_SECONDS
from artemis.consensus.engine import Engine
from artemis.errors import ArtemisError, Unavailable
from tests.simulation import damage
from tests.simulation.clients import FOREVER_MS, Answer, register
from tests.simulation.cluster import Cluster
from tests.simulation.damage import DAMAGES
from tests.simulation.directed import converge, followers_of, leader_of, names_on, settled_cluster, write

FOUND_WITHIN = 3.0
"""Seconds: a checkpoint each second of lease time, and the way of the answers."""


def cluster_with_state(seed: str, members: int = 3) -> Cluster:
    cluster = settled_cluster(seed, members)
    for number in range(4):
        assert write(cluster, cluster.members[number % members], f"i{number}")
    assert cluster.world.run_until_true(lambda: all(e.digests.verified_index for e in cluster.engines()), within=5)
    return cluster


def refusals(engine: Engine) -> list[ArtemisError]:
    """What the three doors of a node say."""
    found: list[ArtemisError] = []

    def ask(door: object, *args: object) -> None:
        try:
            door(*args)  # type: ignore[operator]
        except ArtemisError as exc:
            found.append(exc)

    answers: list[Answer] = []
    command: Register = register("s", ("refused",), FOREVER_MS)
    ask(engine.propose, command, None, 1_000, answers.append)
    ask(engine.barrier, 1_000, lambda error: None)
    ask(engine.applied, 1, 1_000, lambda error: None)
    assert not answers
    return found


def quarantined(cluster: Cluster) -> list[str]:
    return [engine.node_id for engine in cluster.engines() if engine.digests.quarantined is not None]


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("victim_leads", [False, True])
def test_a_node_with_a_damaged_state_is_quarantined_and_the_others_go_on(kind: str, victim_leads: bool) -> None:
    cluster = cluster_with_state(f"damage {kind} {victim_leads}")
    victim = leader_of(cluster) if victim_leads else followers_of(cluster)[0]
    engine = damage.do(cluster, victim, DAMAGES[kind])
    assert cluster.world.run_until_true(lambda: engine.digests.quarantined is not None, within=FOUND_WITHIN)
    status = engine.status()
    assert not status.ready
    assert any("differs from" in reason or "have digest" in reason for reason in status.reasons)
    assert [(type(error), error.definite) for error in refusals(engine)] == [(Unavailable, True)] * 3

    others = [name for name in cluster.members if name != victim]
    assert cluster.world.run_until_true(lambda: cluster.leader() in others, within=5)
    for other in others:
        assert write(cluster, other, f"after on {other}")
    assert quarantined(cluster) == [victim]

    # Started again it makes its state anew from what is on disk, and is well.
    cluster.kill(victim)
    cluster.watch.damaged.discard(victim)
    cluster.start(victim)
    converge(cluster, "i0", "i1", "i2", "i3", *(f"after on {other}" for other in others))
    index = cluster.watch.highest_committed
    assert cluster.world.run_until_true(
        lambda: all(e.digests.verified_index > index and not e.digests.differing for e in cluster.engines()), within=5
    )


def test_open_writes_and_reads_of_a_node_are_ended_when_its_state_is_found_wrong() -> None:
    cluster = cluster_with_state("open requests")
    victim = followers_of(cluster)[0]
    engine = damage.do(cluster, victim, damage.flip_a_bit_of_a_record)
    answers: list[Answer] = []
    reads: list[ArtemisError | None] = []
    engine.applied(1_000_000, 60_000, reads.append)

    def keep_writing() -> None:
        if engine.digests.quarantined is None:
            engine.propose(register("s", ("x",), FOREVER_MS), None, 60_000, answers.append)
            cluster.world.after(0.0005, keep_writing)

    cluster.world.soon(keep_writing)
    assert cluster.world.run_until_true(lambda: engine.digests.quarantined is not None, within=FOUND_WITHIN)
    assert [type(error) for error in reads] == [Unavailable]
    # What had left the node may have happened.
    assert isinstance(answers[-1], Unavailable)
    assert not answers[-1].definite
    assert not len(engine.proposing.session)


def test_while_nobody_can_tell_who_is_wrong_nobody_who_differs_serves_until_the_third_is_back() -> None:
    cluster = cluster_with_state("two of three")
    victim, away = followers_of(cluster)
    right = leader_of(cluster)
    cluster.kill(away)
    damaged = damage.do(cluster, victim, damage.flip_a_bit_of_the_revision)
    other = cluster.engine(right)
    assert other is not None
    both = (damaged, other)
    assert cluster.world.run_until_true(
        lambda: all(engine.digests.reason() is not None for engine in both), within=FOUND_WITHIN + DOUBT_SECONDS
    )
    assert all("no majority decides" in str(engine.digests.reason()) for engine in both)
    assert all(not engine.status().ready and len(refusals(engine)) == 3 for engine in both)
    assert quarantined(cluster) == []

    cluster.start(away)
    assert cluster.world.run_until_true(lambda: quarantined(cluster) == [victim], within=10)
    assert cluster.world.run_until_true(lambda: other.digests.reason() is None, within=5)
    assert cluster.world.run_until_true(lambda: cluster.leader() in (right, away), within=5)
    assert write(cluster, right, "decided")
    assert cluster.world.run_until_true(lambda: "decided" in names_on(cluster, away), within=5)


def test_a_minority_of_two_is_found_in_a_cluster_of_five() -> None:
    cluster = cluster_with_state("two of five", members=5)
    victims = followers_of(cluster)[:2]
    for victim, kind in zip(victims, ("record", "session"), strict=True):
        damage.do(cluster, victim, DAMAGES[kind])
    assert cluster.world.run_until_true(lambda: quarantined(cluster) == sorted(victims), within=FOUND_WITHIN)
    assert write(cluster, leader_of(cluster), "after")
    leader = cluster.engine(leader_of(cluster))
    assert leader is not None
    assert cluster.world.run_until_true(lambda: victims[1] in leader.digests.differing, within=3)


def test_a_quarantined_node_takes_no_snapshot_of_its_state() -> None:
    cluster = cluster_with_state("no snapshot")
    victim = followers_of(cluster)[0]
    engine = damage.do(cluster, victim, damage.flip_a_bit_of_a_record)
    assert cluster.world.run_until_true(lambda: engine.digests.quarantined is not None, within=FOUND_WITHIN)
    before = engine.snapshots.index
    engine.take_snapshot()
    cluster.world.run_for(1.0)
    assert engine.snapshots.index == before
