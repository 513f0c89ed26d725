"""Planted bugs on the way of a request: read barriers, ages, proposals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from artemis.consensus import inbox
from artemis.consensus.core import RaftCore
from artemis.consensus.engine import Engine
from artemis.consensus.freshness import Freshness, TimeProof
from artemis.consensus.inbox import Recipient
from artemis.consensus.proposals import Session
from artemis.consensus.reads import Confirmations, ReadBarriers
from artemis.consensus.wire import Forward, Message, ReadProbeReply
from tests.simulation.mutant import Named, Seeds, faults, mutant

STALE = "is older than|lacks|is gone before|after #"

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
