"""PySyncObj behind guards.

Rules for whoever edits this file:

1. PySyncObj decides elections, log matching, commitment and the order of applying. This class only filters what goes
   in, rewrites what comes out, and stops the node where going on would be a lie. It adds no second protocol.
2. Nothing here does IO, waits, or knows of proposals and reads.
3. Each guard names the schedule that breaks the unguarded library (hazard letters as in ``DESIGN.md``).

The unguarded library truncates matching entries, takes the commit index from messages that verified nothing, counts
acknowledgements of other terms and lets a returning node depose a healthy leader; each loses acknowledged writes or
availability without any disk fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node

from artemis.consensus import appendcheck, seams
from artemis.consensus.appendcheck import Reply, SafetyViolation, Verdict
from artemis.consensus.flow import AppendSender, SendWindows
from artemis.consensus.freshness import UNKNOWN_US, Freshness
from artemis.consensus.journal import Journal
from artemis.consensus.prevote import PreVote
from artemis.consensus.status import Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    Message,
    PreVoteGranted,
    PreVoteRequest,
    TermHint,
    VoteGranted,
    VoteRequest,
)

REGULAR = b"\x00"
NO_OP = b"\x01"
APPLY_ENTRY_BYTES = 256
"""What an entry counts besides its bytes towards ``Bounds.apply_bytes``: one that only moves the clock is work too."""
_ROLES: Mapping[int, Role] = {0: "follower", 1: "candidate", 2: "leader"}


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


class _Member(Node):  # type: ignore[misc]  # PySyncObj is untyped
    """A peer. There is one object of each, so two are equal only if they are the same: comparing and hashing names,
    as the library does, is a tenth of what a message costs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class RaftCore(SyncObj):  # type: ignore[misc]  # PySyncObj is untyped
    """One node's Raft state. Single-threaded: every call comes from the engine's thread."""

    _SyncObj__lastResponseTime: dict[_Member, float]
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__noopIDx: int
    _SyncObj__numOneSecondDumps: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__raftLastApplied: int
    _SyncObj__raftLeader: _Member | None
    _SyncObj__raftMatchIndex: dict[_Member, int]
    _SyncObj__raftNextIndex: dict[_Member, int]
    _SyncObj__startTime: float

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
        self._windows = SendWindows(bounds.append_window_bytes)
        self._sender = AppendSender(host, journal, freshness, self._vouched_us, self._windows, timing.heartbeat_ms)
        self._nodes = {member: _Member(member) for member in members if member != node_id}
        self._quorum = len(members) // 2 + 1
        self.role: Role = "follower"
        self._majority_until = float("-inf")  # as leader: it has one until then at least
        self._prevote = PreVote(self, host, timing)
        self._leader_heard_at = float("-inf")
        self._voters: tuple[int, set[str]] = (0, set())
        self._reply = Reply(1, success=False, reset=False)  # what the reply in the making will say
        self._elected_alone = False
        self._announcing = False
        self._appending = False
        self._silent = False  # the reply in the making is not wanted
        self._transfer = False  # the leader asked this node to campaign
        self._held_acks: dict[str, int] = {}
        self._apply_bytes = bounds.apply_bytes
        gate = seams.Gate()
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,
            appendEntriesBatchSizeBytes=bounds.append_batch_bytes,
            appendEntriesPeriod=timing.heartbeat_ms / 1000,
            commandsQueueSize=0,
            commandsWaitLeader=False,
            connectionTimeout=timing.election_timeout_ms_max / 1000 * 4,
            dynamicMembershipChange=False,
            journalFile=journal,
            # A leader without a majority is deposed within one election timeout (hazard G1: the default is 30 s).
            leaderFallbackTimeout=timing.election_timeout_ms_min / 1000,
            raftMaxTimeout=timing.election_timeout_ms_max / 1000,
            raftMinTimeout=timing.election_timeout_ms_min / 1000,
        )
        super().__init__(_Member(node_id), list(self._nodes.values()), conf, transport=gate)
        seams.check_instance(self)
        self._poller = seams.NoPoller()
        self._SyncObj__serializer = seams.NoSerializer()
        gate.outgoing = self._outgoing

    # -- what the engine reads ---------------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    @property
    def leader_id(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else leader.name

    @property
    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def leader_ready(self) -> bool:
        """Leader, and its own term's first entry is committed and applied: it knows everything that was ever
        acknowledged (hazard G4: before that a fresh leader may not)."""
        return self.role == "leader" and self._SyncObj__raftLastApplied >= self._SyncObj__noopIDx

    @property
    def hears_leader(self) -> bool:
        """A leader was heard of within the shortest election timeout. A leader hears itself."""
        if self.role == "leader":
            return True
        return (self._host.now() - self._leader_heard_at) * 1000 < self._timing.election_timeout_ms_min

    def match_index(self, peer: str) -> int:
        return self._SyncObj__raftMatchIndex.get(self._nodes[peer], 0)

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

    def last_entry(self) -> tuple[int, int]:
        return self._journal.last_index, self._journal.last_term

    def peers(self) -> tuple[str, ...]:
        return tuple(self._nodes)

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
            self._rewind_closed_windows()
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

    def broadcast(self) -> None:
        """As leader: tell the followers about new entries and the commit index now, not at the next heartbeat."""
        self._announcing = True
        self._SyncObj__sendAppendEntries()
        self._announcing = False
        self._rewind_closed_windows()

    def drop_prefix(self, index: int) -> None:
        """Forget entries below ``index``, which a snapshot covers."""
        self._SyncObj__deleteEntriesTo(index)

    def campaign_now(self) -> None:
        """Do not wait for the election timeout: there is nobody to wait for."""
        self._SyncObj__raftElectionDeadline = float("-inf")

    def on_connected(self, peer: str) -> None:
        self._SyncObj__onNodeConnected(self._nodes[peer])
        self._windows.forget(peer)

    def on_disconnected(self, peer: str) -> None:
        self._SyncObj__onNodeDisconnected(self._nodes[peer])
        self._windows.forget(peer)

    # -- messages in: as follower ------------------------------------------------------------------------------------

    def on_append_entries(self, peer: str, message: AppendEntries) -> None:
        """Hand the core only what ``appendcheck`` lets through, anchored where both logs agree."""
        if self._accept_leader(peer, message.term):
            verdict = appendcheck.check(message, self._journal, self.commit_index)
            self._silent = message.quiet and verdict.reply.success
            self._feed(peer, message.term, verdict)
            self._silent = False
            self._freshness.on_append(peer, message.proof, message.commit_index, self._host.now())
            self._freshness.on_applied(self._SyncObj__raftLastApplied)

    def on_heartbeat(self, peer: str, message: Heartbeat) -> None:
        self.on_leader_contact(peer, message.term)
        if message.term == self.term:
            self._freshness.on_contact(peer, message.proof)

    def on_leader_contact(self, peer: str, term: int) -> None:
        """The leader lives; it says nothing about logs (hazard A: the library would take over its commit index)."""
        if self._accept_leader(peer, term):
            nothing = Reply(self._journal.last_index + 1, success=False, reset=False)
            self._feed(peer, term, Verdict(nothing, self.commit_index))

    def _accept_leader(self, peer: str, term: int) -> bool:
        if term < self.term:
            # The library drops this silently, and a deposed leader learns nothing for 30 s (hazard G3).
            self._host.send(peer, TermHint(self.term))
            return False
        if term == self.term and self.role == "leader":
            raise SafetyViolation(f"{peer} leads term {term} and so does this node")
        self._leader_heard_at = self._host.now()
        self._prevote.cancel()
        return True

    def _feed(self, peer: str, term: int, verdict: Verdict) -> None:
        """Give the core an append_entries that changes exactly ``verdict.entries``. With none it is anchored at our own
        last entry, where the library truncates nothing; the reply it then makes is replaced by ``verdict.reply``."""
        log, entries = self._journal, verdict.entries
        anchor = entries[0][1] - 1 if entries else log.last_index
        self._reply = verdict.reply
        self._SyncObj__onMessageReceived(
            self._nodes[peer],
            {
                "type": "append_entries",
                "term": term,
                "commit_index": verdict.commit_index,
                "prevLogIdx": anchor,
                "prevLogTerm": log.term_at(anchor),
                "entries": entries,
            },
        )

    # -- messages in: as leader --------------------------------------------------------------------------------------

    def on_append_reply(self, peer: str, message: AppendReply) -> None:
        """Count an acknowledgement of this very term only (hazard B: a late one of an earlier leadership of this node
        raised the match index above what the follower still had)."""
        if self.role != "leader" or message.term != self.term:
            return
        self._freshness.on_reply(peer, message.proof, self._host.now())
        node = self._nodes[peer]
        next_before, match = self._SyncObj__raftNextIndex[node], self._SyncObj__raftMatchIndex[node]
        if message.reset:
            # Keep the lowest of several resets: with batches in flight the follower answers 5, 6, 6, and the last one
            # alone would send from 6 for ever (hazard N7). Never below what is known to match.
            next_index = max(match + 1, min(next_before, message.next_index))
            self._windows.forget(peer)
            self._feed_reply(node, next_index, success=False, reset=not self._host.feeding_snapshot(peer))
        elif not message.success:
            self._feed_reply(node, message.next_index, success=False, reset=False)
        else:
            self._on_acknowledged(peer, message.next_index - 1)

    def _on_acknowledged(self, peer: str, index: int) -> None:
        """A follower counts only up to what the leader itself has on disk: it fsyncs in parallel, and before it is
        done its own copy is no copy. The rest is held until then."""
        if index > self._journal.last_index:
            raise SafetyViolation(f"{peer} acknowledges entry {index}, this log ends at {self._journal.last_index}")
        node = self._nodes[peer]
        self._held_acks.pop(peer, None)
        if index > self._journal.synced_index:
            self._held_acks[peer] = index
        counted = min(index, self._journal.synced_index)
        next_before = self._SyncObj__raftNextIndex[node]
        self._feed_reply(node, counted + 1, success=True, reset=False)
        # The library sets the next index back to the acknowledged one although more is on its way (hazard C, part i).
        self._SyncObj__raftNextIndex[node] = max(next_before, counted + 1)
        self._windows.acknowledge(peer, index)

    def _feed_reply(self, node: _Member, next_index: int, *, success: bool, reset: bool) -> None:
        self._SyncObj__onMessageReceived(
            node, {"type": "next_node_idx", "next_node_idx": next_index, "success": success, "reset": reset}
        )

    def on_synced(self) -> None:
        """The journal is on disk up to ``synced_index``: count what was held for it."""
        if self.role != "leader":
            self._held_acks.clear()
        for peer, index in list(self._held_acks.items()):
            self._on_acknowledged(peer, index)

    def on_snapshot_installed(self, peer: str, index: int) -> None:
        """As leader: ``peer`` has verified and stored a snapshot that ends at ``index``."""
        if self.role == "leader":
            self._on_acknowledged(peer, index)
            self._SyncObj__raftNextIndex[self._nodes[peer]] = index + 1

    def forget_match(self, peer: str) -> None:
        """As leader: ``peer`` lost its data, so nothing is known to match any more. What is committed stays so."""
        node = self._nodes[peer]
        self._SyncObj__raftMatchIndex[node] = 0
        self._held_acks.pop(peer, None)
        self._windows.forget(peer)

    def heard(self, peer: str) -> None:
        """As leader: ``peer`` answered something in this term, so it still follows."""
        self._SyncObj__lastResponseTime[self._nodes[peer]] = self._host.now()

    # -- messages in: elections --------------------------------------------------------------------------------------

    def on_vote_request(self, peer: str, message: VoteRequest) -> None:
        """A node that hears a leader does not vote and does not even take over the term: else every rejoin of a
        node that campaigned alone would depose the leader (hazard G2)."""
        if self.hears_leader and not message.transfer:
            return
        self._SyncObj__onMessageReceived(
            self._nodes[peer],
            {
                "type": "request_vote",
                "term": message.term,
                "last_log_index": message.last_index,
                "last_log_term": message.last_term,
            },
        )

    def on_vote_granted(self, peer: str, message: VoteGranted) -> None:
        """The library only counts answers; one voter heard twice would elect (hazard J2)."""
        if message.term != self.term:
            return
        if self._voters[0] != message.term:
            self._voters = (message.term, set())
        if peer in self._voters[1]:
            return
        self._voters[1].add(peer)
        self._SyncObj__onMessageReceived(self._nodes[peer], {"type": "response_vote", "term": message.term})

    def on_prevote_request(self, peer: str, message: PreVoteRequest) -> None:
        self._prevote.on_request(peer, message)

    def on_prevote_granted(self, peer: str, message: PreVoteGranted) -> None:
        self._prevote.on_granted(peer, message)

    def on_timeout_now(self, peer: str, term: int) -> None:
        """The leader hands over: campaign at once, without asking who still hears it."""
        if term == self.term and peer == self.leader_id:
            self._transfer = True
            self.campaign_now()

    def step_down(self) -> None:
        """As leader: lead no more; the others elect after their timeout."""
        self._SyncObj__raftLeader = None
        self._SyncObj__setState(0)

    def on_term_hint(self, term: int) -> None:
        """A peer lives in a later term: this node's leadership, if any, is over."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__raftLeader = None
            self._SyncObj__setState(0)

    def adopt_term(self, term: int, leader: str) -> None:
        """Take over a leader's term without its vote: lost data may have held a vote of this very term, and a second
        one could elect a second leader."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, leader)

    def postpone_election(self, seconds: float) -> None:
        deadline = self._host.now() + seconds
        self._SyncObj__raftElectionDeadline = max(self._SyncObj__raftElectionDeadline, deadline)

    # -- messages out ------------------------------------------------------------------------------------------------

    def _outgoing(self, node: _Member, message: dict[str, Any]) -> None:
        """Every message PySyncObj sends: typed, tagged with the term, gated by the disk where it promises something."""
        peer = node.name
        match message["type"]:
            case "append_entries" if "serialized" in message:
                self._host.needs_snapshot(peer)
            case "append_entries":
                # Heartbeats ask for answers; one to each commit index would double the messages of a lone write.
                self._sender.send(
                    peer,
                    message["term"],
                    message["commit_index"],
                    (message["prevLogIdx"], message["prevLogTerm"]),
                    tuple(message["entries"]),
                    quiet=self._announcing and not message["entries"],
                )
            case "next_node_idx" if self._silent:
                pass
            case "next_node_idx":
                self._host.send_when_durable(
                    peer, AppendReply(self.term, *self._reply, self._freshness.proof(peer, self._host.now()))
                )
            case "request_vote":
                request = VoteRequest(
                    message["term"], message["last_log_index"], message["last_log_term"], self._transfer
                )
                self._host.send_when_durable(peer, request)
            case "response_vote":
                self._host.send_when_durable(peer, VoteGranted(message["term"]))
            case other:
                raise SafetyViolation(f"the core wants to send {other!r}, which has no place in this protocol")

    def _rewind_closed_windows(self) -> None:
        """Batches that were held back go out later, from where the gap begins."""
        if not self._windows.holding:
            return
        for peer, index in self._windows.take_held().items():
            node = self._nodes[peer]
            if self.role == "leader":
                self._SyncObj__raftNextIndex[node] = min(self._SyncObj__raftNextIndex[node], index)

    # -- what PySyncObj calls, overridden ----------------------------------------------------------------------------

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Asked exactly when the election deadline has passed: campaign only with a majority's pre-vote."""
        if not self._host.may_campaign():
            return False
        return self._quorum == 1 or self._transfer or self._prevote.may_campaign()

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

    def _SyncObj__setState(self, state: int) -> None:
        before = self._SyncObj__raftState
        super()._SyncObj__setState(state)
        if before == state:
            return
        self._keep_proof()
        self.role = _ROLES[state]
        self._majority_until = float("-inf")
        self._transfer = self._transfer and state == 1
        if state == 0:
            # A deposed leader's deadline lies in the past: without a new one it campaigns at once.
            self._SyncObj__raftElectionDeadline = self._host.now() + self._SyncObj__generateRaftTimeout()
        self._held_acks.clear()
        self._windows.clear()
        self._host.on_role(_ROLES[state])
