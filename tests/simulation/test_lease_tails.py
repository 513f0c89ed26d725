"""No lease ends early, and none late, while leaders are killed, paused, cut off or asked to hand over."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from artemis import leases
from artemis.commands import Command, Configure, Renew
from artemis.consensus.timing import Timing
from artemis.leases import LEASE_STAMP_ERROR_MS
from artemis.outcomes import Renewed
from artemis.protection import ProtectionSettings
from jepsen_lite.tails import Ended, summary
from tests.simulation.clients import Answer, Door, key, register
from tests.simulation.cluster import Cluster
from tests.simulation.directed import leader_of, settle
from tests.simulation.lease_tails import LeaseTails
from tests.simulation.settings import Settings
from tests.simulation.world import World

LATE_SECONDS_MAX = 1.0
"""What is promised for the late tail."""

COMMIT_SECONDS = 0.01
"""A commit of the simulated cluster, most of the time."""
COMMITS_SECONDS = 0.05
"""Two commits: one in flight when the step is due, and the step. Few are slow, but the slowest counts."""
STEP_SECONDS = (Timing().lease_step_ms + Timing().timer_ms) / 1000
QUIET_SECONDS_MAX = LEASE_STAMP_ERROR_MS / 1000 + STEP_SECONDS + COMMITS_SECONDS

HOLD = ProtectionSettings(hold_ms=12_000)

TTLS_MS = (1000, 2000, 4000, 9000)


def kill(cluster: Cluster, leader: str) -> None:
    cluster.kill(leader)


def pause(cluster: Cluster, leader: str) -> None:
    cluster.pause(leader)


def cut_off(cluster: Cluster, leader: str) -> None:
    for other in cluster.members:
        if other != leader:
            cluster.network.cut(leader, other)
            cluster.network.cut(other, leader)


def kill_all(cluster: Cluster, _leader: str) -> None:
    for name in cluster.members:
        cluster.kill(name)


def pause_all(cluster: Cluster, _leader: str) -> None:
    for name in cluster.members:
        cluster.pause(name)


def cut_all(cluster: Cluster, _leader: str) -> None:
    for name in cluster.members:
        cut_off(cluster, name)


def order(door: Door, node: str, command: Command, answers: list[Answer]) -> None:
    door.ask(node, lambda engine, answer: engine.propose(command, None, 900, answer), 1.0, answers.append)


def started(seed: str, *, canary: bool) -> tuple[Cluster, LeaseTails]:
    """Clocks run at one rate: their drift would be a part of both tails."""
    cluster = Cluster(World(seed), Settings(clock_drift=0.0))
    tails = LeaseTails(cluster)
    cluster.start_all()
    settle(cluster)
    if canary:
        tails.start_canary()
    return cluster, tails


def all_ended(cluster: Cluster, tails: LeaseTails, within: float) -> list[Ended]:
    cluster.calm()
    assert cluster.world.run_until_true(lambda: len(tails.ended()) == len(tails.leases), within), "a lease never ended"
    ended = tails.ended()
    sys.stdout.write(summary(ended) + "\n")
    assert min(each.early for each in ended) >= 0, "a lease ended early"
    return ended


def test_on_a_quiet_cluster_a_lease_ends_within_stamp_bound_step_and_commit() -> None:
    cluster, tails = started("quiet", canary=False)
    for number in range(20):
        tails.hold(f"i{number}", TTLS_MS[number % 3], renewals=number % 4)
        cluster.world.run_for(0.137)
    late = [each.late for each in all_ended(cluster, tails, within=30)]
    assert max(late) <= QUIET_SECONDS_MAX
    assert max(late) > LEASE_STAMP_ERROR_MS / 1000, "the bound is about something"


@pytest.mark.parametrize(
    ("fault", "seconds", "changes_at_least"),
    [
        (kill, 1.9, 3),
        (pause, 0.3, 0),
        (pause, 1.9, 3),
        (cut_off, 0.3, 0),
        (cut_off, 1.9, 3),
        (kill_all, 0.3, 3),
    ],
)
def test_no_lease_ends_early_or_late_whatever_happens_to_leaders(
    fault: Callable[[Cluster, str], None], seconds: float, changes_at_least: int
) -> None:
    """Faults last shorter and longer than an election takes; some leases live through several leaders."""
    cluster, tails = started(f"{fault.__name__} {seconds}", canary=True)
    for number in range(7):
        for ttl_ms in TTLS_MS:
            tails.hold(f"i{number}-{ttl_ms}", ttl_ms, renewals=number % 4)
        fault(cluster, leader_of(cluster))
        cluster.world.run_for(seconds)
        cluster.calm()
        cluster.world.run_for(0.4)
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
    ended = all_ended(cluster, tails, within=60)
    assert max(each.late for each in ended) <= LATE_SECONDS_MAX
    assert max(each.leader_changes for each in ended) >= changes_at_least, "too little happened"


@pytest.mark.parametrize("fault", [pause_all, cut_all, kill_all])
def test_an_outage_longer_than_the_ttl_ends_no_lease_whose_holder_goes_on(
    fault: Callable[[Cluster, str], None],
) -> None:
    """The lease clock stands meanwhile, but for the one step that a paused leader may add."""
    cluster, tails = started(fault.__name__, canary=True)
    for number in range(10):
        tails.hold(f"i{number}", 2000, renewals=40)
    for _ in range(2):
        cluster.world.run_for(2.0)
        began = cluster.world.now
        fault(cluster, leader_of(cluster))
        cluster.world.run_for(5.0)
        cluster.calm()
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
        cluster.world.run_for(3.0)
        assert tails.outages.between(began, cluster.world.now) > 5.0
        assert tails.ended() == []


@pytest.mark.parametrize("down", ["resigns", "is killed"])
def test_a_change_of_leader_costs_the_commit_of_one_stamp_and_no_step(down: str) -> None:
    """Leases outlive up to twenty leaders. A new leader counts the time since it applied the last stamp, so of a
    hand-over, which is short, only that stamp's commit is lost; of the time without a leader it counts a part."""
    cluster, tails = started(f"a leader {down}", canary=down == "is killed")
    for ttl_ms in (9000, 15_000, 20_000):
        tails.hold(f"i{ttl_ms}", ttl_ms, renewals=0)
    for _ in range(20):
        if down == "resigns":
            cluster.resign(leader_of(cluster))
        else:
            cluster.kill(leader_of(cluster))
            cluster.world.run_for(1.3)
            cluster.calm()
            assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
        cluster.world.run_for(0.9)
    ended = all_ended(cluster, tails, within=60)
    for each in ended:
        assert each.late <= QUIET_SECONDS_MAX + each.leader_changes * COMMIT_SECONDS
    assert max(each.leader_changes for each in ended) >= 10


