"""What this node takes from its leader, and answers.

``appendcheck`` judges a message; here the library is given exactly what was judged safe, and its own answer, which
claims more than the message verified, is replaced.
"""

from __future__ import annotations

from typing import Protocol

from artemis.consensus import appendcheck
from artemis.consensus.appendcheck import Reply, SafetyViolation, Verdict
from artemis.consensus.elections import Elections
from artemis.consensus.freshness import Freshness
from artemis.consensus.journal import Journal
from artemis.consensus.library import TypedSyncObj
from artemis.consensus.wire import AppendEntries, AppendReply, Heartbeat, Message, TermHint


class Outbox(Protocol):
    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def send_when_durable(self, peer: str, message: Message) -> None: ...


class Following:
    def __init__(
        self, raft: TypedSyncObj, outbox: Outbox, journal: Journal, elections: Elections, freshness: Freshness
    ) -> None:
        self._raft = raft
        self._outbox = outbox
        self._journal = journal
        self._elections = elections
        self._freshness = freshness
        self._reply = Reply(1, success=False, reset=False)  # what the reply in the making will say
        self._silent = False  # the reply in the making is not wanted

    def on_append_entries(self, peer: str, message: AppendEntries) -> None:
        """Hand the library only what ``appendcheck`` lets through, anchored where both logs agree."""
        if self._accept_leader(peer, message.term):
            verdict = appendcheck.check(message, self._journal, self._raft.commit_index)
            self._silent = message.quiet and verdict.reply.success
            self._feed(peer, message.term, verdict)
            self._silent = False
            self._freshness.on_append(peer, message.proof, message.commit_index, self._outbox.now())
            self._freshness.on_applied(self._raft.applied_index)

    def on_heartbeat(self, peer: str, message: Heartbeat) -> None:
        self.on_leader_contact(peer, message.term)
        if message.term == self._raft.term:
            self._freshness.on_contact(peer, message.proof)

    def on_leader_contact(self, peer: str, term: int) -> None:
        """The leader lives; it says nothing about logs (hazard A: the library would take over its commit index)."""
        if self._accept_leader(peer, term):
            nothing = Reply(self._journal.last_index + 1, success=False, reset=False)
            self._feed(peer, term, Verdict(nothing, self._raft.commit_index))

    def _accept_leader(self, peer: str, term: int) -> bool:
        if term < self._raft.term:
            # The library drops this silently, and a deposed leader learns nothing for 30 s (hazard G3).
            self._outbox.send(peer, TermHint(self._raft.term))
            return False
        if term == self._raft.term and self._raft.role == "leader":
            raise SafetyViolation(f"{peer} leads term {term} and so does this node")
        self._elections.on_leader_heard()
        return True

    def _feed(self, peer: str, term: int, verdict: Verdict) -> None:
        """Give the library an append_entries that changes exactly ``verdict.entries``. With none it is anchored at our
        own last entry, where it truncates nothing; the reply that it then makes is replaced by ``verdict.reply``."""
        log, entries = self._journal, verdict.entries
        anchor = entries[0][1] - 1 if entries else log.last_index
        self._reply = verdict.reply
        self._raft.take_append_entries(peer, term, verdict.commit_index, (anchor, log.term_at(anchor)), entries)

    def answer(self, peer: str) -> None:
        """The library answers what it was fed."""
        if not self._silent:
            proof = self._freshness.proof(peer, self._outbox.now())
            self._outbox.send_when_durable(peer, AppendReply(self._raft.term, *self._reply, proof))
