"""The guards around PySyncObj (``artemis.consensus.core``), each against the schedule that breaks the bare library.

One node's core alone: the test plays its peers by hand and its disk by calling ``sync``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import pytest

from artemis.consensus import seams
from artemis.consensus.appendcheck import SafetyViolation
from artemis.consensus.core import APPLY_ENTRY_BYTES, NO_OP, RaftCore
from artemis.consensus.freshness import Freshness, TimeProof
from artemis.consensus.journal import Journal
from artemis.consensus.status import Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    LogEntry,
    Message,
    PreVoteGranted,
    PreVoteRequest,
    TermHint,
    VoteGranted,
    VoteRequest,
)
from tests.simulation.disk import SimDisk

T = TypeVar("T")


class Immediate:
    """A disk queue whose jobs run when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        self.jobs.append(lambda: done(job()))

    def close(self) -> None:
        self.jobs.clear()


class Member:
    """Node n1 of n1, n2, n3, and everything its core says."""

    def __init__(self, members: tuple[str, ...] = ("n1", "n2", "n3"), bounds: Bounds | None = None) -> None:
        self.time = 100.0
        self.sent: list[tuple[str, Message]] = []
        self.gated: list[tuple[int, str, Message]] = []
        self.applied: list[tuple[int, bytes]] = []
        self.roles: list[Role] = []
        self.snapshots_for: list[str] = []
        self.feeding: set[str] = set()
        self.queue = Immediate()
        rng = Random(1)
        seams.activate(self.now, rng)
        self.journal = Journal.open(SimDisk(), node_id="n1", cluster="c", rng=rng, wall_ms=0)
        self.core = RaftCore(
            "n1", members, self.journal, self, Timing(), bounds or Bounds(), Freshness(len(members) // 2, 1, 0.0)
        )
        for peer in members[1:]:
            self.core.on_connected(peer)
        self.sync()

    # CoreHost
    def now(self) -> float:
        return self.time

    def send(self, peer: str, message: Message) -> None:
        self.sent.append((peer, message))

    def send_when_durable(self, peer: str, message: Message) -> None:
        self.gated.append((self.journal.lsn, peer, message))

    def apply(self, index: int, payload: bytes) -> None:
        self.applied.append((index, payload))

    def may_campaign(self) -> bool:
        return True

    def needs_snapshot(self, peer: str) -> None:
        self.snapshots_for.append(peer)

    def feeding_snapshot(self, peer: str) -> bool:
        return peer in self.feeding

    def on_role(self, role: Role) -> None:
        self.roles.append(role)

    # the test's hand
    def sync(self) -> None:
        """Write the journal and let go what waited for it."""
        self.journal.begin_sync(self.queue, lambda error: None if error is None else pytest.fail(str(error)))
        jobs, self.queue.jobs = self.queue.jobs, []
        for job in jobs:
            job()
        released = [(peer, message) for lsn, peer, message in self.gated if lsn <= self.journal.synced_lsn]
        self.gated = [item for item in self.gated if item[0] > self.journal.synced_lsn]
        self.sent += released
        self.core.replication.on_synced()

    def take_sent(self) -> list[tuple[str, Message]]:
        sent, self.sent = self.sent, []
        return sent

    def last_reply(self) -> tuple[int, int, bool, bool]:
        """(term, next_index, success, reset) of the newest reply, once it may leave."""
        self.sync()
        replies = [message for _, message in self.take_sent() if isinstance(message, AppendReply)]
        return replies[-1].term, replies[-1].next_index, replies[-1].success, replies[-1].reset

    def follow(self, term: int, prev: tuple[int, int], entries: list[tuple[int, int]], commit: int = 1) -> None:
        """n2 leads ``term`` and sends ``entries`` as (index, term)."""
        log = tuple(command(index, of) for index, of in entries)
        self.core.following.on_append_entries("n2", AppendEntries(term, commit, prev[0], prev[1], log, NO_PROOF))

    def lead(self) -> int:
        """Win an election; returns the term."""
        self.time += 5
        self.core.tick()
        request = next(m for _, m in self.take_sent() if isinstance(m, PreVoteRequest))
        self.core.elections.on_prevote_granted("n2", PreVoteGranted(request.term, request.round))
        self.core.tick()
        self.sync()
        self.core.elections.on_vote_granted("n2", VoteGranted(self.core.term))
        assert self.core.role == "leader"
        return self.core.term

    def lead_with_n3_far_behind(self) -> int:
        """n3 lacks entries that the log does not hold any more; n2 has everything. Returns the term."""
        term = self.lead()
        for _ in range(8):
            self.core.append(b"x")
        self.sync()
        self.core.replication.on_append_reply("n2", reply(term, 11, True, False))
        self.core.tick()
        self.core.drop_prefix(8)
        self.core.replication.on_append_reply("n3", reply(term, 2, False, True))
        return term

    def role(self) -> str:
        return self.core.role

    def log(self) -> list[tuple[int, int]]:
        return [(index, term) for _, index, term in self.journal[:]]


NO_PROOF = TimeProof(0, 0, 0)


def reply(term: int, next_index: int, success: bool, reset: bool) -> AppendReply:
    return AppendReply(term, next_index, success, reset, NO_PROOF)


def command(index: int, term: int) -> LogEntry:
    return b"\x00" + f"{index}@{term}".encode(), index, term


# as follower


def test_a_shorter_resend_does_not_remove_what_was_acknowledged() -> None:
    """Hazard C: 7 and 8 are acknowledged when 4..6 arrive again; the library would end the log at 6."""
    member = Member()
    member.follow(1, (1, 0), [(i, 1) for i in range(2, 9)])
    assert member.last_reply() == (1, 9, True, False)
    member.follow(1, (3, 1), [(4, 1), (5, 1), (6, 1)])
    assert member.journal.last_index == 8
    assert member.last_reply() == (1, 7, True, False), "only what this message verified"


def test_what_is_committed_is_applied_in_slices_and_in_order() -> None:
    """A node that applied a long log in one turn would hear nobody meanwhile."""
    member = Member(bounds=Bounds(apply_bytes=3 * APPLY_ENTRY_BYTES))
    member.follow(1, (1, 0), [(i, 1) for i in range(2, 12)], commit=11)
    slices = []
    while member.core.behind:
        before = len(member.applied)
        member.core.tick()
        slices.append(len(member.applied) - before)
    assert [index for index, _ in member.applied] == list(range(2, 12))
    assert slices == [3, 3, 3, 1]
    assert member.core.applied_index == member.core.commit_index == 11


def test_only_the_conflicting_suffix_is_replaced() -> None:
    member = Member()
    member.follow(1, (1, 0), [(2, 1), (3, 1), (4, 1)])
    member.follow(2, (1, 0), [(2, 1), (3, 2)])
    assert member.log() == [(1, 0), (2, 1), (3, 2)]
    assert member.last_reply() == (2, 4, True, False)


def test_a_heartbeat_in_front_of_a_divergent_tail_verifies_only_up_to_its_anchor() -> None:
    """Acknowledging the own end would count entries that differ."""
    member = Member()
    member.follow(1, (1, 0), [(2, 1), (3, 1), (4, 1)])
    member.follow(2, (2, 1), [], commit=9)
    assert member.last_reply() == (2, 3, True, False)
    assert member.core.commit_index == 2, "hazard A: the commit index stays within what was verified"
    member.core.tick()
    assert [index for index, _ in member.applied] == [2]


def test_a_message_that_verifies_nothing_moves_no_commit_index() -> None:
    """Hazard A: the library adopts the leader's commit index from snapshot messages."""
    member = Member()
    member.follow(1, (1, 0), [(2, 1), (3, 1)])
    member.core.following.on_heartbeat("n2", Heartbeat(2, NO_PROOF))
    assert member.core.commit_index == 1
    assert member.core.term == 2


def test_a_committed_entry_is_never_replaced() -> None:
    member = Member()
    member.follow(1, (1, 0), [(2, 1), (3, 1)], commit=3)
    with pytest.raises(SafetyViolation, match="committed entry 3"):
        member.follow(2, (2, 1), [(3, 2)])
    with pytest.raises(SafetyViolation, match="committed entry 3"):
        member.follow(2, (3, 2), [])


def test_a_divergent_tail_is_left_behind_in_one_step() -> None:
    """Hazard N5: the library unwinds one entry per heartbeat."""
    member = Member()
    member.follow(1, (1, 0), [(2, 1)])
    member.follow(3, (2, 1), [(i, 3) for i in range(3, 300)])
    member.follow(4, (299, 4), [])
    assert member.last_reply() == (4, 3, False, True)


def test_a_gap_is_answered_with_the_own_end() -> None:
    member = Member()
    member.follow(1, (7, 1), [(8, 1)])
    assert member.last_reply() == (1, 2, False, True)


def test_entries_below_the_first_kept_one_are_known_to_match() -> None:
    member = Member()
    member.follow(1, (1, 0), [(i, 1) for i in range(2, 9)], commit=8)
    member.core.tick()
    member.core.drop_prefix(5)
    member.follow(2, (2, 1), [(3, 1), (4, 1)])
    assert member.last_reply() == (2, 6, True, False)
    member.follow(2, (3, 1), [(4, 1), (5, 1), (6, 1)])
    assert member.last_reply() == (2, 7, True, False)
    assert member.log() == [(i, 1) for i in range(5, 9)]


def test_nothing_is_acknowledged_before_it_is_on_disk() -> None:
    member = Member()
    member.follow(1, (1, 0), [(2, 1)])
    assert not any(isinstance(message, AppendReply) for _, message in member.take_sent())
    assert member.last_reply() == (1, 3, True, False)


def test_a_deposed_leader_is_told_the_term() -> None:
    """Hazard G3: the library drops its messages without a word."""
    member = Member()
    member.follow(5, (1, 0), [])
    member.core.following.on_append_entries("n3", AppendEntries(4, 1, 1, 0, (), NO_PROOF))
    assert ("n3", TermHint(5)) in member.take_sent()
    assert member.core.leader_id == "n2"


def test_entries_out_of_order_stop_the_node() -> None:
    with pytest.raises(SafetyViolation, match="out of order"):
        Member().follow(1, (1, 0), [(2, 1), (4, 1)])


# votes


def test_a_vote_leaves_only_when_it_is_on_disk_and_only_once_per_term() -> None:
    member = Member()
    member.time += 5
    member.core.elections.on_vote_request("n2", VoteRequest(3, 1, 0, False))
    assert member.take_sent() == []
    member.sync()
    assert member.take_sent() == [("n2", VoteGranted(3))]
    member.core.elections.on_vote_request("n3", VoteRequest(3, 9, 2, False))
    member.sync()
    assert member.take_sent() == []


def test_who_hears_a_leader_neither_votes_nor_takes_over_the_term() -> None:
    """Hazard G2: else every node that comes back with a high term deposes a healthy leader."""
    member = Member()
    member.follow(1, (1, 0), [])
    member.take_sent()
    member.core.elections.on_vote_request("n3", VoteRequest(7, 9, 7, False))
    member.core.elections.on_prevote_request("n3", PreVoteRequest(7, 9, 7, 1))
    assert member.core.term == 1
    assert member.take_sent() == []


def test_a_prevote_is_granted_to_an_up_to_date_log_once_the_leader_is_silent() -> None:
    member = Member()
    member.follow(2, (1, 0), [(2, 2)])
    member.time += 1
    member.core.elections.on_prevote_request("n3", PreVoteRequest(2, 1, 0, 1))
    assert not any(isinstance(message, PreVoteGranted) for _, message in member.take_sent())
    member.core.elections.on_prevote_request("n3", PreVoteRequest(2, 2, 2, 5))
    assert ("n3", PreVoteGranted(2, 5)) in member.take_sent()
    member.core.elections.on_prevote_request("n3", PreVoteRequest(1, 9, 9, 6))
    assert ("n3", TermHint(2)) in member.take_sent()


def test_no_campaign_without_a_majority_of_prevotes() -> None:
    member = Member()
    for _ in range(50):
        member.time += 0.5
        member.core.tick()
    assert member.core.term == 0
    assert all(isinstance(message, PreVoteRequest) for _, message in member.take_sent())


def test_a_grant_of_an_earlier_round_counts_for_nothing() -> None:
    member = Member()
    member.time += 5
    member.core.tick()
    member.time += 5
    member.core.tick()
    requests = [message for _, message in member.take_sent() if isinstance(message, PreVoteRequest)]
    member.core.elections.on_prevote_granted("n2", PreVoteGranted(0, requests[0].round))
    member.core.tick()
    assert member.role() == "follower"


def test_one_voter_heard_twice_does_not_elect() -> None:
    """Hazard J2: the library counts answers, not voters."""
    member = Member(("n1", "n2", "n3", "n4", "n5"))
    member.time += 5
    member.core.tick()
    request = next(m for _, m in member.take_sent() if isinstance(m, PreVoteRequest))
    for peer in ("n2", "n3"):
        member.core.elections.on_prevote_granted(peer, PreVoteGranted(request.term, request.round))
    member.core.tick()
    for _ in range(3):
        member.core.elections.on_vote_granted("n2", VoteGranted(1))
    assert member.role() == "candidate"
    member.core.elections.on_vote_granted("n3", VoteGranted(1))
    assert member.role() == "leader"


def test_a_candidacy_leaves_only_when_the_own_vote_is_on_disk() -> None:
    member = Member()
    member.time += 5
    member.core.tick()
    request = next(m for _, m in member.take_sent() if isinstance(m, PreVoteRequest))
    member.core.elections.on_prevote_granted("n2", PreVoteGranted(request.term, request.round))
    member.core.tick()
    assert member.role() == "candidate"
    assert member.take_sent() == []
    member.sync()
    assert [message for _, message in member.take_sent()] == [VoteRequest(1, 1, 0, False)] * 2


def test_a_leader_that_hands_over_is_succeeded_although_it_is_heard() -> None:
    member = Member()
    member.follow(1, (1, 0), [])
    member.core.elections.on_timeout_now("n3", 1)
    member.core.tick()
    assert member.role() == "follower", "only the leader can hand over"
    member.core.elections.on_timeout_now("n2", 1)
    member.core.tick()
    member.sync()
    assert ("n3", VoteRequest(2, 1, 0, True)) in member.take_sent()
    voter = Member()
    voter.follow(1, (1, 0), [])
    voter.take_sent()
    voter.core.elections.on_vote_request("n3", VoteRequest(2, 1, 0, True))
    voter.sync()
    assert ("n3", VoteGranted(2)) in voter.take_sent()


# as leader


def test_a_leader_counts_an_acknowledgement_only_up_to_its_own_disk() -> None:
    member = Member()
    term = member.lead()
    index = member.core.append(b"x")
    member.core.replication.on_append_reply("n2", reply(term, index + 1, True, False))
    member.core.tick()
    assert member.core.commit_index == 1, "the leader's copy is not on disk yet, so only one copy is"
    member.sync()
    member.core.tick()
    assert member.core.commit_index == index
    assert member.applied[-1] == (index, b"x")


def test_an_acknowledgement_of_another_term_is_dropped() -> None:
    """Hazard B: one of an earlier leadership of the same node raised the match index."""
    member = Member()
    term = member.lead()
    index = member.core.append(b"x")
    member.sync()
    member.core.replication.on_append_reply("n2", reply(term - 1, index + 1, True, False))
    member.core.replication.on_append_reply("n3", reply(term + 1, index + 1, True, False))
    member.core.tick()
    assert member.core.commit_index == 1


def test_an_acknowledgement_beyond_the_own_log_stops_the_node() -> None:
    member = Member()
    term = member.lead()
    with pytest.raises(SafetyViolation, match="this log ends at 2"):
        member.core.replication.on_append_reply("n2", reply(term, 9, True, False))


def test_the_lowest_of_several_resets_wins_and_never_below_the_match() -> None:
    """Hazard N7: with batches in flight the answers are 5, 6, 6; the last alone would never find the fork."""
    member = Member()
    term = member.lead()
    for _ in range(6):
        member.core.append(b"x")
    member.sync()
    member.core.replication.on_append_reply("n2", reply(term, 4, True, False))
    member.core.replication.broadcast()
    member.take_sent()
    for reset in (5, 6, 6):
        member.core.replication.on_append_reply("n2", reply(term, reset, False, True))
    member.core.replication.broadcast()
    (append,) = [m for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries) and m.entries]
    assert append.prev_index == 4
    member.core.replication.on_append_reply("n2", reply(term, 1, False, True))
    member.core.replication.broadcast()
    (append,) = [m for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries) and m.entries]
    assert append.prev_index == 3, "entry 3 is known to match"


