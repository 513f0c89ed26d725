"""Do the members hold the same state? What Raft makes equal are the logs; this looks at what came of them.

Every entry that takes the lease clock into another ``CHECKPOINT_MS`` is a checkpoint, on every node the same entry.
There each member takes the digest of its state and tells the others. Who reads n digests of one entry knows:

- a majority holds the same and so does this node: its state is right, and members that hold another one are named;
- a majority holds the same and this node does not: its state is wrong, by a fault of memory, hardware or code. It is
  *quarantined*: it serves nobody and leads no more until it is started again. Its log is as good as any other, so it
  goes on voting and storing entries;
- digests differ and no majority holds one (a member is away): nobody can tell who is wrong. After ``DOUBT_SECONDS``
  none of those that differ serves; they go on as members, so that the one that is away can decide when it is back.

The digest of the records is kept by addition as they change, so a record that is damaged where it lies shows only when
it is changed next. Therefore all records are read over and over, a few at a time, and their digest compared with the
one that was kept: memory that does not hold what was written is found without the others.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from artemis.consensus.wire import Message, StateDigest
from artemis.model import Record
from artemis.registry import Registry
from artemis.services import digest_of

log = logging.getLogger("artemis.consensus")

CHECKPOINT_MS = 1_000
"""Of lease time: seldom enough to cost nothing, often enough that a wrong state is found within two seconds."""

DIGEST_FORMAT = 1
"""What goes into a digest. Members that compute it differently (another version) compare nothing."""

CHECKPOINTS_KEPT = 64
"""A member that lags by more checkpoints than that is not compared until it has caught up."""

REPORT_SECONDS = 0.5
"""Checkpoints that follow faster are not told: a node that replays its log passes an hour of them in a second."""

DOUBT_SECONDS = 2.0
"""How long digests may differ without a majority. The third one is normally there within milliseconds."""

REREAD_AT_ONCE = 1_000
"""Most records that are read again in one turn: 1 ms."""

REREAD_PAUSE_SECONDS = 0.02


class Host(Protocol):
    """What this part asks of the engine."""

    node_id: str
    registry: Registry

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def on_quarantined(self, reason: str) -> None:
        """This node's state is wrong."""


class StateDigests:
    """One node's comparison. ``on_applied`` after each entry, ``on_report`` for what others say."""

    def __init__(self, host: Host, peers: tuple[str, ...], reread_per_second: int) -> None:
        self._reread_per_second = reread_per_second
        self._host = host
        self._peers = peers
        self._majority = (len(peers) + 1) // 2 + 1
        self._digests: dict[int, dict[str, int]] = {}
        """entry index -> member -> digest, the newest ``CHECKPOINTS_KEPT`` of them"""
        self._checkpoint = 0
        self._reported_at = float("-inf")
        self._reread = Reread(host.registry)
        self._reread_at = host.now()
        self._doubt: tuple[float, int, str] | None = None
        """Since when, at which entry, and with whom."""
        self.quarantined: str | None = None
        """Why this node's state is wrong; for good, until the process ends."""
        self.verified_index = 0
        """The last entry at which a majority held what this node holds."""
        self.differing: dict[str, int] = {}
        """Members whose state is wrong, and the entry at which that was seen last."""
        self.on_replaced()

    def reason(self) -> str | None:
        """Why this node must not answer from its state; None when it may."""
        if self.quarantined is not None:
            return self.quarantined
        if self._doubt is not None and self._host.now() - self._doubt[0] >= DOUBT_SECONDS:
            return f"its state differs from that of {self._doubt[2]} at entry {self._doubt[1]}, and no majority decides"
        return None

    def on_replaced(self) -> None:
        """Another state has taken the place of this one (a snapshot)."""
        self._checkpoint = self._host.registry.clock_ms // CHECKPOINT_MS
        self._reread = Reread(self._host.registry)

    def on_applied(self, index: int) -> None:
        registry, now = self._host.registry, self._host.now()
        self._read_again(now)
        checkpoint = registry.clock_ms // CHECKPOINT_MS
        if checkpoint == self._checkpoint:
            return
        self._checkpoint = checkpoint
        digest = registry.state_digest()
        self._note(index, self._host.node_id, digest)
        if now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            for peer in self._peers:
                self._host.send(peer, StateDigest(index, digest, DIGEST_FORMAT))

    def on_report(self, peer: str, message: StateDigest) -> None:
        if message.format == DIGEST_FORMAT:
            self._note(message.index, peer, message.digest)

    def _note(self, index: int, member: str, digest: int) -> None:
        of_entry = self._digests.setdefault(index, {})
        of_entry[member] = digest
        if len(self._digests) > CHECKPOINTS_KEPT:
            del self._digests[min(self._digests)]
        own = of_entry.get(self._host.node_id)
        if own is not None:
            self._judge(index, own, of_entry)

    def _judge(self, index: int, own: int, of_entry: dict[str, int]) -> None:
        held, holders = Counter(of_entry.values()).most_common(1)[0]
        if holders >= self._majority:
            self._decided(index, held, of_entry)
            return
        others = [peer for peer, digest in sorted(of_entry.items()) if digest != own and peer not in self.differing]
        if others and index > self.verified_index and self._doubt is None:
            self._doubt = (self._host.now(), index, ", ".join(others))

    def _decided(self, index: int, held: int, of_entry: dict[str, int]) -> None:
        if of_entry[self._host.node_id] != held:
            self._quarantine(f"its state differs from that of a majority at entry {index}")
            return
        self.verified_index = max(self.verified_index, index)
        if self._doubt is not None and index >= self._doubt[1]:
            self._doubt = None
        for member, digest in of_entry.items():
            if digest == held:
                if self.differing.get(member, index) < index:
                    del self.differing[member]
                    log.warning("the state of %s is again that of a majority, at entry %d", member, index)
            elif self.differing.get(member, 0) < index:
                if member not in self.differing:
                    log.error("the state of %s differs from that of a majority at entry %d", member, index)
                self.differing[member] = index

    def _read_again(self, now: float) -> None:
        seconds = now - self._reread_at
        if seconds < REREAD_PAUSE_SECONDS:
            return
        self._reread_at = now
        wrong = self._reread.advance(min(int(seconds * self._reread_per_second), REREAD_AT_ONCE))
        if wrong is not None:
            self._quarantine(wrong)
        elif self._reread.finished:
            self._reread = Reread(self._host.registry)

    def _quarantine(self, reason: str) -> None:
        if self.quarantined is None:
            self.quarantined = reason
            log.critical("this node serves nobody until it is started again: %s", reason)
            self._host.on_quarantined(reason)


class Reread:
    """One pass over all records as they are at its start. They are immutable, so the state may go on changing."""

    def __init__(self, registry: Registry) -> None:
        self._expected = registry.digest
        self._count = registry.instance_count
        self._services = registry.frozen_services()
        self._records: list[Record] = []
        self._sum = 0
        self._read = 0

    @property
    def finished(self) -> bool:
        return self._read >= self._count

    def advance(self, count: int) -> str | None:
        """Read ``count`` more. At the end: what is wrong, if anything is."""
        if count:
            # Those read are let go: of records that were replaced meanwhile this list alone holds the old ones, and
            # freeing 100,000 of them at the end would take 100 ms in one piece.
            while len(self._records) < count and self._services:
                self._records += self._services.pop().records
            self._sum += digest_of(self._records[-count:])
            del self._records[-count:]
            self._read += count
        found = self._sum & (2**64 - 1)
        if not self.finished or found == self._expected:
            return None
        return f"its {self._count} records have digest {found:016x} and had {self._expected:016x} when they were stored"