def test_a_dead_holder_goes_while_leaders_are_killed_every_half_ttl_for_ten_ttls() -> None:
    """Each lives through four elections within its TTL; live ones stay all the time."""
    ttl_ms = 4000
    cluster, tails = started("every half TTL", canary=True)
    tails.hold("alive", ttl_ms, renewals=1_000)
    for number in range(20):
        tails.hold(f"i{number}", ttl_ms, renewals=number % 3)
        cluster.kill(leader_of(cluster))
        cluster.world.run_for(1.3)
        cluster.calm()
        cluster.world.run_for(ttl_ms / 2000 - 1.3)
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
    assert tails.leases.pop("alive").ended_at is None
    ended = all_ended(cluster, tails, within=30)
    assert max(each.late for each in ended) <= LATE_SECONDS_MAX
    assert max(each.leader_changes for each in ended) >= 2


def test_a_leader_that_was_paused_for_five_ttls_ends_no_lease_that_was_renewed_elsewhere() -> None:
    cluster, tails = started("paused leader", canary=True)
    for number in range(6):
        tails.hold(f"i{number}", 6000, renewals=60)
    for _ in range(2):
        cluster.world.run_for(1.0)
        paused = leader_of(cluster)
        cluster.pause(paused)
        cluster.world.run_for(30.0)
        cluster.resume(paused)
        cluster.world.run_for(2.0)
        assert tails.ended() == []
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=5)
    ended = all_ended(cluster, tails, within=60)
    assert max(each.late for each in ended) <= LATE_SECONDS_MAX


