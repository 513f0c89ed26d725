"""Pre-vote (Raft dissertation 9.6): ask whether an election could be won before disturbing anyone with a new term.

Without it a node that was cut off comes back with a high term and deposes a healthy leader at every rejoin.
"""

from __future__ import annotations

from typing import Protocol

from artemis.consensus.timing import Timing
from artemis.consensus.wire import Message, PreVoteGranted, PreVoteRequest, TermHint


class Voter(Protocol):
    """What pre-vote needs to know of the node it votes for."""

    @property
    def term(self) -> int: ...

    @property
    def hears_leader(self) -> bool: ...

    def last_entry(self) -> tuple[int, int]:
        """(index, term) of the last log entry."""

    def peers(self) -> tuple[str, ...]: ...

    def postpone_election(self, seconds: float) -> None: ...


class Outbox(Protocol):
    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...


class PreVote:
    """One node's side of pre-voting. A round belongs to one term and is good for one election."""

    def __init__(self, voter: Voter, outbox: Outbox, timing: Timing) -> None:
        self._voter = voter
        self._outbox = outbox
        self._round_seconds = timing.election_timeout_ms_min / 1000 / 2
        self._round = 0
        self._round_term = -1
        self._asked_at = float("-inf")
        self._granted: set[str] = set()

    def may_campaign(self) -> bool:
        """True once per granted round. Starts a round, or a new one when the last was not answered in time."""
        peers = self._voter.peers()
        fresh = self._outbox.now() - self._asked_at < self._round_seconds
        if fresh and self._round_term == self._voter.term:
            if len(self._granted) + 1 <= (len(peers) + 1) // 2:
                return False
            self.cancel()
            return True
        self._round += 1
        self._round_term = self._voter.term
        self._asked_at = self._outbox.now()
        self._granted = set()
        index, term = self._voter.last_entry()
        for peer in peers:
            self._outbox.send(peer, PreVoteRequest(self._round_term, index, term, self._round))
        return False

    def cancel(self) -> None:
        """A leader was heard, or the round was used."""
        self._asked_at = float("-inf")
        self._granted = set()

    def on_request(self, peer: str, request: PreVoteRequest) -> None:
        if request.term < self._voter.term:
            self._outbox.send(peer, TermHint(self._voter.term))
            return
        index, term = self._voter.last_entry()
        if self._voter.hears_leader or (request.last_term, request.last_index) < (term, index):
            return
        # Leave the asker time to win: two nodes that grant each other and campaign together split the vote.
        self._voter.postpone_election(self._round_seconds / 2)
        self._outbox.send(peer, PreVoteGranted(request.term, request.round))

    def on_granted(self, peer: str, grant: PreVoteGranted) -> None:
        if grant.round == self._round and grant.term == self._round_term:
            self._granted.add(peer)
