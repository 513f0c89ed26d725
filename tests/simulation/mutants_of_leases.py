"""Planted bugs in the lease clock and in leases."""

from __future__ import annotations

from typing import Any

import pytest

from artemis import leases
from artemis.commands import Entry
from artemis.consensus import leaseclock
from artemis.consensus.leaseclock import LeaseClock
from artemis.leases import LeaseTable
from artemis.registry import Registry
from tests.simulation.mutant import Named, Seeds, faults, mutant

CLOCK = "moves the lease clock"
EARLY = "its lease can have ended|too early"

# the lease clock


@mutant("P4", "leaseclock.LeaseClock.due_ms", Seeds(faults("pause", length=0.8), CLOCK, known=4))
def count_the_pause_of_a_leader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leaseclock, "STEP_MAX_MS", 1 << 40)


@mutant("P4", "leaseclock.LeaseClock.due_ms", Seeds(faults("isolate", "slow-disk"), CLOCK))
def count_time_without_a_commit(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.on_applied

    def generous(self: LeaseClock, index: int, now: float) -> None:
        counted_to = self._counted_to
        guarded(self, index, now)
        self._counted_to = counted_to

    patch.setattr(LeaseClock, "on_applied", generous)


@mutant("P4", "leaseclock.LeaseClock.due_ms", Seeds(faults("isolate", "slow-disk"), CLOCK))
def step_while_a_step_is_uncommitted(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.due_ms

    def impatient(self: LeaseClock, now: float) -> int:
        self._step_index = None
        return guarded(self, now)

    patch.setattr(LeaseClock, "due_ms", impatient)


@mutant(
    "P4",
    "leases.LEASE_STAMP_ERROR_MS",
    Named("unit/test_leases.py::test_a_renewal_under_an_old_stamp_is_not_cut_short"),
)
def deadlines_without_the_error_of_stamps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "LEASE_STAMP_ERROR_MS", 0)


@mutant("P4", "leadership.Leadership.begin", Seeds(faults("kill"), EARLY + "|" + CLOCK))
def shorten_leases_at_each_failover(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.__init__
    patch.setattr(LeaseClock, "__init__", lambda self, clock_ms, at, now: guarded(self, clock_ms + 900, at, now))


@mutant(
    "P5",
    "leaseclock.LeaseClock.__init__",
    Named("simulation/test_lease_tails.py::test_a_change_of_leader_costs_the_commit_of_one_stamp_and_no_step"),
)
def lose_the_time_since_the_last_stamp_at_each_failover(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.__init__
    patch.setattr(LeaseClock, "__init__", lambda self, clock_ms, at, now: guarded(self, clock_ms, now, now))


@mutant(
    "P4",
    "leaseclock.LeaseClock.__init__",
    Named(
        "unit/test_leaseclock.py::test_a_new_leader_counts_no_more_of_the_time_without_a_leader_than_a_stamp_may_err"
    ),
)
def count_all_time_since_the_last_stamp_at_a_failover(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.__init__

    def generous(self: LeaseClock, clock_ms: int, at: float, now: float) -> None:
        guarded(self, clock_ms, at, now)
        self._counted_to = at

    patch.setattr(LeaseClock, "__init__", generous)


@mutant(
    "P4",
    "leaseclock.LeaseClock.__init__",
    Named("unit/test_leaseclock.py::test_no_lease_ends_early_over_any_number_of_leaders"),
)
def count_the_error_of_a_stamp_at_each_failover_whatever_has_passed(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseClock.__init__

    def generous(self: LeaseClock, clock_ms: int, at: float, now: float) -> None:
        guarded(self, clock_ms, at, now)
        self._counted_to = now - leases.LEASE_STAMP_ERROR_MS / 1000

    patch.setattr(LeaseClock, "__init__", generous)


@mutant("P4", "leadership.Leadership.advance", Seeds(faults("kill"), "still has instances whose owners died"))
def never_step_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseClock, "stamp", lambda self, now, index: self._stamp_ms)


# leases


@mutant(
    "P4",
    "registry.Registry.apply",
    Named("unit/test_leases.py::test_a_renewal_in_the_entry_that_reaches_the_deadline_wins"),
)
def evict_before_the_renewals_of_an_entry(patch: pytest.MonkeyPatch) -> None:
    guarded = Registry.apply

    def eager(self: Registry, index: int, entry: Entry) -> Any:
        self.clock_ms = max(self.clock_ms, entry.clock_ms)
        self._end_leases()
        return guarded(self, index, entry)

    patch.setattr(Registry, "apply", eager)


@mutant("P4", "leases.LeaseTable.renew", Named("unit/test_leases.py::test_an_ended_lease_cannot_be_renewed"))
def renew_what_has_ended(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseTable.renew
    patch.setattr(LeaseTable, "renew", lambda self, lease_id, clock_ms: guarded(self, lease_id, clock_ms) or True)


@mutant(
    "P4",
    "registry.Registry._register",
    Named("unit/test_registry.py::test_a_renewal_of_an_earlier_epoch_is_missing_and_does_not_help_the_new_one"),
)
def let_an_old_lease_renew_its_successor(patch: pytest.MonkeyPatch) -> None:
    guarded = LeaseTable.renew

    def any_epoch(self: LeaseTable, lease_id: int, clock_ms: int) -> bool:
        newest = max(self.lease_ids(), default=0)
        return guarded(self, lease_id, clock_ms) or (lease_id < newest and guarded(self, newest, clock_ms))

    patch.setattr(LeaseTable, "renew", any_epoch)
