"""Planted bugs in protection against mass eviction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from artemis.commands import Unregister
from artemis.held import HeldLeases
from artemis.leases import LeaseTable
from artemis.outcomes import Unregistered
from artemis.protection import Protection, ProtectionSettings, Scope
from artemis.registry import Registry
from tests.simulation.mutant import Named, mutant

TESTS = "unit/test_protection.py::"


@mutant("P5", "protection.Protection.leave", Named(TESTS + "test_a_renewal_of_a_held_lease_counts_and_ends_protection"))
def never_leave_protection(patch: pytest.MonkeyPatch) -> None:
    def stay(self: Protection, clock_ms: int, holding: Iterable[str]) -> list[str]:
        return []

    patch.setattr(Protection, "leave", stay)


@mutant("P5", "held.HeldLeases.due", Named(TESTS + "test_nobody_is_held_longer_than_the_hold_after_its_own_deadline"))
def hold_for_ever(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: HeldLeases, clock_ms: int, most: int) -> list[int]:
        return []

    patch.setattr(HeldLeases, "due", nothing)


@mutant("P5", "protection.ProtectionSettings.allowance", Named(TESTS + "test_ordinary_deaths_end_at_their_deadlines"))
def protect_without_a_threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProtectionSettings, "allowance", lambda self, leases: 0)


@mutant(
    "P5",
    "protection.ProtectionSettings.allowance",
    Named(TESTS + "test_a_service_that_falls_silent_at_once_is_held_and_stays_listed"),
)
def never_protect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProtectionSettings, "allowance", lambda self, leases: leases)


@mutant("P2", "registry.Registry._unregister", Named(TESTS + "test_unregistering_works_and_does_not_count"))
def refuse_to_unregister_what_is_protected(patch: pytest.MonkeyPatch) -> None:
    guarded = Registry._unregister

    def blocked(self: Registry, command: Unregister) -> Unregistered:
        keys = tuple(key for key in command.keys if not self._protection.protects(key.service_id))
        return guarded(self, Unregister(keys))

    patch.setattr(Registry, "_unregister", blocked)


@mutant("P4", "leases.LeaseTable.renew", Named(TESTS + "test_a_renewal_of_a_held_lease_counts_and_ends_protection"))
def ignore_renewals_of_held_leases(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseTable.renew

    def deaf(self: LeaseTable, lease_id: int, clock_ms: int) -> bool:
        return lease_id in self._held_until_ms or guarded(self, lease_id, clock_ms)

    patch.setattr(LeaseTable, "renew", deaf)


@mutant(
    "P5",
    "protection.Protection._judged",
    Named(TESTS + "test_who_is_still_silent_a_window_after_the_others_came_back_goes"),
)
def let_go_at_the_first_calm_look(patch: pytest.MonkeyPatch) -> None:
    """Who beats every five seconds is back within a window, but not within a second of the others."""
    guarded = Protection._judged

    def hasty(self: Protection, scope: Scope, held: int, leases: int, clock_ms: int) -> Scope | None:
        after = guarded(self, scope, held, leases, clock_ms)
        return None if after is not None and after.calm_since_ms is not None else after

    patch.setattr(Protection, "_judged", hasty)


@mutant(
    "P5",
    "protection.Protection.judge",
    Named(TESTS + "test_a_protected_service_does_not_hold_up_the_others"),
)
def protect_everything_for_the_sake_of_one_service(patch: pytest.MonkeyPatch) -> None:
    guarded = Protection.judge

    def broad(self: Protection, due: Mapping[str, int], clock_ms: int) -> None:
        guarded(self, due, clock_ms)
        if self._services and self._whole is None:
            self._enter(None, clock_ms)

    patch.setattr(Protection, "judge", broad)


@mutant(
    "P5",
    "protection.Protection.on_ended",
    Named(TESTS + "test_deaths_that_come_one_after_another_count_together_within_the_window"),
)
def forget_what_a_scope_has_lost(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: Protection, ended: Mapping[str, int], clock_ms: int) -> None:
        return

    patch.setattr(Protection, "on_ended", nothing)


@mutant("P6", "registry.Registry.thaw", Named(TESTS + "test_a_restored_replica_goes_on_like_the_one_it_was_made_of"))
def forget_what_is_held_at_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseTable.__init__
    patch.setattr(
        LeaseTable, "__init__", lambda self, grants=None, deadlines=None, held=None: guarded(self, grants, deadlines)
    )


@mutant(
    "P5",
    "registry.Registry.clock_needed",
    Named("simulation/test_lease_tails.py::test_protection_ends_also_when_it_has_outlived_the_last_lease"),
)
def stop_the_clock_with_the_last_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Registry, "clock_needed", property(lambda self: self.lease_count > 0))
