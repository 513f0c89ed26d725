"""Planted bugs in elections, replication and commitment."""

from __future__ import annotations

from typing import Any

import msgspec
import pysyncobj
import pytest

from artemis.consensus import appendcheck, core, library, seams
from artemis.consensus.appendcheck import Reply, Verdict
from artemis.consensus.core import RaftCore
from artemis.consensus.elections import Elections
from artemis.consensus.engine import Engine
from artemis.consensus.following import Following
from artemis.consensus.journal import Journal
from artemis.consensus.prevote import PreVote
from artemis.consensus.replication import Replication
from artemis.consensus.wire import (
    AppendEntries,
    AppendReply,
    Message,
    PreVoteGranted,
    PreVoteRequest,
    VoteGranted,
    VoteRequest,
)
from tests.simulation.mutant import Named, Seeds, faults, mutant

CORE = "unit/test_core.py::test_"
SCHEDULES = "simulation/test_schedules.py::test_"


def _without_gate(patch: pytest.MonkeyPatch, *kinds: type) -> None:
    gated = Engine.send_when_durable

    def ungated(engine: Engine, peer: str, message: Message) -> None:
        if isinstance(message, kinds):
            engine.send(peer, message)
        else:
            gated(engine, peer, message)

    patch.setattr(Engine, "send_when_durable", ungated)


# what a follower takes and answers


@mutant("C", "appendcheck.check", Seeds(faults("reset", "kill", latency_max=0.05), "lacks it|deletes the committed"))
def truncate_what_matches(patch: pytest.MonkeyPatch) -> None:
    guarded = appendcheck.check

    def unguarded(message: AppendEntries, log: Journal, commit_index: int) -> Verdict:
        verdict = guarded(message, log, commit_index)
        matches = message.prev_index >= log.first_index and log.term_at(message.prev_index) == message.prev_term
        return verdict._replace(entries=message.entries) if matches else verdict

    patch.setattr(appendcheck, "check", unguarded)


@mutant(
    "A",
    "appendcheck.check",
    Named(CORE + "a_heartbeat_in_front_of_a_divergent_tail_verifies_only_up_to_its_anchor"),
)
def commit_beyond_the_verified_end(patch: pytest.MonkeyPatch) -> None:
    guarded = appendcheck.check

    def unguarded(message: AppendEntries, log: Journal, commit_index: int) -> Verdict:
        verdict = guarded(message, log, commit_index)
        return verdict._replace(commit_index=message.commit_index) if verdict.reply.success else verdict

    patch.setattr(appendcheck, "check", unguarded)


@mutant(
    "A",
    "appendcheck.check",
    Seeds(faults("isolate", "reset", "kill"), "another entry|on the disks of|disagrees about the committed", known=7),
)
def commit_on_a_message_that_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    guarded = appendcheck.check

    def unguarded(message: AppendEntries, log: Journal, commit_index: int) -> Verdict:
        verdict = guarded(message, log, commit_index)
        return verdict if verdict.reply.success else verdict._replace(commit_index=message.commit_index)

    patch.setattr(appendcheck, "check", unguarded)


@mutant(
    "A",
    "appendcheck.check",
    Seeds(
        faults("isolate", "reset", "kill"), "another entry|on the disks of|replace the|disagrees about the committed"
    ),
)
def commit_what_was_not_verified(patch: pytest.MonkeyPatch) -> None:
    """Both of the above: what the library does."""
    guarded = appendcheck.check

    def unguarded(message: AppendEntries, log: Journal, commit_index: int) -> Verdict:
        return guarded(message, log, commit_index)._replace(commit_index=message.commit_index)

    patch.setattr(appendcheck, "check", unguarded)


@mutant(
    "A", "following.Following.on_leader_contact", Named(CORE + "a_message_that_verifies_nothing_moves_no_commit_index")
)
def commit_at_a_heartbeat(patch: pytest.MonkeyPatch) -> None:
    def unguarded(self: Following, peer: str, term: int) -> None:
        if self._accept_leader(peer, term):
            nothing = Reply(self._journal.last_index + 1, success=False, reset=False)
            self._feed(peer, term, Verdict(nothing, self._journal.last_index))

    patch.setattr(Following, "on_leader_contact", unguarded)


