"""Moments that seeds practically never reach, played by hand: each shows what one guard is for."""

from __future__ import annotations

import pytest

from artemis.commands import Proposal, encode_proposal
from artemis.consensus.wire import Forward, ReadProbeReply, VoteGranted, VoteRequest
from artemis.outcomes import Registered
from artemis.registry import Registry
from tests.simulation.clients import FOREVER_MS, Answer, register
from tests.simulation.cluster import Cluster
from tests.simulation.settings import Settings
from tests.simulation.world import Violation, World
from tests.unit.test_core import Member


def started(name: str) -> Cluster:
    cluster = Cluster(World(name), Settings())
    cluster.start_all()
    assert cluster.world.run_until_true(cluster.settled, within=30)
    return cluster


def propose(cluster: Cluster, node: str, name: str) -> list[Answer]:
    answers: list[Answer] = []
    engine = cluster.engine(node)
    assert engine is not None
    engine.propose(register("s", (name,), FOREVER_MS), None, 5_000, answers.append)
    return answers


def test_a_rejoined_member_has_no_vote_left_in_the_term_it_took_over() -> None:
    """The data it lost may have held a vote of that very term; a second one could elect a second leader."""
    member = Member()
    member.core.elections.adopt_term(5, "n2")
    member.sync()
    member.time += 60
    member.core.elections.on_vote_request("n3", VoteRequest(5, 100, 5, False))
    member.sync()
    assert not [message for _, message in member.take_sent() if isinstance(message, VoteGranted)]


def test_a_node_whose_apply_raises_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library applies an entry again whose apply raised, or goes on behind it (hazard F)."""
    cluster = started("apply raises")

    def broken(self: Registry, index: int, entry: object) -> list[None]:
        raise KeyError(index)

    monkeypatch.setattr(Registry, "apply", broken)
    propose(cluster, cluster.leader() or "n1", "x")
    with pytest.raises(Violation, match="stops itself: KeyError"):
        cluster.world.run_for(5)


def test_what_was_forwarded_for_another_term_is_not_taken() -> None:
    """A proposal of the same node that came before it may have been dropped with the earlier leadership."""
    cluster = started("late forward")
    leader = cluster.agreed_leader()
    assert leader is not None
    follower = next(name for name in cluster.members if name != leader.node_id)
    engine = cluster.engine(follower)
    assert engine is not None
    late = encode_proposal(
        Proposal(follower, engine.journal.incarnation, 9, None, 1 << 60, register("s", ("late",), 1))
    )
    leader.on_message(follower, Forward(leader.core.term - 1, engine.journal.incarnation, ((9, late),)))
    answers = propose(cluster, follower, "x")
    assert cluster.world.run_until_true(lambda: bool(answers), within=6)
    assert isinstance(answers[0], Registered)


def test_a_new_leader_does_not_vouch_for_what_it_has_not_applied() -> None:
    """Restarted and elected it has applied nothing yet; a majority answers it before its first entry is on its disk.
    Which disk is how slow decides whether it comes to that: in nearly every second run."""
    for attempt in range(8):
        cluster = started(f"restart of all {attempt}")
        for number in range(5):
            answers = propose(cluster, "n1", f"i{number}")
            assert cluster.world.run_until_true(lambda answers=answers: bool(answers), within=6)  # type: ignore[misc]
        cluster.watch.age_drift = cluster.settings.clock_drift
        cluster.power_cut(*cluster.members)
        for machine in cluster.machines.values():
            machine.speed.stalled = machine.rng.uniform(0.1, 0.4)
        cluster.start_all()
        assert cluster.world.run_until_true(cluster.settled, within=30)


def test_an_answer_to_an_earlier_leadership_confirms_no_read() -> None:
    """Rounds are numbered anew in each leadership; the late answer was given before others could have led."""
    cluster = started("late answers")
    leader = cluster.agreed_leader()
    assert leader is not None
    followers = [name for name in cluster.members if name != leader.node_id]
    for name in followers:
        cluster.network.cut(leader.node_id, name)
        cluster.network.cut(name, leader.node_id)
    passed: list[object] = []
    leader.barrier(5_000, passed.append)
    cluster.world.run_for(0.05)
    for number in range(1, 1000):
        leader.on_message(followers[0], ReadProbeReply(leader.core.term - 1, number))
    cluster.world.run_for(0.05)
    assert leader.core.role == "leader"
    assert not passed


class SlowlyReading(Member):
    """Its clock moves on while it is read, so that a loop which waits for the clock ends."""

    def now(self) -> float:
        self.time += 0.0005
        return self.time


def test_a_follower_that_needs_a_snapshot_costs_one_question_per_turn() -> None:
    """Told that there is no snapshot yet, the library asks again until a heartbeat period is over (hazard N3)."""
    member = SlowlyReading()
    member.lead_with_n3_far_behind()
    member.core.replication.broadcast()
    assert member.snapshots_for == ["n3"]
