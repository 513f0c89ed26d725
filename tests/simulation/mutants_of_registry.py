"""Planted bugs in proposals, reads, leases and the state machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from artemis import leases, registry
from artemis.changes import ChangeRing
from artemis.commands import Condition, Entry, Proposal, Register
from artemis.consensus import inbox, leaseclock
from artemis.consensus.core import RaftCore
from artemis.consensus.digests import StateDigests
from artemis.consensus.engine import Engine
from artemis.consensus.freshness import Freshness, TimeProof
from artemis.consensus.inbox import Recipient
from artemis.consensus.leaseclock import LeaseClock
from artemis.consensus.proposals import Session
from artemis.consensus.reads import Confirmations, ReadBarriers
from artemis.consensus.wire import Forward, Message, ReadProbeReply
from artemis.leases import LeaseTable
from artemis.model import Record, key_of
from artemis.outcomes import Registered
from artemis.registry import Registry
from artemis.sessions import RequestWindow
from tests.simulation.mutant import Named, Seeds, faults, mutant

STALE = "is older than|lacks|is gone before|after #"
TWICE = "applied more than once|after #|did not find"
CLOCK = "moves the lease clock"
EARLY = "its lease can have ended|too early"

# reads


@mutant("G4", "reads.Confirmations", Seeds(faults("isolate", "pause", length=2.0, think=0.05), STALE, known=10))
def read_without_a_quorum(patch: pytest.MonkeyPatch) -> None:
    def confirm_at_once(self: Confirmations, commit_index: int, now: float) -> None:
        callbacks, self._waiting = self._waiting, []
        for callback in callbacks:
            callback(commit_index)

    patch.setattr(Confirmations, "start", confirm_at_once)


@mutant("G4", "core.RaftCore.leader_ready", Seeds(faults("kill", every=1.0, latency_max=0.05), STALE, known=11))
def read_before_the_first_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftCore, "leader_ready", property(lambda self: self.role == "leader"))


@mutant(
    "G4",
    "inbox.receive (ReadProbeReply)",
    Named("simulation/test_worst_moments.py::test_an_answer_to_an_earlier_leadership_confirms_no_read"),
)
def count_answers_to_an_earlier_leadership(patch: pytest.MonkeyPatch) -> None:
    guarded = inbox.receive

    def trusting(to: Recipient, peer: str, message: Message) -> None:
        if isinstance(message, ReadProbeReply):
            message = msgspec.structs.replace(message, term=to.core.term)
        guarded(to, peer, message)

    patch.setattr(inbox, "receive", trusting)


@mutant(
    "G4",
    "reads.ReadBarriers.restart",
    Named("unit/test_reads.py::test_a_restart_needs_a_fresh_round_and_ignores_the_old_answer"),
)
def keep_a_read_round_across_leaders(patch: pytest.MonkeyPatch) -> None:
    """Only a unit test minds: a round takes in nobody after it was asked, so an index that the earlier leader had
    confirmed for it is still one to read at. What it buys is a question at once instead of at the next repetition."""
    patch.setattr(ReadBarriers, "restart", lambda self: None)


@mutant(
    "G4",
    "reads.ReadBarriers.release",
    Seeds(faults("kill", "reset", latency_max=0.05, think=0.05), STALE, known=2),
)
def read_before_the_index_is_applied(patch: pytest.MonkeyPatch) -> None:
    guarded = ReadBarriers.release
    patch.setattr(ReadBarriers, "release", lambda self, applied_index: guarded(self, 1 << 60))


@mutant(
    "G4",
    "freshness.Freshness.on_append",
    Named("unit/test_freshness.py::test_heartbeats_read_after_a_pause_do_not_look_fresh"),
)
def count_age_from_arrival(patch: pytest.MonkeyPatch) -> None:
    guarded = Freshness.on_append

    def arrival(self: Freshness, leader: str, proof: TimeProof, commit_index: int, now: float) -> None:
        guarded(self, leader, proof._replace(echo=self._stamp(now)), commit_index, now)

    patch.setattr(Freshness, "on_append", arrival)


@mutant(
    "G4",
    "freshness.Freshness.on_reply",
    Named("unit/test_freshness.py::test_acknowledgements_read_after_a_pause_do_not_make_a_leader_fresh"),
)
def count_a_leaders_age_from_arrival(patch: pytest.MonkeyPatch) -> None:
    guarded = Freshness.on_reply

    def arrival(self: Freshness, peer: str, proof: TimeProof, now: float) -> None:
        guarded(self, peer, proof._replace(echo=self._stamp(now)), now)

    patch.setattr(Freshness, "on_reply", arrival)


@mutant(
    "G4",
    "core.RaftCore._vouched_us",
    Named("simulation/test_worst_moments.py::test_a_new_leader_does_not_vouch_for_what_it_has_not_applied"),
)
def vouch_before_being_ready(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftCore, "_vouched_us", lambda self, now: self._freshness.leader_age_us(now))


@mutant(
    "G4",
    "reads.ReadBarriers (base)",
    Named("unit/test_reads.py::test_an_answer_to_an_earlier_life_of_the_node_counts_for_nothing"),
)
def number_read_rounds_from_zero(patch: pytest.MonkeyPatch) -> None:
    guarded = ReadBarriers.__init__
    patch.setattr(ReadBarriers, "__init__", lambda self, bound, base: guarded(self, bound, 0))


# proposals


@mutant(
    "L",
    "inbox.receive (Forward)",
    Named("simulation/test_worst_moments.py::test_what_was_forwarded_for_another_term_is_not_taken"),
)
def take_forwards_of_other_terms(patch: pytest.MonkeyPatch) -> None:
    guarded = inbox.receive

    def trusting(to: Recipient, peer: str, message: Message) -> None:
        if isinstance(message, Forward):
            message = msgspec.structs.replace(message, term=to.core.term)
        guarded(to, peer, message)

    patch.setattr(inbox, "receive", trusting)


@mutant("L", "proposals.Session.hand_over", Seeds(faults("kill", latency_max=0.05, think=0.02), "overtaken"))
def hand_over_the_newest_first(patch: pytest.MonkeyPatch) -> None:
    guarded = Session.hand_over
    patch.setattr(Session, "hand_over", lambda self, target: guarded(self, target)[::-1])


@mutant("L", "proposals.Session.hand_over", Seeds(faults("kill", latency_max=0.05, think=0.02), "overtaken"))
def hand_a_new_leader_only_what_is_new(patch: pytest.MonkeyPatch) -> None:
    guarded = Session.hand_over

    def going_on(self: Session, target: tuple[int, str, int]) -> list[tuple[int, bytes]]:
        self._handed_to = target
        return guarded(self, target)

    patch.setattr(Session, "hand_over", going_on)


@mutant(
    "L",
    "proposals.Session.expire",
    Seeds(faults("kill", "pause", latency_max=0.05), "definitely failed|lacks", known=10),
)
def call_unknown_writes_failed(patch: pytest.MonkeyPatch) -> None:
    guarded = Session.expire

    def optimistic(self: Session, now: float) -> None:
        for pending in self._pending.values():
            pending.left = False
        guarded(self, now)

    patch.setattr(Session, "expire", optimistic)


@mutant("F", "engine.Engine._guarded", Named("simulation/test_worst_moments.py::test_a_node_whose_apply_raises_stops"))
def go_on_after_an_exception(patch: pytest.MonkeyPatch) -> None:
    guarded = Engine._guarded

    def deaf(self: Engine, call: Callable[..., None], *args: Any) -> None:
        def swallowing() -> None:
            with contextlib.suppress(Exception):
                call(*args)

        guarded(self, swallowing)

    patch.setattr(Engine, "_guarded", deaf)


# exactly once


@mutant(
    "P2",
    "registry.Registry._apply_proposal",
    Seeds(faults("kill", "isolate", every=1.0, latency_max=0.05, think=0.02, ids=0.0), TWICE, known=5),
)
def apply_every_copy(patch: pytest.MonkeyPatch) -> None:
    guarded = Registry._apply_proposal

    def unguarded(self: Registry, proposal: Proposal) -> Any:
        self._sessions.pop(proposal.origin, None)
        return guarded(self, proposal)

    patch.setattr(Registry, "_apply_proposal", unguarded)


@mutant(
    "P2",
    "sessions.RequestWindow.outcome_of",
    Seeds(faults("kill", every=1.5, latency_max=0.05, think=0.02, ids=1.0), TWICE),
)
def forget_request_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RequestWindow, "outcome_of", lambda self, request, revision: None)


@mutant(
    "P2",
    "sessions.RequestWindow.outcome_of",
    Named("unit/test_sessions.py::test_a_request_id_of_another_request_is_refused_and_changes_nothing"),
)
def answer_a_reused_request_id(patch: pytest.MonkeyPatch) -> None:
    def careless(self: RequestWindow, request: Any, revision: int) -> Any:
        remembered = self._by_id.get(request.id)
        return None if remembered is None else remembered.outcome

    patch.setattr(RequestWindow, "outcome_of", careless)


@mutant(
    "P2",
    "registry.Registry._apply_proposal",
    Named("unit/test_sessions.py::test_an_earlier_start_is_superseded_and_changes_nothing"),
)
def apply_what_an_earlier_start_left(patch: pytest.MonkeyPatch) -> None:
    guarded = Registry._apply_proposal

    def unguarded(self: Registry, proposal: Proposal) -> Any:
        session = self._sessions.get(proposal.origin)
        if session is not None and proposal.incarnation < session.incarnation:
            del self._sessions[proposal.origin]
        return guarded(self, proposal)

    patch.setattr(Registry, "_apply_proposal", unguarded)


# conditions


@mutant(
    "P2",
    "registry._holds",
    Named("unit/test_conditions.py::test_an_unmet_condition_changes_nothing_and_names_what_is_there"),
)
def ignore_conditions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "_holds", lambda condition, record: True)


@mutant(
    "P2",
    "registry._holds",
    Named("unit/test_conditions.py::test_an_unmet_condition_changes_nothing_and_names_what_is_there"),
)
def compare_the_epoch_with_the_expected_revision(patch: pytest.MonkeyPatch) -> None:
    guarded = registry._holds

    def confused(condition: Condition | None, record: Record | None) -> bool:
        if record is not None:
            record = Record(record.instance, record.revision, record.lease_id, record.grant)
        return guarded(condition, record)

    patch.setattr(registry, "_holds", confused)


@mutant(
    "P2",
    "registry.Registry._register",
    Named("unit/test_conditions.py::test_conditions_are_decided_one_by_one_in_the_order_of_the_request"),
)
def decide_conditions_before_the_request_begins(patch: pytest.MonkeyPatch) -> None:
    guarded = Registry._register

    def eager(self: Registry, command: Register) -> Registered:
        kept = [
            condition
            for condition in command.conditions
            if not registry._holds(condition, self.find(key_of(command.items[condition.position].instance)))
        ]
        return guarded(self, Register(command.items, tuple(kept)))

    patch.setattr(Registry, "_register", eager)


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


# changes


@mutant("P6", "changes.ChangeRing.since", Named("unit/test_changes.py::test_every_later_change_once_and_in_order"))
def leave_out_the_first_change(patch: pytest.MonkeyPatch) -> None:
    guarded = ChangeRing.since
    patch.setattr(ChangeRing, "since", lambda self, revision: guarded(self, revision + 1))


@mutant(
    "P6",
    "changes.ChangeRing.since",
    Named("unit/test_changes.py::test_a_full_ring_drops_the_oldest_and_says_from_where_it_is_complete"),
)
def hide_that_changes_were_dropped(patch: pytest.MonkeyPatch) -> None:
    guarded = ChangeRing.since
    patch.setattr(ChangeRing, "since", lambda self, revision: guarded(self, max(revision, self._oldest)))


# the state's digest


@mutant(
    "P8",
    "digests.StateDigests._judge",
    Named("simulation/test_digests.py::test_a_node_with_a_damaged_state_is_quarantined_and_the_others_go_on"),
)
def compare_no_digests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateDigests, "_judge", lambda self, index, own, of_entry: None)


@mutant(
    "P8",
    "digests.StateDigests._read_again",
    Named("simulation/test_digests.py::test_a_node_with_a_damaged_state_is_quarantined_and_the_others_go_on"),
)
def never_read_the_records_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateDigests, "_read_again", lambda self, now: None)


@mutant("P8", "digests.StateDigests._judge", Named("unit/test_digests.py::test_of_five_three_must_agree"))
def believe_the_first_two(patch: pytest.MonkeyPatch) -> None:
    guarded = StateDigests.__init__

    def credulous(self: StateDigests, *args: Any) -> None:
        guarded(self, *args)
        self._majority = 2

    patch.setattr(StateDigests, "__init__", credulous)


@mutant(
    "P8",
    "engine.Engine._refuse_if_stopped",
    Named("simulation/test_digests.py::test_a_node_with_a_damaged_state_is_quarantined_and_the_others_go_on"),
)
def serve_while_quarantined(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "_refuse_if_stopped", lambda self: None)
