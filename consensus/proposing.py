"""This node's own proposals under way: to whichever leader there is, and back as outcomes when they are applied here.

The rules that keep them in order are in ``proposals``; this is where the engine follows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from artemis.commands import Command, Entry, RequestId
from artemis.consensus.core import RaftCore
from artemis.consensus.journal import Journal
from artemis.consensus.leadership import Leadership
from artemis.consensus.proposals import Resolve, Session
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import Forward, Message
from artemis.outcomes import Outcome, Refused
from artemis.registry import Registry

CLOCK_BEHIND_STEPS = 3
"""By how many steps the lease clock as applied here may be behind the one that a proposal's budget is judged by."""


class Host(Protocol):
    """What this part asks of the engine."""

    node_id: str
    core: RaftCore
    journal: Journal
    leadership: Leadership
    registry: Registry

    @property
    def links_up(self) -> Mapping[str, int]:
        """Link generation per connected peer."""

    def send(self, peer: str, message: Message) -> None: ...


class Proposing:
    def __init__(self, host: Host, timing: Timing, bounds: Bounds) -> None:
        self._host = host
        self._bounds = bounds
        self._clock_behind_ms = timing.lease_step_ms * CLOCK_BEHIND_STEPS
        self.session = Session(host.node_id, host.journal.incarnation, bounds)
        self._start_lsn = host.journal.lsn
        """Where the journal has the session's incarnation."""

    def propose(
        self, command: Command, request: RequestId | None, timeout_ms: int, deadline: float, resolve: Resolve
    ) -> None:
        """Take a proposal, or raise without having taken it. ``deadline``: ``timeout_ms`` from now, monotonic."""
        expires_at_ms = self._host.registry.clock_ms + timeout_ms + self._clock_behind_ms
        self.session.propose(command, request, expires_at_ms, deadline, resolve)

    def hand_over(self) -> None:
        """Give the leader what waits here."""
        host, leader = self._host, self._host.core.leader_id
        if leader is None or host.journal.synced_lsn < self._start_lsn:
            return  # the incarnation must be on disk before anything is proposed under it, else a restart re-uses it
        if not host.core.hears_leader:
            return  # a link to it may still look alive; what is kept here can be refused as not applied
        if leader == host.node_id:
            batch = self.session.hand_over((host.core.term, leader, 0))
            host.leadership.orderer.take(host.node_id, self.session.incarnation, batch)
        elif leader in host.links_up:
            self._forward(leader, self.session.hand_over((host.core.term, leader, host.links_up[leader])))

    def _forward(self, leader: str, batch: list[tuple[int, bytes]]) -> None:
        """In parts so small that a frame never exceeds its bound, whatever has piled up."""
        while batch:
            part: list[tuple[int, bytes]] = []
            size = 0
            while batch and (not part or size + len(batch[0][1]) <= self._bounds.command_bytes_max):
                part.append(batch.pop(0))
                size += len(part[-1][1])
            self._host.send(leader, Forward(self._host.core.term, self.session.incarnation, tuple(part)))

    def on_applied(self, entry: Entry, outcomes: Sequence[Outcome | None]) -> None:
        """``outcomes`` belong to ``entry.proposals``; None for one that was applied before."""
        session = self.session
        for proposal, outcome in zip(entry.proposals, outcomes, strict=True):
            if (
                outcome is not None
                and proposal.origin == session.origin
                and proposal.incarnation == session.incarnation
            ):
                session.resolve(proposal.seq, outcome)
                if isinstance(outcome, Refused) and outcome.reason == "superseded":
                    self._renew()

    def on_replaced(self, registry: Registry) -> None:
        """A snapshot took the place of the applied state."""
        applied = registry.session(self._host.node_id)
        if applied is not None and applied.incarnation == self.session.incarnation:
            self.session.resolve_skipped(applied.seq)
        elif applied is not None and applied.incarnation > self.session.incarnation:
            self._renew()

    def _renew(self) -> None:
        """The log knows a later start of this member than this one: its data was replaced, and its wall clock is behind
        the one that numbered the earlier starts. Every write of this node would be refused for ever."""
        journal, applied = self._host.journal, self._host.registry.session(self._host.node_id)
        self.session.fail_all("this member's session was replaced")
        journal.number_start(0 if applied is None else applied.incarnation)
        self.session = Session(self._host.node_id, journal.incarnation, self._bounds)
        self._start_lsn = journal.lsn
