"""When snapshots are taken, sent, received and installed.

Taking: once the log has grown enough, the state is frozen (shallow copies), encoded in slices between other work, and
the log's prefix goes only when the file is complete and renamed. Sending: chunk by chunk, each after the follower's
answer, so a heartbeat never waits behind a snapshot. Installing: after every byte was verified and is on disk, never
over a state that is as new, and answered only when the journal that begins with it is on disk too (hazard E).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from artemis import snapshot
from artemis.consensus.advice import REPLACE
from artemis.consensus.core import RaftCore
from artemis.consensus.journal import Journal
from artemis.consensus.ports import DiskQueue
from artemis.consensus.snapshots import SnapshotHeader, SnapshotReader, SnapshotStore
from artemis.consensus.timing import Bounds
from artemis.consensus.wire import Message, RejoinIndex, SnapshotChunk, SnapshotReply
from artemis.errors import DataDamaged
from artemis.registry import Registry

log = logging.getLogger("artemis.consensus")

RESEND_SECONDS = 2.0
"""A chunk that is not answered by then is sent again: the answer's link may have broken."""

RETRY_SECONDS = 10.0
"""After a snapshot that could not be written (disk full), how long until the next attempt."""


class Host(Protocol):
    """What this part asks of the engine."""

    core: RaftCore
    journal: Journal
    registry: Registry
    cluster: str

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def send_when_durable(self, peer: str, message: Message) -> None: ...

    def replace_registry(self, registry: Registry, index: int) -> None: ...

    def on_snapshot_installed(self, index: int) -> None: ...

    def wake(self) -> None: ...


@dataclass(slots=True)
class _Feed:
    """A snapshot on its way to one follower."""

    reader: SnapshotReader
    rejoins: bytes | None = None
    """For a member that lost its data: the journal that asked for it."""
    offset: int = 0
    sent_at: float = 0.0