def test_an_acknowledgement_does_not_send_again_what_is_on_its_way() -> None:
    """Hazard C, part i: the library sets the next index back to the acknowledged one."""
    member = Member()
    term = member.lead()
    for _ in range(4):
        member.core.append(b"x")
    member.core.replication.broadcast()
    member.sync()
    member.take_sent()
    member.core.replication.on_append_reply("n2", reply(term, 4, True, False))
    member.core.replication.broadcast()
    assert not any(m.entries for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries))


def test_a_closed_window_asks_where_the_follower_is_and_goes_on_from_the_gap() -> None:
    member = Member(bounds=Bounds(append_window_bytes=10))
    term = member.lead()
    first = member.core.append(b"a" * 20)
    member.core.replication.broadcast()
    second = member.core.append(b"b" * 20)
    member.sync()
    member.take_sent()
    member.time += 1
    member.core.replication.broadcast()
    (question,) = [m for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries)]
    assert (question.prev_index, question.entries, question.quiet) == (first, (), False)
    member.core.replication.on_append_reply("n2", reply(term, first + 1, True, False))
    member.core.replication.broadcast()
    appends = [m for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries)]
    assert [entry[1] for append in appends for entry in append.entries] == [second]


def test_a_window_whose_answers_are_lost_opens_again() -> None:
    """They travel on the follower's link; when that breaks, the leader's own goes on and tells it nothing. The window
    stayed closed for ever: found by the simulator (lost-answers-keep-a-window-closed.json)."""
    member = Member(bounds=Bounds(append_window_bytes=10))
    term = member.lead()
    first = member.core.append(b"a" * 20)
    member.core.replication.broadcast()
    member.core.append(b"b" * 20)
    member.sync()
    member.take_sent()
    # The batch was refused, and that answer was lost. The same is said again to the question.
    member.time += 1
    member.core.replication.broadcast()
    assert any(isinstance(m, AppendEntries) for peer, m in member.take_sent() if peer == "n2")
    member.core.replication.on_append_reply("n2", reply(term, first - 1, False, True))
    member.core.replication.broadcast()
    appends = [m for peer, m in member.take_sent() if peer == "n2" and isinstance(m, AppendEntries)]
    assert [entry[1] for append in appends for entry in append.entries][:2] == [first - 1, first]


