"""What must hold at every moment of a run, whatever the network, the disks and the clocks do.

Everything is checked where it happens: an entry when it enters a log, a promise when it leaves a node, an index when it
is applied, positions after every turn. The first thing that does not hold is given to ``World.violate``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from artemis import snapshot
from artemis.consensus.engine import Engine
from artemis.consensus.journal import Journal
from artemis.consensus.status import Role
from artemis.consensus.wire import AppendReply, LogEntry, Message, VoteGranted, VoteRequest
from artemis.model import Compacted
from artemis.registry import Registry
from tests.simulation.world import World

LEASE_STEP_MS_MAX = 500
LEASE_STAMP_ERROR_MS = 200

AGE_SLACK_US = 2_000
"""A turn reads its clock a few times, and a long one moves it on."""


@dataclass(slots=True)
class _Memory:
    """What is remembered of one node, across its lives."""

    engine: ObservedEngine | None = None
    term: int = 0
    """Highest term it told anybody. Never less after a restart: it was on disk before it was told."""
    acknowledged: tuple[int, int, int | None] = (0, 0, None)
    """(term, index, term of that entry) of the latest entry it acknowledged to the leader of ``term``."""
    commit_index: int = 0
    applied_index: int = 0
    life_term: int = 0
    positions: tuple[object, ...] = ()
    """Term, indexes and journal as of the last turn: while they are the same there is nothing to check."""
    dead_journal: Journal | None = None
    """The log as it was when its last life ended: up to ``synced_index`` that is what its disk holds."""
    votes: dict[int, str] = field(default_factory=dict)
    burned_journal: Journal | None = None
    """What the disk held that this machine had before: its acknowledgements counted, and who has them still does."""


class Invariants:
    def __init__(self, world: World, members: tuple[str, ...]) -> None:
        self.world = world
        self.leaders: dict[int, str] = {}
        self.entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(index, term) -> (bytes, term of the entry before it)."""
        self.committed: dict[int, tuple[int, bytes]] = {}
        """index -> (term, payload), fixed by whoever applied it first."""
        self.states: dict[int, tuple[int, int, int, int]] = {}
        """index -> (revision, lease clock, digest, leases held by protection) after it was applied."""
        self.record_bytes_from: int | None = None
        """When set: keep the whole state of every node after each entry from this one on."""
        self.state_bytes: dict[int, dict[str, bytes]] = {}
        """index -> node -> encoded state."""
        self.on_deleted: list[Callable[[str], None]] = []
        """Told of each instance that left the registry, when the first node applies it."""
        self.on_turn: list[Callable[[], None]] = []
        """Called after every turn of a node."""
        self.situations: Counter[str] = Counter()
        """What the run has met; counted by ``situations``."""
        self._revision = 0
        self.highest_committed = 0
        self._committed_in: dict[int, int] = {}
        """term -> the highest index that was first applied by a node in that term."""
        self.age_drift: float | None = None
        """The most by which clock rates differ from 1; None: ages and the lease clock are not looked at."""
        self._lease_step = (0.0, 0)
        """(time, lease clock) when the last step of the lease clock was first applied anywhere."""
        self._first_applied_at: dict[int, float] = {}
        self.snapshots_installed = 0
        self.truncations = 0
        self.damaged: set[str] = set()
        """Nodes whose state was damaged on purpose: what it is, and what the node makes of it, is not looked at."""
        self._quorum = len(members) // 2 + 1
        self._nodes = {member: _Memory() for member in members}

    # lives

    def started(self, engine: ObservedEngine) -> None:
        node = self._nodes[engine.node_id]
        node.engine, node.dead_journal = engine, None
        node.life_term, node.positions = engine.core.term, ()
        node.commit_index, node.applied_index = engine.core.commit_index, engine.core.applied_index
        name = engine.node_id
        if engine.core.term < node.term:
            self._violate(name, f"restarted in term {engine.core.term}, but it had told others of term {node.term}")
        journal = engine.journal
        for position in range(len(journal)):
            self._entry_known(name, journal, journal[position])
        self._watch_log(name, journal)
        if engine.registry.applied_index:
            self._state(name, engine.core.applied_index, engine.registry)
        self.after_turn(engine)

    def disk_replaced(self, name: str) -> None:
        """Its log is gone, and so may be what it was told. What it told others still binds it; a vote for itself was
        counted by nobody else."""
        node = self._nodes[name]
        votes = {term: candidate for term, candidate in node.votes.items() if candidate != name}
        self._nodes[name] = _Memory(votes=votes, burned_journal=node.dead_journal)

    def ended(self, name: str) -> None:
        node = self._nodes[name]
        if node.engine is not None:
            node.dead_journal = node.engine.journal
            node.engine = None

    # logs

    def _watch_log(self, name: str, journal: Journal) -> None:
        add, truncate = journal.add, journal.deleteEntriesFrom

        def watched_add(command: bytes, idx: int, term: int) -> None:
            add(command, idx, term)
            self._entry_known(name, journal, (command, idx, term))

        def watched_truncate(entryFrom: int) -> None:
            if entryFrom < len(journal):
                self.truncations += 1
                index = journal[entryFrom][1]
                committed = self.committed.get(index)
                if committed is not None and committed[0] == journal[entryFrom][2]:
                    self._violate(name, f"deletes the committed entry {index} of term {committed[0]} from its log")
            truncate(entryFrom)

        journal.add = watched_add  # type: ignore[method-assign]
        journal.deleteEntriesFrom = watched_truncate  # type: ignore[method-assign]

    def _entry_known(self, name: str, journal: Journal, entry: LogEntry) -> None:
        """Log matching: index and term determine the entry and the one before it, in any log at any time."""
        command, index, term = entry
        before = journal.term_at(index - 1)
        known = self.entries.get((index, term))
        if known is None:
            self.entries[(index, term)] = (command, -1 if before is None else before)
            return
        if known[0] != command:
            self._violate(name, f"entry {index} of term {term} differs from the one seen before")
        if before is not None and known[1] != before:
            if known[1] >= 0:
                self._violate(name, f"entry {index} of term {term} follows term {before}, elsewhere term {known[1]}")
            self.entries[(index, term)] = (command, before)

    # leadership

    def role_changed(self, engine: ObservedEngine, role: Role) -> None:
        name, term = engine.node_id, engine.core.term
        self.world.note(f"{name} {role} of term {term}")
        if role != "leader":
            return
        other = self.leaders.setdefault(term, name)
        if other != name:
            self._violate(name, f"leads term {term}, and so did {other}")
        # Leader completeness: what was committed in earlier terms is in its log. (In later ones a new leader may have
        # committed more: this one was stopped as a candidate, and now reads its votes.)
        top = max((index for earlier, index in self._committed_in.items() if earlier < term), default=0)
        if top and engine.core.applied_index < top:
            found = engine.journal.term_at(top)
            if found != self.committed[top][0]:
                self._violate(name, f"leads term {term} without the committed entry {top} (has term {found} there)")

    # promises

    def sent(self, engine: ObservedEngine, peer: str, message: Message) -> None:
        node = self._nodes[engine.node_id]
        if isinstance(message, AppendReply):
            if message.success:
                self._acknowledged(engine, node, message.term, message.next_index - 1)
        elif isinstance(message, VoteGranted):
            self._voted(engine, node, message.term, peer)
        elif isinstance(message, VoteRequest):
            self._voted(engine, node, message.term, engine.node_id)

    def _acknowledged(self, engine: ObservedEngine, node: _Memory, term: int, index: int) -> None:
        node.term = max(node.term, term)
        if term != engine.core.term:
            return  # it waited for the disk while the term changed: nobody of this term counts on it
        known_term, known_index, _ = node.acknowledged
        if term > known_term or (term == known_term and index > known_index):
            journal = engine.journal
            if index > journal.last_index:
                self._violate(engine.node_id, f"acknowledges entry {index}, its log ends at {journal.last_index}")
            node.acknowledged = (term, index, journal.term_at(index))

    def _voted(self, engine: ObservedEngine, node: _Memory, term: int, candidate: str) -> None:
        node.term = max(node.term, term)
        voted = node.votes.setdefault(term, candidate)
        if voted != candidate:
            self._violate(engine.node_id, f"votes for {candidate} in term {term} after voting for {voted}")

    # applying

    def applying(self, engine: ObservedEngine, index: int, payload: bytes) -> None:
        name, node = engine.node_id, self._nodes[engine.node_id]
        if index != node.applied_index + 1:
            self._violate(name, f"applies entry {index} after {node.applied_index}")
        node.applied_index = index
        term = engine.journal.term_at(index)
        if term is None:
            self._violate(name, f"applies entry {index}, which its log does not hold")
            return
        first = self.committed.setdefault(index, (term, payload))
        if first != (term, payload):
            self._violate(name, f"applies another entry {index} (term {term}, not {first[0]}) than the first applier")
        elif index > self.highest_committed:
            self.highest_committed = index
            self._committed_in[engine.core.term] = index
            self._first_applied_at[index] = self.world.now
            self._durable_on_a_quorum(name, index, term)

    def applied(self, engine: ObservedEngine, index: int) -> None:
        self._state(engine.node_id, index, engine.registry)
        if self.age_drift is not None and engine.registry.clock_ms > self._lease_step[1]:
            self._lease_clock_moved(engine, self.age_drift)
        if engine.registry.revision > self._revision:
            self._tell_deletions(engine.registry)
        if self.record_bytes_from is not None and index >= self.record_bytes_from:
            by_node = self.state_bytes.setdefault(index, {})
            by_node[engine.node_id] = b"".join(snapshot.encode(engine.registry.freeze()))

    def _lease_clock_moved(self, engine: ObservedEngine, drift: float) -> None:
        """A step counts the time since the one before it was committed, with what that lasted as far as the error of
        stamps allows, and at most half a second: owners that could not renew meanwhile must not pay for it."""
        (before, clock_ms), now = self._lease_step, self.world.now
        moved_ms = engine.registry.clock_ms - clock_ms
        self._lease_step = (now, engine.registry.clock_ms)
        most_ms = min(LEASE_STEP_MS_MAX, (now - before) * 1000 * (1 + drift) + LEASE_STAMP_ERROR_MS + 2)
        if moved_ms > most_ms:
            self._violate(engine.node_id, f"moves the lease clock by {moved_ms} ms, at most {most_ms:.0f} are allowed")

    def installed(self, engine: ObservedEngine, index: int) -> None:
        node = self._nodes[engine.node_id]
        if node.engine is not engine:
            return  # it recovers; ``started`` looks at the result
        self.snapshots_installed += 1
        self.world.note(f"{engine.node_id} installs a snapshot up to {index}")
        if index <= node.applied_index:
            self._violate(engine.node_id, f"goes back from entry {node.applied_index} to a snapshot at {index}")
        node.applied_index = index
        self._state(engine.node_id, index, engine.registry)

    def _state(self, name: str, index: int, registry: Registry) -> None:
        """State-machine safety: one state per index."""
        if name in self.damaged:
            return
        state = (registry.revision, registry.clock_ms, registry.digest, registry.held(None))
        first = self.states.setdefault(index, state)
        if first != state:
            self._violate(name, f"is in state {state} at entry {index}, another node was in {first}")

    def _tell_deletions(self, registry: Registry) -> None:
        """To whom it may concern, once each: this node is the first to apply them."""
        changes = registry.changes_since(self._revision)
        self._revision = registry.revision
        if not isinstance(changes, Compacted):
            for change in changes:
                if change.type == "delete":
                    for told in self.on_deleted:
                        told(change.instance.instance_id)

    def _durable_on_a_quorum(self, name: str, index: int, term: int) -> None:
        holders = [member for member, node in self._nodes.items() if self._on_disk(node, index, term)]
        if len(holders) < self._quorum:
            self._violate(name, f"applies entry {index} of term {term}, which is on the disks of {holders} only")

    @staticmethod
    def _on_disk(node: _Memory, index: int, term: int) -> bool:
        journals = (node.dead_journal if node.engine is None else node.engine.journal, node.burned_journal)
        return any(journal is not None and Invariants._holds(journal, index, term) for journal in journals)

    @staticmethod
    def _holds(journal: Journal, index: int, term: int) -> bool:
        if journal.first_index > index:
            return True  # below the log is a snapshot, which was on disk before the log was cut
        return journal.synced_index >= index and journal.term_at(index) == term

    # every turn

    def after_turn(self, engine: ObservedEngine) -> None:
        core, name = engine.core, engine.node_id
        node = self._nodes[name]
        term, commit_index, applied_index = core.term, core.commit_index, core.applied_index
        positions = (term, commit_index, applied_index, engine.journal.lsn, node.acknowledged)
        if positions != node.positions:
            node.positions = positions
            self._positions(engine, node, term, commit_index, applied_index)
        if self.age_drift is not None and applied_index < self.highest_committed:
            self._age(engine, applied_index, self.age_drift)
        differs = engine.digests.reason()
        if differs is not None and not self.damaged:
            self._violate(name, f"calls its state wrong, which nobody damaged: {differs}")
        for look in self.on_turn:
            look()

    def _positions(
        self, engine: ObservedEngine, node: _Memory, term: int, commit_index: int, applied_index: int
    ) -> None:
        name = engine.node_id
        if term < node.life_term or commit_index < node.commit_index:
            self._violate(name, f"goes back from term {node.life_term}, commit {node.commit_index}")
        if applied_index > commit_index:
            self._violate(name, f"applied {applied_index}, committed {commit_index}")
        node.life_term, node.commit_index = term, commit_index
        acked_term, acked_index, entry_term = node.acknowledged
        if acked_term == term and acked_index >= engine.journal.first_index:
            found = engine.journal.term_at(acked_index)
            if found != entry_term and entry_term is not None:
                self._violate(name, f"acknowledged entry {acked_index} in this term {term} and lacks it (has {found})")

    def _age(self, engine: ObservedEngine, applied_index: int, drift: float) -> None:
        """Its state lacks an entry that was applied elsewhere that long ago, so it must not call itself fresher."""
        since = self._first_applied_at.get(applied_index + 1)
        if since is None:
            return  # the first to apply what followed installed a snapshot over it
        lacking_us = (self.world.now - since) * 1e6
        if engine.core.age_us() < lacking_us * (1 - 3 * drift) - AGE_SLACK_US:
            age_ms = engine.core.age_us() // 1000
            self._violate(engine.node_id, f"says it is {age_ms} ms old, and lacks an entry for {lacking_us / 1000:.0f}")

    def _violate(self, name: str, text: str) -> None:
        self.world.violate(f"{name} {text}")


class ObservedEngine(Engine):
    """The engine as it is; what it does is looked at on the way."""

    watch: Invariants
    observed = False

    def observe(self, watch: Invariants) -> None:
        self.watch = watch
        self.observed = True

    def on_role(self, role: Role) -> None:
        super().on_role(role)
        if self.observed:
            self.watch.role_changed(self, role)

    def send(self, peer: str, message: Message) -> None:
        self.watch.sent(self, peer, message)
        super().send(peer, message)

    def apply(self, index: int, payload: bytes) -> None:
        self.watch.applying(self, index, payload)
        super().apply(index, payload)
        self.watch.applied(self, index)

    def replace_registry(self, registry: Registry, index: int) -> None:
        super().replace_registry(registry, index)
        if self.observed:
            self.watch.installed(self, index)

    def on_message(self, peer: str, message: Message) -> None:
        super().on_message(peer, message)
        if self.observed and not self._step_scheduled:
            self.watch.after_turn(self)  # no step follows: this was the turn

    def _advance(self) -> None:
        super()._advance()
        self.watch.after_turn(self)