class Snapshotting:
    def __init__(self, host: Host, store: SnapshotStore, queue: DiskQueue, bounds: Bounds) -> None:
        self._host = host
        self._store = store
        self._queue = queue
        self._bounds = bounds
        self._feeds: dict[str, _Feed] = {}
        self._installing: tuple[int, int] | None = None
        self._not_before = float("-inf")
        self._wanted: dict[str, tuple[int, bytes]] = {}  # rejoining members: (least index, journal that asked)

    @property
    def index(self) -> int:
        """The last entry that the newest snapshot covers; 0 without one."""
        return self._store.latest.index if self._store.latest else 0

    # -- start -------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Load the newest snapshot and make the log begin where it ends. Raises ``DataDamaged``."""
        journal, core = self._host.journal, self._host.core
        if self._store.latest is None:
            if journal.first_index > 1:
                raise DataDamaged(
                    f"the journal begins at entry {journal.first_index} and the snapshot before it is missing:"
                    f" put that file back, or {REPLACE}"
                )
            return
        header, state = self._store.load()
        if journal.first_index >= header.index:
            raise DataDamaged(
                f"the journal begins at entry {journal.first_index}, the newest snapshot ends at {header.index}:"
                f" what lies between is missing; put those files back, or {REPLACE}"
            )
        if journal.term_at(header.index) != header.term:
            # Killed after the snapshot was installed and before the journal followed: what the journal has is older,
            # or differs from what is committed.
            journal.reset([header.previous, header.last])
        core.restore(header.index)
        self._host.replace_registry(snapshot.decode(state), header.index)

    # -- taking ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now = self._host.now()
        grown = self._host.core.applied_index - self.index
        too_long = grown >= self._bounds.snapshot_log_entries
        if (too_long or (self._log_too_big() and grown > 1) or self._wanted) and now >= self._not_before:
            self.take()
        for peer, feed in self._feeds.items():
            if now - feed.sent_at >= RESEND_SECONDS:
                self._send_chunk(peer, feed)

    def take(self) -> None:
        """Take one now, if there is anything new to take and none is being written."""
        index = self._host.core.applied_index
        if self._store.writing or index <= self.index or index < 2:
            return
        position = index - self._host.journal.first_index
        if position < 1:
            return
        previous, last = self._host.journal[position - 1], self._host.journal[position]
        header = SnapshotHeader(self._host.cluster, index, last[2], previous, last)
        self._store.write(header, snapshot.encode(snapshot.freeze(self._host.registry)), self._queue, self._taken)

    def _taken(self, result: SnapshotHeader | BaseException) -> None:
        if isinstance(result, BaseException):
            log.error("snapshot not written, the log keeps growing: %s", result)
            self._not_before = self._host.now() + RETRY_SECONDS
            return
        log.info("snapshot up to entry %d written", result.index)
        for peer, (index, journal_id) in list(self._wanted.items()):
            self.feed_from(peer, index, journal_id)
        keep_from = result.index - 1 - self._trailing(result.index - 1)
        if not self._log_too_big():
            # A follower needs what comes behind the snapshot it is being sent: dropping that too would send it the next
            # snapshot, and the next, for as long as they are taken faster than one travels.
            keep_from = min([keep_from, *(feed.reader.header.index - 1 for feed in self._feeds.values())])
        if keep_from > self._host.journal.first_index:
            self._host.core.drop_prefix(keep_from)
            self._host.wake()

    def _log_too_big(self) -> bool:
        return self._host.journal.entry_bytes >= max(self._bounds.snapshot_log_bytes, self._store.size_bytes)

    def _trailing(self, index: int) -> int:
        """How many of the entries below ``index`` to keep."""
        journal, room = self._host.journal, self._bounds.snapshot_log_bytes // 4
        most = min(self._bounds.snapshot_trailing_entries, index - journal.first_index)
        for count in range(most):
            room -= len(journal[index - 1 - count - journal.first_index][0])
            if room < 0:
                return count
        return max(0, most)

    # -- sending, as leader ------------------------------------------------------------------------------------------

    def feed(self, peer: str) -> None:
        """The log does not reach back to what ``peer`` needs: send the newest snapshot, if that is not under way."""
        if peer in self._feeds or self._store.latest is None:
            return
        self._start(peer, _Feed(self._store.reader()))

    def _start(self, peer: str, feed: _Feed) -> None:
        self._feeds[peer] = feed
        log.info("sending snapshot up to entry %d (%d bytes) to %s", feed.reader.header.index, feed.reader.total, peer)
        self._send_chunk(peer, feed)

    def feed_from(self, peer: str, index: int, journal_id: bytes) -> None:
        """Send ``peer``, which rejoins with that journal, a snapshot that ends at ``index`` or later."""
        self._end(peer)
        if self.index >= index:
            self._wanted.pop(peer, None)
            self._start(peer, _Feed(self._store.reader(), rejoins=journal_id))
        else:
            self._wanted[peer] = (index, journal_id)
            self.take()

    def serving_rejoin(self, peer: str, journal_id: bytes) -> bool:
        wanted, feed = self._wanted.get(peer), self._feeds.get(peer)
        return (wanted is not None and wanted[1] == journal_id) or (feed is not None and feed.rejoins == journal_id)

    def feeding(self, peer: str) -> bool:
        return peer in self._feeds

    def on_reply(self, peer: str, reply: SnapshotReply) -> None:
        feed = self._feeds.get(peer)
        if feed is None or reply.index != feed.reader.header.index:
            return
        if reply.next_offset >= feed.reader.total:
            self._end(peer)
            self._host.core.on_snapshot_installed(peer, reply.index)
            return
        feed.offset = reply.next_offset
        self._send_chunk(peer, feed)

    def on_disconnected(self, peer: str) -> None:
        """The leader starts again when it finds that the follower still lacks entries; the follower kept its part."""
        self._wanted.pop(peer, None)
        self._end(peer)

    def stop_feeding(self) -> None:
        self._wanted.clear()
        for peer in list(self._feeds):
            self._end(peer)

    def _end(self, peer: str) -> None:
        feed = self._feeds.pop(peer, None)
        if feed is not None:
            feed.reader.release(self._queue)

    def _send_chunk(self, peer: str, feed: _Feed) -> None:
        feed.sent_at = self._host.now()
        offset, header = feed.offset, feed.reader.header

        def sent(data: bytes | BaseException) -> None:
            if self._feeds.get(peer) is not feed or feed.offset != offset:
                return
            if isinstance(data, BaseException):
                log.error("snapshot %d cannot be read: %s", header.index, data)
                self._end(peer)
                return
            term = self._host.core.term
            if feed.rejoins is not None:
                # With each piece: the link may have been down when the feed began, or have lost it since.
                self._host.send(peer, RejoinIndex(term, header.index, feed.rejoins))
            self._host.send(peer, SnapshotChunk(term, header.index, header.term, feed.reader.total, offset, data))

        self._queue.submit(lambda: feed.reader.read(offset, self._bounds.snapshot_chunk_bytes), sent)

    # -- receiving, as follower --------------------------------------------------------------------------------------

    def on_chunk(self, peer: str, chunk: SnapshotChunk) -> None:
        if self._has(chunk.index, chunk.index_term):
            # An older snapshot over a newer state would take back what is applied (hazard E4). A rejoining member may
            # have installed it in its last life.
            self._host.on_snapshot_installed(chunk.index)
            self._host.send_when_durable(peer, SnapshotReply(self._host.core.term, chunk.index, chunk.total))
            return
        if self._installing is not None:
            return
        receiver = self._store.start_receive(chunk.index, chunk.index_term, chunk.total, self._queue)

        def written(result: int | BaseException) -> None:
            if isinstance(result, BaseException):
                log.error("snapshot %d cannot be stored: %s", chunk.index, result)
            elif result < chunk.total:
                self._host.send(peer, SnapshotReply(self._host.core.term, chunk.index, result))
            else:
                self._installing = (chunk.index, chunk.index_term)
                receiver.finish(verified)

        def verified(result: tuple[SnapshotHeader, bytes] | BaseException) -> None:
            if isinstance(result, BaseException):
                self._not_installed(peer, chunk, result)
                return
            header, state = result

            def decoded(registry: Registry | BaseException) -> None:
                if isinstance(registry, BaseException):
                    self._not_installed(peer, chunk, registry)
                else:
                    self._install(peer, chunk, header, registry)

            self._queue.submit(lambda: snapshot.decode(state), decoded)

        if not receiver.receive(chunk.offset, chunk.data, written):
            reply = SnapshotReply(self._host.core.term, chunk.index, receiver.next_offset)
            self._host.send(peer, reply)

    def _has(self, index: int, term: int) -> bool:
        return index <= self._host.core.commit_index or self._host.journal.term_at(index) == term

    def _not_installed(self, peer: str, chunk: SnapshotChunk, error: BaseException) -> None:
        log.error("snapshot %d from %s is not installed: %s", chunk.index, peer, error)
        self._installing = None
        self._host.send(peer, SnapshotReply(self._host.core.term, chunk.index, 0))

    def _install(self, peer: str, chunk: SnapshotChunk, header: SnapshotHeader, registry: Registry) -> None:
        self._installing = None
        if not self._has(header.index, header.term):
            log.info("installed snapshot up to entry %d from %s", header.index, peer)
            self._host.journal.reset([header.previous, header.last])
            self._host.core.restore(header.index)
            self._host.replace_registry(registry, header.index)
        self._host.on_snapshot_installed(header.index)
        self._host.send_when_durable(peer, SnapshotReply(self._host.core.term, header.index, chunk.total))
        self._host.wake()
