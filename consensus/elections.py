"""Who leads: what this node makes of votes, pre-votes, terms and signs of life of a leader.

The library counts and casts votes. Here is whom it does not hear: a node that hears a leader neither votes nor takes
over a term (hazard G2), and no voter counts twice (hazard J2).
"""

from __future__ import annotations

from artemis.consensus.journal import Journal
from artemis.consensus.library import TypedSyncObj
from artemis.consensus.prevote import Outbox, PreVote
from artemis.consensus.status import Role
from artemis.consensus.timing import Timing
from artemis.consensus.wire import PreVoteGranted, PreVoteRequest, VoteGranted, VoteRequest


class Elections:
    """Implements ``prevote.Voter``."""

    def __init__(self, raft: TypedSyncObj, outbox: Outbox, journal: Journal, timing: Timing) -> None:
        self._raft = raft
        self._outbox = outbox
        self._journal = journal
        self._hearing_ms = timing.election_timeout_ms_min
        self._prevote = PreVote(self, outbox, timing)
        self._leader_heard_at = float("-inf")
        self._voters: tuple[int, set[str]] = (0, set())
        self.transfer = False
        """The leader asked this node to campaign."""

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def hears_leader(self) -> bool:
        """A leader was heard of within the shortest election timeout. A leader hears itself."""
        if self._raft.role == "leader":
            return True
        return (self._outbox.now() - self._leader_heard_at) * 1000 < self._hearing_ms

    def last_entry(self) -> tuple[int, int]:
        return self._journal.last_index, self._journal.last_term

    def peers(self) -> tuple[str, ...]:
        return self._raft.peers()

    def on_role(self, role: Role) -> None:
        self.transfer = self.transfer and role == "candidate"
        if role == "follower":
            # A deposed leader's deadline lies in the past: without a new one it campaigns at once.
            self._raft.election_deadline = self._outbox.now() + self._raft.random_timeout()

    # -- campaigning -------------------------------------------------------------------------------------------------

    def may_campaign(self) -> bool:
        """The election deadline has passed: only with a majority's pre-vote."""
        return not self._raft.peers() or self.transfer or self._prevote.may_campaign()

    def campaign_now(self) -> None:
        """Do not wait for the election timeout: there is nobody to wait for."""
        self._raft.election_deadline = float("-inf")

    def postpone_election(self, seconds: float) -> None:
        self._raft.election_deadline = max(self._raft.election_deadline, self._outbox.now() + seconds)

    def on_timeout_now(self, peer: str, term: int) -> None:
        """The leader hands over: campaign at once, without asking who still hears it."""
        if term == self._raft.term and peer == self._raft.leader_id:
            self.transfer = True
            self.campaign_now()

    def on_prevote_granted(self, peer: str, message: PreVoteGranted) -> None:
        self._prevote.on_granted(peer, message)

    def on_vote_granted(self, peer: str, message: VoteGranted) -> None:
        """The library only counts answers; one voter heard twice would elect (hazard J2)."""
        if message.term != self._raft.term:
            return
        if self._voters[0] != message.term:
            self._voters = (message.term, set())
        if peer in self._voters[1]:
            return
        self._voters[1].add(peer)
        self._raft.take_vote(peer, message.term)

    # -- voting ------------------------------------------------------------------------------------------------------

    def on_prevote_request(self, peer: str, message: PreVoteRequest) -> None:
        self._prevote.on_request(peer, message)

    def on_vote_request(self, peer: str, message: VoteRequest) -> None:
        """A node that hears a leader does not vote and does not even take over the term: else every rejoin of a
        node that campaigned alone would depose the leader (hazard G2)."""
        if message.transfer or not self.hears_leader:
            self._raft.take_vote_request(peer, message.term, message.last_index, message.last_term)

    # -- terms and leaders -------------------------------------------------------------------------------------------

    def on_leader_heard(self) -> None:
        """The leader of this term, or of a later one, lives."""
        self._leader_heard_at = self._outbox.now()
        self._prevote.cancel()

    def on_term_hint(self, term: int) -> None:
        """A peer lives in a later term: this node's leadership, if any, is over."""
        if term > self._raft.term:
            self._raft.enter_term(term, None)
            self._raft.follow_nobody()

    def adopt_term(self, term: int, voted_for: str) -> None:
        """Take over a term without its vote: lost data may have held a vote of this very term, and a second one could
        elect a second leader. ``voted_for`` is nobody who may still ask for it: its leader, or this node."""
        if term > self._raft.term:
            self._raft.enter_term(term, voted_for)

    def step_down(self) -> None:
        """As leader: lead no more; the others elect after their timeout."""
        self._raft.follow_nobody()
