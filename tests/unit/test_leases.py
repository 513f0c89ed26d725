"""When a lease ends, and what that costs."""

from __future__ import annotations

from artemis.commands import Renew
from artemis.leases import DEADLINE_MS_MAX, LEASE_STAMP_ERROR_MS, LeaseTable, LeaseTerm
from artemis.model import Change, InstanceKey, key_of
from artemis.outcomes import Renewed
from tests.support.replica import Replica, instance, register, renew_keys

TTL_MS = 1_000


def key(name: str) -> InstanceKey:
    return InstanceKey("lab", "orders", name)


def test_a_lease_stands_until_its_deadline_and_ends_exactly_at_it() -> None:
    replica = Replica()
    replica.step(10_000)
    replica.register(instance(), ttl_ms=TTL_MS)
    deadline_ms = 10_000 + TTL_MS + LEASE_STAMP_ERROR_MS
    replica.step(deadline_ms - 1)
    assert replica.registry.find(key_of(instance())) is not None
    replica.step(deadline_ms)
    assert replica.registry.find(key_of(instance())) is None
    assert replica.registry.lease_count == 0


def test_a_renewal_under_an_old_stamp_is_not_cut_short() -> None:
    # The renewal began at true lease time 10150 while the step to 10000 was in flight, so its entry says 10000.
    replica = Replica()
    replica.step(9_500)
    (lease,) = replica.register(instance(), ttl_ms=TTL_MS)
    replica.step(10_000)
    replica.propose(Renew(lease_ids=(lease,)))
    replica.step(10_150 + TTL_MS - 1)
    assert replica.registry.find(key_of(instance())) is not None


def test_a_renewal_in_the_entry_that_reaches_the_deadline_wins() -> None:
    replica = Replica()
    (lease,) = replica.register(instance(), ttl_ms=TTL_MS)
    replica.clock_ms = TTL_MS + LEASE_STAMP_ERROR_MS
    assert replica.propose(Renew(lease_ids=(lease,))) == Renewed(revision=1)
    assert replica.registry.find(key_of(instance())) is not None
    assert replica.registry.revision == 1


def test_an_ended_lease_cannot_be_renewed() -> None:
    replica = Replica()
    (lease,) = replica.register(instance(), ttl_ms=TTL_MS)
    replica.step(TTL_MS + LEASE_STAMP_ERROR_MS)
    outcomes = replica.together(Renew(lease_ids=(lease,)), renew_keys(key_of(instance())))
    assert outcomes == [Renewed(revision=2, missing_leases=(0,)), Renewed(revision=2, missing_keys=(0,))]


def test_a_clock_that_goes_back_ends_nothing_and_shortens_nothing() -> None:
    replica = Replica()
    replica.step(50_000)
    (lease,) = replica.register(instance(), ttl_ms=TTL_MS)
    replica.clock_ms = 0
    replica.propose(Renew(lease_ids=(lease,)))
    assert replica.registry.lease_deadline_ms(lease) == 50_000 + TTL_MS + LEASE_STAMP_ERROR_MS


def test_evictions_go_by_deadline_then_lease_id_each_with_its_own_revision() -> None:
    replica = Replica()
    late, first, second, early = (instance(instance_id=each) for each in ("late", "first", "second", "early"))
    replica.propose(register(late, ttl_ms=3_000))
    replica.propose(register(first, second, ttl_ms=2_000))
    replica.propose(register(early, ttl_ms=1_000))
    replica.step(10_000)
    found = replica.registry.changes_since(4)
    assert [change for change in found if isinstance(change, Change)] == [
        Change(5, "delete", early, 10_000),
        Change(6, "delete", first, 10_000),
        Change(7, "delete", second, 10_000),
        Change(8, "delete", late, 10_000),
    ]


def test_a_renewed_lease_is_evicted_by_its_new_deadline_not_by_its_queued_time() -> None:
    replica = Replica()
    renewed, silent = instance(instance_id="renewed"), instance(instance_id="silent")
    (lease,) = replica.register(renewed, ttl_ms=1_000)
    replica.register(silent, ttl_ms=1_500)
    replica.step(1_000)
    replica.propose(Renew(lease_ids=(lease,)))
    replica.step(10_000)
    found = replica.registry.changes_since(2)
    assert [change.instance for change in found if isinstance(change, Change)] == [silent, renewed]


