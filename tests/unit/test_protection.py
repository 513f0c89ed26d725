"""Protection against mass eviction: what brings it, what it holds, and that it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from artemis import snapshot
from artemis.commands import Configure, Renew
from artemis.errors import DataDamaged
from artemis.leases import LEASE_STAMP_ERROR_MS
from artemis.model import Instance
from artemis.outcomes import Configured, Renewed
from artemis.protection import CHECK_MS, ProtectionSettings
from artemis.registry import Registry, StateLimits
from tests.support.replica import Replica, frozen_bytes, instance, register, through_bytes, unregister

TTL_MS = 20_000
DUE_MS = TTL_MS + LEASE_STAMP_ERROR_MS
DEFAULT = ProtectionSettings()
STEP_MS = 250


def fleet(service_id: str, size: int) -> list[Instance]:
    return [instance(service_id, f"{service_id}-{number}") for number in range(size)]


def fallen_silent(*services: tuple[str, int], at_ms: int = DUE_MS, limits: StateLimits | None = None) -> Replica:
    """Everybody registers at 0 and is never heard of again; the clock stands at ``at_ms``."""
    replica = Replica(limits)
    for service_id, size in services:
        replica.register(*fleet(service_id, size), ttl_ms=TTL_MS)
    replica.step(at_ms)
    return replica


def walk(replica: Replica, until_ms: int, each: Callable[[], None] = lambda: None) -> None:
    while replica.clock_ms < until_ms:
        replica.step(min(until_ms, replica.clock_ms + STEP_MS))
        each()


@pytest.mark.parametrize(("dying", "living"), [(1, 0), (49, 0), (1, 500), (49, 10)])
def test_ordinary_deaths_end_at_their_deadlines(dying: int, living: int) -> None:
    replica = Replica()
    replica.register(*fleet("dying", dying), ttl_ms=TTL_MS)
    replica.register(*fleet("living", living), ttl_ms=10 * TTL_MS)
    replica.step(DUE_MS - 1)
    assert replica.registry.instance_count == dying + living
    replica.step(DUE_MS)
    assert replica.registry.instance_count == living
    assert not replica.registry.protecting


@pytest.mark.parametrize(("dying", "held"), [(75, 0), (76, 76)])
def test_a_share_is_too_much_when_it_is_more_than_the_threshold(dying: int, held: int) -> None:
    replica = Replica()
    replica.register(*fleet("s", 500)[:dying], ttl_ms=TTL_MS)
    replica.register(*fleet("s", 500)[dying:], ttl_ms=10 * TTL_MS)
    replica.step(DUE_MS)
    assert replica.registry.held("s") == held


def test_a_service_that_falls_silent_at_once_is_held_and_stays_listed() -> None:
    replica = fallen_silent(("orders", 50))
    view = replica.registry.protection
    assert [(each.service_id, each.since_ms, each.held) for each in view.services] == [("orders", DUE_MS, 50)]
    assert (view.since_ms, view.held, view.active) == (None, 50, True)
    assert replica.registry.instance_count == 50
    assert replica.registry.lease_stats.held == 50


def test_many_small_services_bring_the_whole_registry_under_protection() -> None:
    replica = fallen_silent(*((f"s{number}", 5) for number in range(40)))
    assert replica.registry.protection.since_ms == DUE_MS
    assert replica.registry.protection.services == ()
    assert replica.registry.instance_count == 200


def test_a_protected_service_does_not_hold_up_the_others() -> None:
    replica = fallen_silent(("large", 500), ("small", 20))
    assert [each.service_id for each in replica.registry.protection.services] == ["large"]
    assert replica.registry.protection.since_ms is None
    assert replica.registry.service("small") is None
    assert replica.registry.leases("large") == 500


def test_deaths_that_come_one_after_another_count_together_within_the_window() -> None:
    replica = Replica()
    for number, each in enumerate(fleet("s", 1_000)):
        replica.clock_ms = number * 5  # all due within 5 s
        replica.propose(register(each, ttl_ms=TTL_MS))
    walk(replica, DUE_MS + 5_000)
    assert 1_000 - 150 <= replica.registry.instance_count < 1_000 - 100
    assert replica.registry.lease_stats.evictions <= 150


def test_the_same_deaths_over_a_longer_time_end_at_their_deadlines() -> None:
    replica = Replica()
    for number, each in enumerate(fleet("s", 300)):
        replica.clock_ms = number * 250  # 40 in any window of 10 s
        replica.propose(register(each, ttl_ms=100_000))
    walk(replica, 300 * 250 + 100_000 + LEASE_STAMP_ERROR_MS)
    assert replica.registry.instance_count == 0
    assert replica.registry.lease_stats.held == 0


def test_a_renewal_of_a_held_lease_counts_and_ends_protection() -> None:
    replica = Replica()
    leases = replica.register(*fleet("s", 60), ttl_ms=TTL_MS)
    replica.step(DUE_MS)
    assert replica.propose(Renew(lease_ids=leases[:30])) == Renewed(replica.registry.revision)
    assert replica.registry.held("s") == 30
    replica.propose(Renew(lease_ids=leases[30:]))
    assert replica.registry.protection.active
    replica.step(DUE_MS + CHECK_MS)
    assert not replica.registry.protecting
    walk(replica, 2 * DUE_MS - 1)
    assert replica.registry.instance_count == 60
    assert replica.registry.lease_stats.evictions == 0


def test_who_is_still_silent_a_window_after_the_others_came_back_goes() -> None:
    replica = Replica()
    leases = replica.register(*fleet("s", 100), ttl_ms=TTL_MS)
    replica.step(DUE_MS)

    def beat() -> None:
        replica.propose(Renew(lease_ids=leases[:90]))

    beat()
    walk(replica, DUE_MS + DEFAULT.window_ms, beat)
    assert replica.registry.instance_count == 100
    walk(replica, DUE_MS + DEFAULT.window_ms + 2 * CHECK_MS + STEP_MS, beat)
    assert replica.registry.instance_count == 90
    assert not replica.registry.protecting


def test_nobody_is_held_longer_than_the_hold_after_its_own_deadline() -> None:
    replica = fallen_silent(("s", 50))
    replica.register(*fleet("t", 60), ttl_ms=TTL_MS)  # 20 s younger
    end_ms = DUE_MS + DEFAULT.hold_ms
    walk(replica, end_ms - 1)
    assert replica.registry.instance_count == 110
    replica.step(end_ms)
    assert (replica.registry.leases("s"), replica.registry.leases("t")) == (0, 60)
    walk(replica, end_ms + DUE_MS + CHECK_MS)
    assert replica.registry.instance_count == 0
    assert not replica.registry.protecting, "what brought the protection is over"


def test_a_service_that_was_scaled_down_by_killing_is_unprotected_once_the_hold_is_over() -> None:
    """Nothing remembers that there were a thousand: the hundred that are left are judged by themselves."""
    replica = Replica()
    leases = replica.register(*fleet("s", 1_000), ttl_ms=TTL_MS)

    def beat() -> None:
        if replica.clock_ms % 5_000 == 0:
            replica.propose(Renew(lease_ids=leases[:100]))

    walk(replica, DUE_MS + 800, beat)
    assert replica.registry.held("s") == 900
    walk(replica, DUE_MS + DEFAULT.hold_ms + 2 * CHECK_MS + 800, beat)
    assert replica.registry.leases("s") == 100
    assert not replica.registry.protecting
    walk(replica, replica.clock_ms + 3 * DUE_MS)
    assert replica.registry.held("s") == 100, "their silence is a mass again"


def test_protection_ends_although_instances_die_now_and_then() -> None:
    """One death in 15 s: never more held than a scope may lose, so a look finds it calm for a window."""
    replica = fallen_silent(("s", 60))
    number = 0

    def die_now_and_then() -> None:
        nonlocal number
        number += 1
        if number % 60 == 0:
            replica.propose(register(instance("s", f"late-{number}"), ttl_ms=1_000))

    walk(replica, DUE_MS + DEFAULT.hold_ms + DEFAULT.window_ms + 2 * CHECK_MS, die_now_and_then)
    assert not replica.registry.protecting


def test_unregistering_works_and_does_not_count() -> None:
    replica = fallen_silent(("s", 60))
    replica.propose(unregister(*fleet("s", 60)[:45]))
    assert replica.registry.leases("s") == 15
    assert replica.registry.held("s") == 15
    other = Replica()
    other.register(*fleet("s", 100), ttl_ms=TTL_MS)
    other.propose(unregister(*fleet("s", 100)[:90]))
    other.step(DUE_MS)
    assert other.registry.instance_count == 0, "ten that die of the ten that are left are no mass"


def test_registering_anew_gives_an_ordinary_lease() -> None:
    replica = fallen_silent(("s", 60))
    (lease,) = replica.register(fleet("s", 60)[0], ttl_ms=TTL_MS)
    assert replica.registry.held("s") == 59
    assert replica.registry.lease_deadline_ms(lease) == 2 * DUE_MS


def test_switched_off_it_holds_nothing_and_lets_go_what_it_held() -> None:
    replica = fallen_silent(("s", 60))
    assert replica.propose(Configure(ProtectionSettings(enabled=False))) == Configured(60)
    assert replica.registry.instance_count == 0
    assert not replica.registry.protecting
    replica.register(*fleet("t", 60), ttl_ms=TTL_MS)
    replica.step(replica.clock_ms + DUE_MS)
    assert replica.registry.instance_count == 0


def test_an_entry_ends_a_bounded_number_and_the_next_goes_on_in_order() -> None:
    replica = Replica(StateLimits(evictions_max=20))
    replica.propose(Configure(ProtectionSettings(enabled=False)))
    replica.register(*fleet("s", 50), ttl_ms=TTL_MS)
    for left in (30, 10, 0):
        assert replica.registry.leases_may_be_due == (left < 30)
        replica.step(DUE_MS)
        assert replica.registry.instance_count == left
    found = replica.registry.changes_since(50)
    order = [change.instance.instance_id for change in found]  # type: ignore[union-attr]
    assert order == [f"s-{number}" for number in range(50)]
    assert not replica.registry.leases_may_be_due


def test_holding_is_bounded_per_entry_too() -> None:
    replica = fallen_silent(("s", 500), limits=StateLimits(evictions_max=60))
    assert replica.registry.held("s") == 0, "60 of 500 are within what it may lose"
    walk(replica, DUE_MS + 2 * STEP_MS)
    assert (replica.registry.leases("s"), replica.registry.held("s")) == (440, 120)


def test_a_restored_replica_goes_on_like_the_one_it_was_made_of() -> None:
    replica = fallen_silent(("s", 60), ("t", 200))
    replica.propose(Renew(lease_ids=(1, 2, 3)))
    restored = snapshot.decode(frozen_bytes(replica.registry))
    assert restored == replica.registry
    assert restored.protection == replica.registry.protection
    clock_ms = replica.clock_ms
    while clock_ms < DUE_MS + DEFAULT.hold_ms + 2 * DUE_MS:
        clock_ms += 1_777
        index = restored.applied_index + 1
        restored.apply(index, through_bytes(clock_ms))
        replica.registry.apply(index, through_bytes(clock_ms))
        assert frozen_bytes(restored) == frozen_bytes(replica.registry)
    assert restored.instance_count == 0


def test_the_first_format_of_snapshots_is_refused_by_name() -> None:
    data = bytearray(frozen_bytes(Registry()))
    data[7] = 1
    with pytest.raises(DataDamaged, match="format 1, this node reads 2"):
        snapshot.decode(bytes(data))


@pytest.mark.parametrize(
    ("field", "value"),
    [("share_percent", 0), ("share_percent", 101), ("leases_min", 0), ("window_ms", 999), ("hold_ms", 999)],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        ProtectionSettings(**{field: value})  # type: ignore[arg-type]