@mutant(
    "C",
    "appendcheck.check",
    Named(CORE + "a_heartbeat_in_front_of_a_divergent_tail_verifies_only_up_to_its_anchor"),
)
def acknowledge_the_own_end(patch: pytest.MonkeyPatch) -> None:
    guarded = appendcheck.check

    def unguarded(message: AppendEntries, log: Journal, commit_index: int) -> Verdict:
        verdict = guarded(message, log, commit_index)
        if not verdict.reply.success or verdict.entries:
            return verdict
        return verdict._replace(reply=verdict.reply._replace(next_index=log.last_index + 1))

    patch.setattr(appendcheck, "check", unguarded)


@mutant("N5", "appendcheck._first_of_conflict", Named(CORE + "a_divergent_tail_is_left_behind_in_one_step"))
def step_back_one_entry_at_a_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(appendcheck, "_first_of_conflict", lambda log, index, commit_index: index)


# what waits for the disk


@mutant(
    "D1",
    "engine.Engine.send_when_durable",
    Seeds(faults("power-cut", "power-cut-all"), "on the disks of|lacks it|without the"),
)
def acknowledge_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    _without_gate(patch, AppendReply)


@mutant(
    "D4",
    "engine.Engine.send_when_durable",
    Seeds(faults("power-cut", "kill", "slow-disk"), "after voting for|so did|had told others of term"),
)
def vote_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    _without_gate(patch, VoteGranted)


@mutant(
    "D4",
    "core.RaftCore._outgoing",
    Seeds(faults("power-cut", "kill", "slow-disk"), "after voting for|so did|had told others of term"),
)
def campaign_before_the_own_vote_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    _without_gate(patch, VoteRequest)


@mutant(
    "D1",
    "replication.Replication._on_acknowledged",
    Seeds(faults("kill", "slow-disk"), "on the disks of|without the committed"),
)
def count_the_leader_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    def unguarded(self: Replication, peer: str, index: int) -> None:
        self._raft.take_append_reply(peer, index + 1, success=True, reset=False)

    patch.setattr(Replication, "_on_acknowledged", unguarded)


@mutant("D1", "engine.Engine._take_part", Seeds(faults("power-cut", members=1), "on the disks of", budget=3))
def a_lone_member_commits_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    guarded = Engine._take_part

    def unguarded(self: Engine) -> None:
        if not self.core.peers():
            self.core.tick()
        guarded(self)

    patch.setattr(Engine, "_take_part", unguarded)


@mutant("D1", "core.RaftCore._SyncObj__onBecomeLeader", Seeds(faults("kill", members=1), "on the disks of", budget=3))
def a_lone_member_commits_in_the_tick_that_elects_it(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(RaftCore, "_SyncObj__onBecomeLeader")


# what a leader counts and sends


@mutant("B", "replication.Replication.on_append_reply", Named(CORE + "an_acknowledgement_of_another_term_is_dropped"))
def count_acknowledgements_of_other_terms(patch: pytest.MonkeyPatch) -> None:
    guarded = Replication.on_append_reply
    patch.setattr(
        Replication,
        "on_append_reply",
        lambda self, peer, message: guarded(self, peer, msgspec.structs.replace(message, term=self._raft.term)),
    )


@mutant(
    "C",
    "replication.Replication._on_acknowledged",
    Named(CORE + "an_acknowledgement_does_not_send_again_what_is_on_its_way"),
)
def let_the_next_index_go_back(patch: pytest.MonkeyPatch) -> None:
    guarded = Replication._on_acknowledged

    def unguarded(self: Replication, peer: str, index: int) -> None:
        guarded(self, peer, index)
        self._raft.set_next_index(peer, min(index, self._journal.synced_index) + 1)

    patch.setattr(Replication, "_on_acknowledged", unguarded)


@mutant(
    "N7",
    "replication.Replication.on_append_reply",
    Named(CORE + "the_lowest_of_several_resets_wins_and_never_below_the_match"),
)
def let_the_last_reset_win(patch: pytest.MonkeyPatch) -> None:
    guarded = Replication.on_append_reply

    def unguarded(self: Replication, peer: str, message: AppendReply) -> None:
        if message.reset and self._raft.role == "leader":
            self._raft.set_next_index(peer, message.next_index)
        guarded(self, peer, message)

    patch.setattr(Replication, "on_append_reply", unguarded)


@mutant(
    "N3",
    "seams.NoSerializer",
    Named("simulation/test_worst_moments.py::test_a_follower_that_needs_a_snapshot_costs_one_question_per_turn"),
)
def answer_no_snapshot_yet(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seams.NoSerializer, "getTransmissionData", lambda self, node: None)


# elections


@mutant("J2", "elections.Elections.on_vote_granted", Named(CORE + "one_voter_heard_twice_does_not_elect"))
def count_a_voter_twice(patch: pytest.MonkeyPatch) -> None:
    guarded = Elections.on_vote_granted

    def unguarded(self: Elections, peer: str, message: VoteGranted) -> None:
        self._voters = (message.term, set())
        guarded(self, peer, message)

    patch.setattr(Elections, "on_vote_granted", unguarded)


@mutant("G2", "prevote.PreVote.may_campaign", Named(SCHEDULES + "a_returning_node_does_not_depose_a_healthy_leader"))
def campaign_without_a_pre_vote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PreVote, "may_campaign", lambda self: True)


