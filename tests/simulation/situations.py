"""Which of the situations that guards are for has a run really met? Counted by looking on; nothing is changed by it.

Coverage of lines says little here: each line of the engine runs in the first second. What matters is whether a vote was
asked for after a restart, whether a power cut came while a snapshot was written, and so on. A long run that never meets
one of these has shown nothing about it (``soak`` says so and fails).
"""

from __future__ import annotations

from functools import partial

from artemis.commands import Proposal, decode_entry
from artemis.consensus.status import Role
from artemis.consensus.wire import (
    AppendEntries,
    AppendReply,
    Forward,
    Message,
    PreVoteRequest,
    SnapshotChunk,
    TermHint,
    TimeoutNow,
    VoteGranted,
    VoteRequest,
)
from tests.simulation.cluster import Cluster, Machine
from tests.simulation.invariants import Invariants, ObservedEngine
from tests.simulation.scenario import Run

SITUATIONS = (
    # elections
    "pre-vote refused because a leader is heard",
    "vote refused because a leader is heard",
    "second vote of a term refused after a restart",
    "vote after a restart",
    "leader steps down without a majority",
    "leader deposed by a term hint",
    "leadership transferred",
    # logs
    "truncation with a conflict",
    "acknowledgement of another term ignored",
    "acknowledgement held for the leader's own disk",
    "append below the start of the log",
    "send window closed",
    "torn end cut at start",
    "promise lost with the power before it left",
    "power cut while the log is compacted",
    "disk fails and the node gives way",
    "disk works again and the node comes back",
    # snapshots
    "snapshot installed",
    "snapshot not newer than the state",
    "snapshot receiver ends in the middle",
    "snapshot transfer broken by a link",
    "snapshot transfer ended by a leader change",
    "power cut while a snapshot is written",
    "kill while a snapshot is written",
    # proposals
    "leader change with forwarded proposals in flight",
    "proposal re-sent after a link reset",
    "forward for another leadership dropped",
    "leader ends with proposals in its queue",
    "duplicate proposal skipped by the state machine",
    "proposal of an earlier start refused",
    "expired proposal refused",
    "repeated request answered with its first outcome",
    # reads and leases
    "read barrier restarted by a leader change",
    "read barrier restarted by a new link",
    "lease ended during a partition",
    "stall noticed, sockets read first",
    # membership
    "rejoined with a replaced disk",
    "rejoin interrupted",
)


LOOKED_AT = frozenset(
    (AppendEntries, AppendReply, Forward, PreVoteRequest, VoteRequest, TermHint, TimeoutNow, SnapshotChunk)
)