def test_a_leader_without_a_majority_steps_down_within_an_election_timeout() -> None:
    """Hazard G1: the library's default is 30 s."""
    member = Member()
    member.lead()
    member.time += Timing().election_timeout_ms_min / 1000 + 0.01
    member.core.tick()
    assert member.role() == "follower"
    assert member.core.leader_id is None


def test_a_higher_term_ends_a_leadership() -> None:
    member = Member()
    term = member.lead()
    member.core.elections.on_term_hint(term)
    assert member.role() == "leader"
    member.core.elections.on_term_hint(term + 3)
    assert member.role() == "follower"
    assert member.core.term == term + 3


def test_a_follower_far_behind_gets_heartbeats_while_it_is_fed_a_snapshot() -> None:
    member = Member()
    term = member.lead_with_n3_far_behind()
    member.take_sent()
    member.time += 0.2
    member.core.replication.broadcast()
    assert member.snapshots_for == ["n3"]
    member.feeding.add("n3")
    member.time += 0.2
    member.take_sent()
    member.core.replication.broadcast()
    assert [type(message) for peer, message in member.take_sent() if peer == "n3"] == [Heartbeat]
    member.core.replication.on_append_reply("n3", reply(term, 2, False, True))
    member.core.on_snapshot_installed("n3", 9)
    assert member.core.match_index("n3") == 9


# applying


def test_foreign_command_types_stop_the_node() -> None:
    """Hazards I5, K: the library unpickles them, and changes the membership although that is switched off."""
    member = Member()
    member.core.following.on_append_entries("n2", AppendEntries(1, 2, 1, 0, ((b"\x02x", 2, 1),), NO_PROOF))
    with pytest.raises(SafetyViolation, match="foreign command type 02"):
        member.core.tick()


def test_a_no_op_is_applied_as_nothing() -> None:
    member = Member()
    member.core.following.on_append_entries("n2", AppendEntries(1, 2, 1, 0, ((NO_OP, 2, 1),), NO_PROOF))
    member.core.tick()
    assert member.applied == [(2, b"")]


def test_a_lone_member_elects_itself() -> None:
    member = Member(("n1",))
    member.core.elections.campaign_now()
    member.core.tick()
    assert member.role() == "leader"
