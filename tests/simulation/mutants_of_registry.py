"""Planted bugs in the state machine: exactly once, conditions, changes, digests."""

from __future__ import annotations

from typing import Any

import pytest

from artemis import registry
from artemis.changes import ChangeRing
from artemis.commands import Condition, Proposal, Register
from artemis.consensus.digests import StateDigests
from artemis.consensus.engine import Engine
from artemis.model import Record, key_of
from artemis.outcomes import Registered
from artemis.registry import Registry
from artemis.sessions import RequestWindow
from tests.simulation.mutant import Named, Seeds, faults, mutant

TWICE = "applied more than once|after #|did not find"

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