def test_a_registration_whose_ttl_is_over_at_once_leaves_two_changes() -> None:
    replica = Replica()
    replica.register(instance(), ttl_ms=-10_000)
    assert replica.registry.instance_count == 0
    assert replica.registry.revision == 2


def test_deadlines_stop_where_msgpack_does() -> None:
    table = LeaseTable()
    table.grant(1, key("a"), 2**64 - 1, 2**64 - 1)
    assert table.deadline_ms(1) == DEADLINE_MS_MAX


def test_a_lease_that_is_unknown_has_no_deadline_and_cannot_be_renewed() -> None:
    table = LeaseTable()
    assert table.deadline_ms(1) is None
    assert not table.renew(1, 0)
    assert len(table) == 0


def test_a_step_pays_for_queued_times_that_came_up_and_not_for_all_leases() -> None:
    table = LeaseTable()
    grants = {lease_id: table.grant(lease_id, key(str(lease_id)), 1_000 + lease_id, 0) for lease_id in range(1_000)}
    counted = CountedDeadlines(table.deadlines())
    table = LeaseTable(grants, counted)
    counted.reads = 0
    assert len(table.take_due(1_000 + LEASE_STAMP_ERROR_MS + 4, 1_000)) == 5
    assert counted.reads == 5
    assert table.take_due(1_000 + LEASE_STAMP_ERROR_MS + 4, 1_000) == []
    assert counted.reads == 5


def test_a_renewal_does_not_touch_the_queue() -> None:
    table = LeaseTable()
    table.grant(1, key("a"), 1_000, 0)
    for clock_ms in range(500):
        assert table.renew(1, clock_ms)
    assert table.queue_length == 1
    assert table.take_due(1_200, 10) == []
    assert table.queue_length == 1
    assert table.take_due(1_699, 10) == [(1, key("a"))]
    assert table.queue_length == 0


def test_registrations_without_end_do_not_grow_the_queue_without_end() -> None:
    table = LeaseTable()
    for lease_id in range(20_000):
        table.grant(lease_id, key("a"), 3_600_000, 0)
        if lease_id:
            table.drop(lease_id - 1)
    assert len(table) == 1
    assert table.queue_length < 2_000
    assert table.take_due(2**62, 10) == [(19_999, key("a"))]


class CountedDeadlines(dict[int, int]):
    """Counts how often a lease is looked at."""

    reads = 0

    def get(self, key: int, default: int | None = None) -> int | None:  # type: ignore[override]
        self.reads += 1
        return super().get(key, default)


def test_the_term_of_a_lease_says_when_it_was_renewed_last() -> None:
    replica = Replica()
    replica.step(10_000)
    (lease,) = replica.register(instance(), ttl_ms=TTL_MS)
    assert replica.registry.lease(lease) == LeaseTerm(ttl_ms=TTL_MS, granted_ms=10_000, renewed_ms=10_000)
    replica.step(10_600)
    replica.propose(Renew(lease_ids=(lease,)))
    assert replica.registry.lease(lease) == LeaseTerm(ttl_ms=TTL_MS, granted_ms=10_000, renewed_ms=10_600)
    replica.step(10_600 + TTL_MS + LEASE_STAMP_ERROR_MS)
    assert replica.registry.lease(lease) is None


def test_leases_that_live_and_those_that_are_held_outlast_a_sweep_of_the_queue() -> None:
    table = LeaseTable()
    live = range(100_000, 100_050)
    for lease_id in live:
        table.grant(lease_id, key(str(lease_id)), lease_id, 0)
    table.renew(live[0], 70_000)
    table.grant(1, key("held"), 1, 0)
    assert table.take_due(1 + LEASE_STAMP_ERROR_MS, 10) == [(1, key("held"))]
    table.hold(1, 10**9)
    for lease_id in range(2, 5_000):
        table.grant(lease_id, key("a"), 3_600_000, 0)
        table.drop(lease_id)
    assert table.queue_length < 3_000
    due = [lease_id for lease_id, _ in table.take_due(2**62, 10_000)]
    assert due == [*live[1:], live[0]]
    assert list(table.held.due(2**62, 10)) == [1]