@pytest.mark.parametrize("back", [False, True], ids=["silent for good", "back in time"])
def test_mass_silence_is_held_over_changes_of_leader_and_ends_by_itself(back: bool) -> None:
    """Sixty leases of a service of sixty come due at once. They are held on every node, whoever leads, and end when
    the hold is over, or go on when their holders are back."""
    cluster, tails = started(f"mass silence {back}", canary=True)
    door = Door(cluster)
    answers: list[Answer] = []
    names = tuple(f"m{number}" for number in range(60))
    order(door, cluster.members[0], Configure(HOLD), answers)
    order(door, cluster.members[0], register("mass", names, 2000), answers)
    assert cluster.world.run_until_true(lambda: len(answers) == 2, within=2)
    began = cluster.world.now

    def listed() -> set[int]:
        return {engine.registry.leases("mass") for engine in cluster.engines()}

    for fault in (kill, cut_off):
        cluster.world.run_for(2.0)
        fault(cluster, leader_of(cluster))
        cluster.world.run_for(1.0)
        cluster.calm()
        assert cluster.world.run_until_true(lambda: cluster.agreed_leader() is not None, within=10)
    assert cluster.world.run_until_true(
        lambda: all(engine.registry.protected_scope == "services" for engine in cluster.engines()), within=5
    )
    assert listed() == {60}
    if back:
        order(door, cluster.members[1], Renew(keys=tuple(key("mass", name) for name in names)), answers)
        assert cluster.world.run_until_true(lambda: not any(e.registry.protecting for e in cluster.engines()), within=3)
        assert isinstance(answers[2], Renewed)
        assert not answers[2].missing_keys
        assert listed() == {60}
    # Now (again) silent: due after the TTL, over after the hold.
    since = cluster.world.now if back else began
    assert cluster.world.run_until_true(lambda: listed() == {0}, within=60)
    took = cluster.world.now - since - tails.outages.between(since, cluster.world.now)
    assert 2.0 + HOLD.hold_ms / 1000 - 1.0 < took <= 2.0 + HOLD.hold_ms / 1000 + LATE_SECONDS_MAX
    assert cluster.world.run_until_true(lambda: not any(e.registry.protecting for e in cluster.engines()), within=3)


def test_protection_ends_also_when_it_has_outlived_the_last_lease() -> None:
    """The lease clock must go on although nobody is left whose lease could end."""
    cluster, _ = started("the last lease", canary=False)
    door = Door(cluster)
    order(door, cluster.members[0], Configure(HOLD), [])
    order(door, cluster.members[0], register("mass", tuple(f"m{number}" for number in range(60)), 2000), [])
    assert cluster.world.run_until_true(lambda: all(e.registry.protecting for e in cluster.engines()), within=5)
    until = 2.0 + HOLD.hold_ms / 1000 + LATE_SECONDS_MAX
    assert cluster.world.run_until_true(lambda: not any(e.registry.protecting for e in cluster.engines()), until)
    assert {engine.registry.lease_count for engine in cluster.engines()} == {0}


@pytest.mark.parametrize(("added_ms", "seen"), [(-50, "early"), (1200, "late")])
def test_the_tails_see_wrong_deadlines(monkeypatch: pytest.MonkeyPatch, added_ms: int, seen: str) -> None:
    monkeypatch.setattr(leases, "LEASE_STAMP_ERROR_MS", added_ms)
    cluster, tails = started("wrong", canary=True)
    for number in range(20):
        tails.hold(f"i{number}", 1000, renewals=1)
        cluster.world.run_for(0.037)
    assert cluster.world.run_until_true(lambda: len(tails.ended()) == len(tails.leases), within=10)
    if seen == "early":
        assert min(each.early for each in tails.ended()) < 0
    else:
        assert max(each.late for each in tails.ended()) > LATE_SECONDS_MAX
