"""PySyncObj behind guards.

The messages go to three parts: ``elections``, ``following`` (this node and its leader) and ``replication`` (this node,
as leader, and its followers). Here is what all of them stand on: when the library runs, and what it calls and sends.

Rules for whoever edits this file or one of the parts:

1. PySyncObj decides elections, log matching, commitment and the order of applying. The guards only filter what goes
   in, rewrite what comes out, and stop the node where going on would be a lie. They add no second protocol.
2. Nothing in them does IO, waits, or knows of proposals and reads.
3. Each guard names the schedule that breaks the unguarded library (hazard letters as in ``DESIGN.md``).

The unguarded library truncates matching entries, takes the commit index from messages that verified nothing, counts
acknowledgements of other terms and lets a returning node depose a healthy leader; each loses acknowledged writes or
availability without any disk fault.
"""

from __future__ import annotations

from typing import Any, Protocol

from artemis.consensus.appendcheck import SafetyViolation
from artemis.consensus.elections import Elections
from artemis.consensus.following import Following
from artemis.consensus.freshness import UNKNOWN_US, Freshness
from artemis.consensus.journal import Journal
from artemis.consensus.library import Member, TypedSyncObj
from artemis.consensus.replication import Replication
from artemis.consensus.status import Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import Message, VoteGranted, VoteRequest

REGULAR = b"\x00"
NO_OP = b"\x01"
APPLY_ENTRY_BYTES = 256
"""What an entry counts besides its bytes towards ``Bounds.apply_bytes``: one that only moves the clock is work too."""


class CoreHost(Protocol):
    """What the core asks of the engine around it."""

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def send_when_durable(self, peer: str, message: Message) -> None:
        """Send once everything in the journal now is on disk."""

    def apply(self, index: int, payload: bytes) -> None:
        """A committed entry; ``payload`` is empty for a leader's no-op. May raise: the node then stops."""

    def may_campaign(self) -> bool:
        """False while this node could not hold what a leader must hold."""

    def needs_snapshot(self, peer: str) -> None:
        """The log no longer reaches back to what ``peer`` needs."""

    def feeding_snapshot(self, peer: str) -> bool: ...

    def on_role(self, role: Role) -> None: ...


