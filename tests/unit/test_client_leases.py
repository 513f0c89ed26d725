"""The heartbeat plan in virtual time: no lease is late, none is forgotten, none ends silently."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from artemis.client.answers import FailedInstance
from artemis.client.errors import Refused
from artemis.client.leases import BATCH_INSTANCES_MAX, Batch, HeartbeatPlan, Lease, Notice
from artemis.model import Instance, InstanceKey

UNKNOWN = "Instance is not exising! Need re-register."


def lease_of(name: str = "i", ttl_ms: int = 20_000, region_id: str | None = None) -> Lease:
    return Lease(instance=Instance(service_id="s", instance_id=name, url="u", region_id=region_id), ttl_ms=ttl_ms)


def plan_with(*leases: Lease, seed: int = 1) -> HeartbeatPlan:
    plan = HeartbeatPlan(random.Random(seed))
    for lease in leases:
        plan.add(lease, 0.0)
    return plan


def unknown(lease: Lease) -> FailedInstance:
    return FailedInstance(key=lease.key, code="data-not-found", message=UNKNOWN)


def taken(plan: HeartbeatPlan, now: float) -> Batch:
    batch = plan.take(now)
    assert batch is not None
    return batch


class Run:
    """The loop of a shell, on virtual time. ``works(now)`` says whether a call that begins now is answered."""

    def __init__(self, plan: HeartbeatPlan, works: Callable[[float], bool], call_share: Callable[[], float]) -> None:
        self.plan = plan
        self.works = works
        self.call_share = call_share
        self.now = 0.0
        self.calls: list[tuple[float, Batch, bool]] = []
        self.notices: list[tuple[float, Notice]] = []

    def to(self, end: float) -> None:
        while self.now < end:
            self.notices += [(self.now, notice) for notice in self.plan.expire(self.now)]
            batch = self.plan.take(self.now)
            if batch is None:
                delay_s = self.plan.delay_s(self.now)
                assert delay_s is not None
                assert delay_s > 0 or self.plan.expire(self.now + 1e-9), "a loop that waits for nothing"
                self.now += delay_s
                continue
            began = self.now
            works = self.works(began)
            self.calls.append((began, batch, works))
            self.now += batch.budget_s * self.call_share()
            if works:
                self.notices += [(self.now, notice) for notice in self.plan.settle(batch, (), began, self.now)]
            else:
                self.plan.fail(batch, Refused("x", "y"), self.now)


ttls = st.lists(st.integers(1_000, 90_000), min_size=1, max_size=6)


@given(ttls, st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=60)
def test_each_lease_is_tried_at_least_every_third_of_its_ttl_whatever_fails(
    ttls_ms: list[int], seed: int, failing: float
) -> None:
    """Calls take up to their whole budget and fail by chance; leases of several TTLs share the loop."""
    chance = random.Random(seed)
    leases = [lease_of(str(number), ttl_ms) for number, ttl_ms in enumerate(ttls_ms)]
    plan = plan_with(*leases, seed=seed)
    run = Run(plan, lambda now: chance.random() >= failing, chance.random)
    end = 5 * max(ttls_ms) / 1000
    run.to(min(end, 120 * min(ttls_ms) / 1000))
    # A batch for another lease may be out when one is due; its budget is a sixth of the smallest TTL inside.
    slack = max((batch.budget_s for _, batch, _ in run.calls), default=0.0)
    for lease in leases:
        tries = [0.0] + [began for began, batch, _ in run.calls if lease in batch.leases]
        gaps = [after - before for before, after in pairwise([*tries, run.now])]
        assert max(gaps) <= lease.ttl_s / 3 + slack + 1e-6


@given(st.integers(1_000, 90_000), st.integers(0, 2**32), st.floats(0, 1), st.floats(0.0, 1.0))
def test_a_short_outage_delays_a_renewal_to_half_of_the_ttl_at_most(
    ttl_ms: int, seed: int, phase: float, share: float
) -> None:
    lease = lease_of(ttl_ms=ttl_ms)
    chance = random.Random(seed)
    ttl_s = lease.ttl_s
    outage_begins = ttl_s * (0.2 + 0.3 * phase)
    outage_ends = outage_begins + ttl_s / 24 * share
    plan = plan_with(lease, seed=seed)
    run = Run(plan, lambda now: not outage_begins <= now < outage_ends, lambda: 0.02 * chance.random())
    run.to(3 * ttl_s)
    renewed = [0.0] + [began for began, _, works in run.calls if works]
    # The last failing call may begin at the end of the outage and lasts up to 2 % of a sixth.
    assert max(after - before for before, after in pairwise(renewed)) <= ttl_s / 2 + ttl_s / 100
    assert run.notices == []
    assert lease.state == "active"


@given(st.integers(0, 2**32), st.floats(1.1, 6))
def test_a_long_outage_is_told_once_at_the_ttl_and_once_at_its_end(seed: int, ttls_long: float) -> None:
    lease = lease_of()
    chance = random.Random(seed)
    ended = 20 * ttls_long
    run = Run(plan_with(lease, seed=seed), lambda now: now >= ended, chance.random)
    run.to(ended + 20)
    (lost_at, lost), (_, back) = run.notices
    assert lost.is_loss
    assert not back.is_loss
    assert 20.0 <= lost_at <= 20.0 * (1 + 1 / 6) + 1e-6
    assert "20000 ms" in lost.text
    assert lease.state == "active"


def test_an_unknown_instance_is_registered_again_in_the_next_batch() -> None:
    known, gone = lease_of("known"), lease_of("gone")
    plan = plan_with(known, gone)
    batch = taken(plan, 7.0)
    assert (batch.kind, set(batch.leases)) == ("renew", {known, gone})
    notices = plan.settle(batch, [unknown(gone)], 7.0, 7.1)
    assert [notice.is_loss for notice in notices] == [True]
    assert (known.state, known.last_renewed, gone.state) == ("active", 7.0, "lost")
    assert plan.delay_s(7.1) == 0.0
    batch = taken(plan, 7.1)
    assert (batch.kind, batch.leases) == ("register", (gone,))
    (back,) = plan.settle(batch, (), 7.1, 7.2)
    assert "registered again" in back.text
    assert gone.last_renewed == 7.1


def test_a_node_that_fills_in_its_region_is_still_understood() -> None:
    lease = lease_of("I-1")
    plan = plan_with(lease)
    failure = FailedInstance(key=InstanceKey("lab", "s", "i-1"), code="data-not-found", message=UNKNOWN)
    plan.settle(taken(plan, 7.0), [failure], 7.0, 7.1)
    assert lease.state == "lost"


def test_the_same_instance_of_another_region_is_not_confused() -> None:
    here, there = lease_of("i", region_id="here"), lease_of("i", region_id="there")
    plan = plan_with(here, there)
    plan.settle(taken(plan, 7.0), [unknown(there)], 7.0, 7.1)
    assert (here.state, there.state) == ("active", "lost")


def test_a_failure_about_nobody_does_not_pass_for_success() -> None:
    for stray in (
        FailedInstance(key=InstanceKey("", "else", "where"), code="no-permission", message="?"),
        FailedInstance(key=None, code="no-permission", message="?"),
    ):
        lease = lease_of()
        plan = plan_with(lease)
        plan.settle(taken(plan, 7.0), [stray], 7.0, 7.1)
        assert lease.last_renewed == 0.0
        assert lease.last_error == "no-permission: ?"


def test_a_lease_closed_while_it_is_registered_again_is_unregistered_after_that() -> None:
    lease = lease_of()
    plan = plan_with(lease)
    plan.settle(taken(plan, 7.0), [unknown(lease)], 7.0, 7.1)
    batch = taken(plan, 7.1)
    assert [plan.close(lease), plan.close(lease)] == [True, False]
    orphans_before = plan.has_orphans
    assert plan.settle(batch, (), 7.1, 7.3) == []
    assert [orphans_before, plan.has_orphans] == [False, True]
    assert plan.delay_s(7.3) == 0.0
    batch = taken(plan, 7.3)
    assert (batch.kind, batch.leases) == ("unregister", (lease,))
    plan.fail(batch, Refused("x", "y"), 7.4)
    assert (plan.take(7.4), plan.delay_s(7.4)) == (None, None), "its TTL ends it"


def test_an_unknown_outcome_of_that_registration_counts_too() -> None:
    lease = lease_of()
    plan = plan_with(lease)
    plan.settle(taken(plan, 7.0), [unknown(lease)], 7.0, 7.1)
    batch = taken(plan, 7.1)
    plan.close_all()
    plan.fail(batch, Refused("x", "y"), 7.3)
    assert taken(plan, 7.3).kind == "unregister"


def test_a_successor_is_registered_again_when_its_predecessor_was_on_the_way() -> None:
    """The registry may have ordered the old registration last: it holds the old data under the new owner's name."""
    old, new = lease_of(), lease_of()
    plan = plan_with(old)
    plan.settle(taken(plan, 7.0), [unknown(old)], 7.0, 7.1)
    batch = taken(plan, 7.1)
    plan.add(new, 7.2)
    assert old.state == "closed"
    plan.settle(batch, (), 7.1, 7.3)
    batch = taken(plan, 7.3)
    assert (batch.kind, batch.leases) == ("register", (new,))


