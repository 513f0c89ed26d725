"""A leader that is told to stop hands over instead of letting the others wait out their election timeout."""

from __future__ import annotations

from tests.simulation.clients import FOREVER_MS, Answer, register
from tests.simulation.directed import engine_of, followers_of, leader_of, settled_cluster


def test_leadership_moves_within_a_heartbeat_and_waiting_writes_go_to_the_successor() -> None:
    cluster = settled_cluster("transfer")
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    resigned: list[float] = []
    answers: list[Answer] = []
    started = cluster.world.now
    engine.resign(500, lambda: resigned.append(cluster.world.now))
    for number in range(20):
        engine.propose(register("s", (f"i{number}",), FOREVER_MS), None, 2_000, answers.append)
    assert cluster.world.run_until_true(lambda: len(answers) == 20, within=5)
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert resigned
    assert resigned[0] - started < 0.1
    assert cluster.leader() not in (None, leader)
    assert cluster.world.now - started < engine._timing.election_timeout_ms_min / 1000


def test_without_a_complete_follower_the_leader_stays() -> None:
    cluster = settled_cluster("no successor")
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    for name in cluster.members:
        if name != leader:
            cluster.pause(name)
    answers: list[Answer] = []
    engine.propose(register("s", ("i",), FOREVER_MS), None, 3_000, answers.append)
    cluster.world.run_for(0.05)
    resigned: list[float] = []
    engine.resign(100, lambda: resigned.append(cluster.world.now))
    assert cluster.world.run_until_true(lambda: bool(resigned), within=1)
    for name in cluster.members:
        cluster.resume(name)
    assert cluster.world.run_until_true(lambda: bool(answers), within=5)
    assert not isinstance(answers[0], Exception)


def test_a_follower_has_nothing_to_hand_over() -> None:
    cluster = settled_cluster("follower")
    engine = engine_of(cluster, followers_of(cluster)[0])
    done: list[bool] = []
    engine.resign(500, lambda: done.append(True))
    assert done == [True]