class RaftCore(TypedSyncObj):
    """One node's Raft state. Single-threaded: every call comes from the engine's thread."""

    def __init__(
        self,
        node_id: str,
        members: tuple[str, ...],
        journal: Journal,
        host: CoreHost,
        timing: Timing,
        bounds: Bounds,
        freshness: Freshness,
    ) -> None:
        self._host = host
        self._journal = journal
        self._timing = timing
        self._freshness = freshness
        self._quorum = len(members) // 2 + 1
        self._majority_until = float("-inf")  # as leader: it has one until then at least
        self._elected_alone = False
        self._appending = False
        self._apply_bytes = bounds.apply_bytes
        self.elections = Elections(self, host, journal, timing)
        self.following = Following(self, host, journal, self.elections, freshness)
        self.replication = Replication(self, host, journal, freshness, self._vouched_us, timing, bounds)
        super().__init__(node_id, members, journal, timing, bounds, self._outgoing)

    # -- what the engine reads ---------------------------------------------------------------------------------------

    @property
    def leader_ready(self) -> bool:
        """Leader, and its own term's first entry is committed and applied: it knows everything that was ever
        acknowledged (hazard G4: before that a fresh leader may not)."""
        return self.role == "leader" and self._SyncObj__raftLastApplied >= self._SyncObj__noopIDx

    @property
    def hears_leader(self) -> bool:
        return self.elections.hears_leader

    def age_us(self) -> int:
        """How old the applied state may be, proven by round trips; ``freshness.UNKNOWN_US`` when nobody vouches.

        A leader vouches for itself once it is ready. Before, it may lack what earlier leaders committed: one that was
        restarted and elected stands at its snapshot until its first entry is committed.
        """
        now = self._host.now()
        return self._vouched_us(now) if self.leader_ready else self._freshness.follower_age_us(now)

    def _vouched_us(self, now: float) -> int:
        """What a leader says of itself."""
        return self._freshness.leader_age_us(now) if self.leader_ready else UNKNOWN_US

    def _keep_proof(self) -> None:
        """A leader that is deposed or cut off knows how old its state is; without this its age would be unknown until
        the next leader's first round trip, and for as long as it stays alone."""
        if self.leader_ready and not self.behind:
            self._freshness.keep_proof()

    # -- driving -----------------------------------------------------------------------------------------------------

    def restore(self, index: int) -> None:
        """The state machine already stands at ``index`` (a snapshot). The commit index is volatile on purpose: it
        starts here and the leader supplies the rest (hazards D7, H: a stored one may point beyond the log)."""
        self._SyncObj__raftLastApplied = max(self.applied_index, index)
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    def tick(self) -> None:
        """Elections, commitment, applying, heartbeats. Exceptions of ``host.apply`` come out here."""
        now = self._host.now()
        if self.unfinished or now >= self.due_at(now):
            self._onTick(0.0)
            if self._elected_alone:
                self._elected_alone = False
                super()._SyncObj__onBecomeLeader()
            self.replication.rewind_closed_windows()
            self._freshness.on_applied(self._SyncObj__raftLastApplied)

    @property
    def behind(self) -> bool:
        """Something is committed and not applied."""
        return bool(self._SyncObj__raftCommitIndex > self._SyncObj__raftLastApplied)

    @property
    def unfinished(self) -> bool:
        """The next tick may commit or apply something, whatever the time."""
        return self.behind or (self.role == "leader" and self._journal.last_index > self._SyncObj__raftCommitIndex)

    def due_at(self, now: float) -> float:
        """When a tick does something although nothing arrived: the library asks about each of these in every tick, and
        most ticks come between them. A leader's majority is taken from the answers so far; later ones only prolong."""
        second = self._SyncObj__startTime + self._SyncObj__numOneSecondDumps
        if self.role != "leader":
            return min(second, self._SyncObj__raftElectionDeadline)
        if now >= self._majority_until:
            answered = sorted(self._SyncObj__lastResponseTime.values(), reverse=True)[: self._quorum - 1]
            fallback = self._timing.election_timeout_ms_min / 1000
            self._majority_until = answered[-1] + fallback if answered else float("inf")
        return min(second, self._SyncObj__newAppendEntriesTime, self._majority_until)

    def append(self, payload: bytes) -> int:
        """As leader: put one entry into the log and return its index."""
        self._appending = True
        self._applyCommand(payload, None, REGULAR[0])
        self._checkCommandsToApply()
        self._appending = False
        return self._journal.last_index

    def drop_prefix(self, index: int) -> None:
        """Forget entries below ``index``, which a snapshot covers."""
        self._SyncObj__deleteEntriesTo(index)

    def on_connected(self, peer: str) -> None:
        self._SyncObj__onNodeConnected(self._nodes[peer])
        self.replication.windows.forget(peer)

    def on_disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(self._nodes[peer])
        self.replication.windows.forget(peer)

    def on_snapshot_installed(self, peer: str, index: int) -> None:
        self.replication.on_snapshot_installed(peer, index)

    # -- messages out ------------------------------------------------------------------------------------------------

    def _outgoing(self, node: Member, message: dict[str, Any]) -> None:
        """Every message PySyncObj sends: typed, tagged with the term, gated by the disk where it promises something."""
        peer = node.name
        match message["type"]:
            case "append_entries" if "serialized" in message:
                self._host.needs_snapshot(peer)
            case "append_entries":
                self.replication.send(peer, message)
            case "next_node_idx":
                self.following.answer(peer)
            case "request_vote":
                request = VoteRequest(
                    message["term"], message["last_log_index"], message["last_log_term"], self.elections.transfer
                )
                self._host.send_when_durable(peer, request)
            case "response_vote":
                self._host.send_when_durable(peer, VoteGranted(message["term"]))
            case other:
                raise SafetyViolation(f"the core wants to send {other!r}, which has no place in this protocol")

    # -- what PySyncObj calls, overridden ----------------------------------------------------------------------------

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Asked exactly when the election deadline has passed."""
        return self._host.may_campaign() and self.elections.may_campaign()

    def _SyncObj__onBecomeLeader(self) -> None:
        """A lone member is elected inside a tick, and the rest of that tick would commit its first entry at once,
        before it is on disk. It leads from the end of the tick on."""
        if self._quorum == 1:
            self._elected_alone = True
        else:
            super()._SyncObj__onBecomeLeader()

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        """The library unpickles here, and swallows or repeats what raises (hazards F1, F3, K)."""
        kind = command[:1]
        if kind not in (REGULAR, NO_OP):
            raise SafetyViolation(f"entry {self.applied_index + 1} has the foreign command type {kind.hex()}")
        self._host.apply(self.applied_index + 1, command[1:] if kind == REGULAR else b"")

    def _SyncObj__applyLogEntries(self) -> bool:
        """As the library does it, but a slice at a time. A restarted node may have 100,000s of registrations to apply;
        in one go that is seconds in which it hears nobody. The engine asks for the rest (``behind``)."""
        journal, room = self._journal, self._apply_bytes
        while room > 0 and self.behind:
            command = journal[self.applied_index + 1 - journal.first_index][0]
            self._SyncObj__doApplyCommand(command)
            self._SyncObj__raftLastApplied += 1
            room -= len(command) + APPLY_ENTRY_BYTES
        return False

    def _checkCommandsToApply(self) -> None:
        """The library looks in every tick for commands that wait; here they never do (``append``)."""
        if self._appending:
            super()._checkCommandsToApply()

    def _SyncObj__getCurrentLogIndex(self) -> int:
        return self._journal.last_index

    def _SyncObj__tryLogCompaction(self) -> None:
        """Compaction is the engine's: the library's is not atomic (hazards D2, D6)."""

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        if term != self.term:
            self._keep_proof()
            self._freshness.forget_leadership()
        super()._SyncObj__setCurrentTerm(term, voted_for)

    def _become(self, role: Role) -> None:
        self._keep_proof()
        super()._become(role)
        self._majority_until = float("-inf")
        self.elections.on_role(role)
        self.replication.clear()
        self._host.on_role(role)