def test_a_renewal_that_returns_after_close_changes_nothing() -> None:
    lease = lease_of()
    plan = plan_with(lease)
    batch = taken(plan, 7.0)
    plan.close(lease)
    assert plan.settle(batch, [unknown(lease)], 7.0, 7.1) == []
    assert (lease.state, plan.take(100.0), plan.delay_s(100.0)) == ("closed", None, None)


def test_large_fleets_are_renewed_in_bounded_requests() -> None:
    leases = [lease_of(str(number)) for number in range(2 * BATCH_INSTANCES_MAX + 1)]
    plan = plan_with(*leases)
    seen: list[Lease] = []
    for expected in (BATCH_INSTANCES_MAX, BATCH_INSTANCES_MAX, 1):
        batch = taken(plan, 7.0)
        assert len(batch.leases) == expected
        seen += batch.leases
        plan.settle(batch, (), 7.0, 7.0)
    assert set(seen) == set(leases)
    assert plan.take(7.0) is None


def test_a_request_that_is_too_large_is_cut_in_half_at_once() -> None:
    """Nodes bound the instances of a request and its bytes; who repeated the same request would lose every lease."""
    leases = [lease_of(str(number)) for number in range(12)]
    plan = plan_with(*leases)
    too_large = Refused("http-413", "instances: at most 5 are allowed in one request")
    sizes = []
    renewed: set[Lease] = set()
    while (batch := plan.take(7.0)) is not None:
        sizes.append(len(batch.leases))
        if len(batch.leases) > 5:
            plan.fail(batch, too_large, 7.0)
        else:
            plan.settle(batch, (), 7.0, 7.0)
            renewed |= set(batch.leases)
    assert (sizes, renewed) == ([12, 6, 3, 3, 3, 3], set(leases))
    assert [len(taken(plan, 14.0).leases)] == [3], "what nodes take is remembered"