class WatchfulEngine(ObservedEngine):
    """The observed engine, with an eye on the situations above."""

    _role_before: Role = "follower"
    _led_term = -1
    _told_in_term = -1
    _dropped_at_lsn = 0
    _rejoined = False
    _disk_failed = False

    def observe(self, watch: Invariants) -> None:
        super().observe(watch)
        journal, windows = self.journal, self.core.replication.windows
        self._restarted = not journal.recovery.created
        if journal.recovery.cut_bytes:
            self._meet("torn end cut at start")
        admit, drop, reopen = windows.admit, journal.deleteEntriesTo, self.core.replication.on_synced
        hand_over = self.proposing.hand_over

        def watched_admit(peer: str, first_index: int, last_index: int, size: int) -> bool:
            admitted = admit(peer, first_index, last_index, size)
            if not admitted:
                self._meet("send window closed")
            return admitted

        def watched_drop(entryTo: int) -> None:
            drop(entryTo)
            self._dropped_at_lsn = journal.lsn

        def watched_synced() -> None:
            if self.core.replication._held_acks:
                self._meet("acknowledgement held for the leader's own disk")
            reopen()

        def watched_hand_over() -> None:
            before = self.proposing.session._handed_to
            left = before is not None and self.links_up.get(before[1]) != before[2] and self._proposals_left()
            hand_over()
            after = self.proposing.session._handed_to
            if left and before is not None and after is not None and before[:2] == after[:2] and before != after:
                self._meet("proposal re-sent after a link reset")

        windows.admit = watched_admit  # type: ignore[method-assign]
        journal.deleteEntriesTo = watched_drop  # type: ignore[method-assign]
        self.core.replication.on_synced = watched_synced  # type: ignore[method-assign]
        self.proposing.hand_over = watched_hand_over  # type: ignore[method-assign]

    def _meet(self, situation: str) -> None:
        self.watch.situations[situation] += 1

    # messages

    def receive(self, peer: str, message: Message) -> None:
        if type(message) in LOOKED_AT and self.admission.done:
            self._look_at(message)
        super().receive(peer, message)

    def _look_at(self, message: Message) -> None:
        core = self.core
        match message:
            case AppendEntries(prev_index=prev_index, term=term):
                if term == core.term and prev_index < self.journal.first_index:
                    self._meet("append below the start of the log")
            case AppendReply(term=term):
                if term != core.term and core.role == "leader":
                    self._meet("acknowledgement of another term ignored")
            case Forward(term=term):
                if term != core.term or core.role != "leader":
                    self._meet("forward for another leadership dropped")
            case PreVoteRequest(term=term):
                if core.hears_leader and term >= core.term:
                    self._meet("pre-vote refused because a leader is heard")
            case VoteRequest(term=term, transfer=transfer):
                if core.hears_leader and not transfer:
                    self._meet("vote refused because a leader is heard")
                elif term == core.term and self._restarted and self.journal.getVotedForNodeId() is not None:
                    self._meet("second vote of a term refused after a restart")
            case TermHint(term=term):
                if core.role == "leader" and term > core.term:
                    self._meet("leader deposed by a term hint")
            case TimeoutNow(term=term):
                self._told_in_term = term
            case SnapshotChunk(index=index, index_term=term):
                if self.snapshots._has(index, term):
                    self._meet("snapshot not newer than the state")
            case _:
                pass

    def send(self, peer: str, message: Message) -> None:
        if isinstance(message, VoteGranted) and self._restarted:
            self._meet("vote after a restart")
        super().send(peer, message)

    # leadership

    def on_role(self, role: Role) -> None:
        if self.observed:
            term = self.core.term
            if role == "follower" and self._role_before == "leader" and term == self._led_term:
                self._meet("leader steps down without a majority")
            if role == "leader" and self._told_in_term == term - 1:
                self._meet("leadership transferred")
            if self._role_before == "leader" and any(feed.offset for feed in self.snapshots._feeds.values()):
                self._meet("snapshot transfer ended by a leader change")
            self._led_term = term if role == "leader" else -1
            self._role_before = role
        super().on_role(role)

    def _notice_leadership(self) -> None:
        if self._reads_unanswered():
            self._meet("read barrier restarted by a leader change")
        handed = self.proposing.session._handed_to
        if handed is not None and handed[1] != self.node_id and self._proposals_left():
            self._meet("leader change with forwarded proposals in flight")
        super()._notice_leadership()

    def _reads_unanswered(self) -> bool:
        return any(round_.index is None for round_ in self.reading.barriers._rounds.values())

    def _proposals_left(self) -> bool:
        return any(pending.left for pending in self.proposing.session._pending.values())

    # links, time, disks

    def on_connected(self, peer: str) -> None:
        if peer == self.core.leader_id and self._reads_unanswered():
            self._meet("read barrier restarted by a new link")
        super().on_connected(peer)

    def on_disconnected(self, peer: str) -> None:
        feed = self.snapshots._feeds.get(peer)
        if feed is not None and feed.offset:
            self._meet("snapshot transfer broken by a link")
        super().on_disconnected(peer)

    def _drains(self, now: float) -> bool:
        before = self.alarm.drain_until
        drains = super()._drains(now)
        if self.alarm.drain_until != before:
            self._meet("stall noticed, sockets read first")
        return drains

    def on_disk_failed(self) -> None:
        self._disk_failed = True
        self._meet("disk fails and the node gives way")
        super().on_disk_failed()

    def _advance(self) -> None:
        super()._advance()
        if self._disk_failed and self.disk.well:
            self._disk_failed = False
            self._meet("disk works again and the node comes back")
        if self.admission.rejoin_from is not None and not self._rejoined and self.admission.done:
            self._rejoined = True
            self._meet("rejoined with a replaced disk")

    # the state machine

    def apply(self, index: int, payload: bytes) -> None:
        if payload and index > self.watch.highest_committed:  # each entry once, by its first applier
            entry = decode_entry(payload)
            for proposal in entry.proposals:
                self._look_at_proposal(proposal, max(entry.clock_ms, self.registry.clock_ms))
        super().apply(index, payload)

    def _look_at_proposal(self, proposal: Proposal, clock_ms: int) -> None:
        session, request = self.registry.session(proposal.origin), proposal.request
        if session is not None and proposal.incarnation < session.incarnation:
            self._meet("proposal of an earlier start refused")
        elif session is not None and (proposal.incarnation, proposal.seq) <= session:
            self._meet("duplicate proposal skipped by the state machine")
        elif request is not None and self.registry.outcome_of(request) is not None:
            self._meet("repeated request answered with its first outcome")
        elif clock_ms > proposal.expires_at_ms:
            self._meet("expired proposal refused")


def watch(run: Run) -> None:
    """Count what only the whole cluster shows. ``run`` was made with ``WatchfulEngine``."""
    cluster = run.cluster
    cluster.on_ending.append(partial(_ending, cluster))
    cluster.watch.on_deleted.append(partial(_deleted, cluster))


def _ending(cluster: Cluster, machine: Machine, power: bool) -> None:
    engine, met = machine.engine, cluster.watch.situations
    if not isinstance(engine, WatchfulEngine) or engine.failed is not None:
        return
    store, receiver = engine.snapshots._store, engine.snapshots._store._receiver
    if receiver is not None and receiver.next_offset > 0:
        met["snapshot receiver ends in the middle"] += 1
    if store.writing:
        met["power cut while a snapshot is written" if power else "kill while a snapshot is written"] += 1
    if power and engine._dropped_at_lsn > engine.journal.synced_lsn:
        met["power cut while the log is compacted"] += 1
    if power and len(engine.gate):
        met["promise lost with the power before it left"] += 1
    if len(engine.leadership.orderer) and engine.core.role == "leader":
        met["leader ends with proposals in its queue"] += 1
    if engine.admission.rejoin_from is not None and not engine.admission.done:
        met["rejoin interrupted"] += 1


def _deleted(cluster: Cluster, element: str) -> None:
    if element.startswith("owner") and cluster.network.cuts:
        cluster.watch.situations["lease ended during a partition"] += 1


def met(run: Run) -> dict[str, int]:
    """How often each situation was met; 0 for those that were not."""
    found = run.cluster.watch.situations
    found["truncation with a conflict"] = run.cluster.watch.truncations
    found["snapshot installed"] = run.cluster.watch.snapshots_installed
    unknown = set(found) - set(SITUATIONS)
    if unknown:
        raise KeyError(f"not listed: {', '.join(sorted(unknown))}")
    return {name: found[name] for name in SITUATIONS}