@mutant(
    "G2",
    "prevote.PreVote.on_request",
    Named(CORE + "a_prevote_is_granted_to_an_up_to_date_log_once_the_leader_is_silent"),
)
def grant_a_pre_vote_under_a_live_leader(patch: pytest.MonkeyPatch) -> None:
    def unguarded(self: PreVote, peer: str, request: PreVoteRequest) -> None:
        index, term = self._voter.last_entry()
        if request.term >= self._voter.term and (request.last_term, request.last_index) >= (term, index):
            self._outbox.send(peer, PreVoteGranted(request.term, request.round))

    patch.setattr(PreVote, "on_request", unguarded)


@mutant(
    "G2",
    "elections.Elections.on_vote_request",
    Named(CORE + "who_hears_a_leader_neither_votes_nor_takes_over_the_term"),
)
def vote_under_a_live_leader(patch: pytest.MonkeyPatch) -> None:
    guarded = Elections.on_vote_request
    patch.setattr(
        Elections,
        "on_vote_request",
        lambda self, peer, message: guarded(self, peer, msgspec.structs.replace(message, transfer=True)),
    )


@mutant(
    "G1",
    "library.TypedSyncObj.__init__ (leaderFallbackTimeout)",
    Named(SCHEDULES + "a_leader_without_a_majority_gives_up_within_an_election_timeout"),
)
def lead_for_30_seconds_without_a_majority(patch: pytest.MonkeyPatch) -> None:
    real = pysyncobj.SyncObjConf
    patch.setattr(library, "SyncObjConf", lambda **options: real(**{**options, "leaderFallbackTimeout": 30.0}))


@mutant("G3", "elections.Elections.on_term_hint", Named(CORE + "a_higher_term_ends_a_leadership"))
def ignore_a_hint_of_a_later_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Elections, "on_term_hint", lambda self, term: None)


@mutant("J", "pysyncobj, request_vote", Seeds(faults("kill", "isolate"), "without the committed"))
def vote_for_whoever_lacks_entries(patch: pytest.MonkeyPatch) -> None:
    """The library's own rule; it shows that leader completeness is really looked at."""
    guarded = Elections.on_vote_request
    pre_vote = PreVote.on_request

    def vote(self: Elections, peer: str, message: VoteRequest) -> None:
        guarded(self, peer, msgspec.structs.replace(message, last_term=message.term, last_index=1 << 40))

    def grant(self: PreVote, peer: str, request: PreVoteRequest) -> None:
        pre_vote(self, peer, msgspec.structs.replace(request, last_term=1 << 40))

    patch.setattr(Elections, "on_vote_request", vote)
    patch.setattr(PreVote, "on_request", grant)


# what is applied


@mutant("I5, K", "core.RaftCore._SyncObj__doApplyCommand", Named(CORE + "foreign_command_types_stop_the_node"))
def apply_foreign_command_types(patch: pytest.MonkeyPatch) -> None:
    def unguarded(self: Any, command: bytes) -> None:
        self._host.apply(self.applied_index + 1, command[1:] if command[:1] == core.REGULAR else b"")

    patch.setattr(RaftCore, "_SyncObj__doApplyCommand", unguarded)