def test_one_instance_that_is_too_large_is_tried_again_later() -> None:
    plan = plan_with(lease_of())
    plan.fail(taken(plan, 7.0), Refused("http-413", "body: at most 10 bytes"), 7.0)
    assert plan.take(7.0) is None


def test_a_slow_lease_does_not_travel_with_every_beat_of_a_fast_one() -> None:
    fast, slow = lease_of("fast", 3_000), lease_of("slow", 90_000)
    run = Run(plan_with(fast, slow), lambda now: True, lambda: 0.0)
    run.to(90.0)
    beats = {lease: sum(lease in batch.leases for _, batch, _ in run.calls) for lease in (fast, slow)}
    assert 90 <= beats[fast] <= 115
    assert 3 <= beats[slow] <= 7


def test_clients_do_not_beat_in_step() -> None:
    firsts = {plan_with(lease_of(), seed=seed).delay_s(0.0) for seed in range(20)}
    assert len(firsts) == 20


def test_a_loss_is_told_once_however_often_it_shows() -> None:
    lease = lease_of()
    plan = plan_with(lease)
    plan.fail(taken(plan, 7.0), Refused("x", "y"), 19.9)
    told = plan.expire(20.0)
    told += plan.expire(20.1)
    told += plan.settle(taken(plan, 24.0), [unknown(lease)], 24.0, 24.1)
    assert [notice.is_loss for notice in told] == [True]
    assert taken(plan, 24.1).kind == "register"
