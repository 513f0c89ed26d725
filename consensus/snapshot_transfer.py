"""A snapshot on its way into a file: from the local state (``SnapshotWriter``), from a leader (``SnapshotReceiver``).

Both run as a chain of small jobs. What belongs to jobs and what to the engine's thread is said at each field; the
queue's order is what makes them agree.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from artemis.consensus.ports import AppendFile, Disk, DiskQueue
from artemis.consensus.snapshot_file import Sealer, SnapshotHeader
from artemis.errors import DataDamaged

WRITING: Final = "snapshot-write.tmp"

SYNC_BYTES: Final = 8 * 1024 * 1024
"""A file in the making is synced this often: ext4 may make the journal's fdatasync wait for the dirty pages of other
files, and few of them are a short wait."""

Received = tuple[SnapshotHeader, bytes]


class _TemporaryFile:
    """The jobs' side: a file begun anew, and synced every ``SYNC_BYTES``."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._file: AppendFile | None = None
        self._dirty_bytes = 0

    def write(self, data: bytes) -> None:
        if self._file is None:
            if self._name in self._disk.names():  # of an attempt that failed
                self._disk.remove(self._name)
            self._file = self._disk.append(self._name)
        self._file.write(data)
        self._dirty_bytes += len(data)
        if self._dirty_bytes >= SYNC_BYTES:
            self._file.sync()
            self._dirty_bytes = 0

    def seal(self) -> None:
        if self._file is not None:
            self._file.sync()
            self._file.close()

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # it only takes space, and goes at the next start at the latest
                self._file.close()
                self._disk.remove(self._name)


class SnapshotWriter:
    """Writes one snapshot: create, chunk after chunk, trailer, sync, publish. See ``SnapshotStore.write``."""

    def __init__(
        self,
        disk: Disk,
        header: SnapshotHeader,
        chunks: Iterator[bytes],
        queue: DiskQueue,
        publish: Callable[[str, SnapshotHeader], bool],
        finished: Callable[[int | BaseException | None], None],
    ) -> None:
        self._header = header
        self._chunks = chunks
        self._queue = queue
        self._publish = publish
        self._finished = finished
        """Gets the size of the published file, None if a newer one was there, or the error."""
        self._sealer = Sealer(header)
        self._file = _TemporaryFile(disk, WRITING)
        self._size = 0

    def begin(self) -> None:
        self._queue.submit(lambda: self._write(self._sealer.start), self._written)

    def _written(self, result: BaseException | None) -> None:
        if result is not None:
            self._queue.submit(self._file.discard, lambda _: self._finished(result))
            return
        chunk = next(self._chunks, None)
        if chunk is None:
            self._queue.submit(self._end, self._ended)
        else:
            self._queue.submit(lambda: self._write_chunk(chunk), self._written)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def _write_chunk(self, chunk: bytes) -> None:
        self._sealer.add(chunk)
        self._write(chunk)

    def _end(self) -> int | None:
        self._write(self._sealer.end())
        self._file.seal()
        return self._size if self._publish(WRITING, self._header) else None

    def _ended(self, result: int | BaseException | None) -> None:
        if isinstance(result, BaseException):
            self._written(result)
        else:
            self._finished(result)


class SnapshotReceiver:
    """The snapshot ``index``, ``term`` of ``total`` bytes that a leader sends. Made by ``SnapshotStore``.

    Chunks come in order. What is taken goes to the file, so memory holds what is queued: answer the leader when
    ``done`` says that a chunk is written, and it is one chunk.
    """

    def __init__(
        self,
        disk: Disk,
        index: int,
        term: int,
        total: int,
        queue: DiskQueue,
        name: str,
        verify: Callable[[SnapshotReceiver], None],
    ) -> None:
        self.name = name
        self.index = index
        self.term = term
        self.total = total
        self.queue = queue
        self.next_offset = 0
        """Where the next chunk belongs: all before it was taken (and is written, or about to be)."""
        self.failed = False
        self.done: Callable[[Received | BaseException], None] = _nobody
        self._verify = verify
        self.finishing = False
        self._file = _TemporaryFile(disk, name)

    def expects(self, index: int, term: int, total: int) -> bool:
        """It is this one, and more of it is welcome."""
        return (self.index, self.term, self.total) == (index, term, total) and not (self.failed or self.finishing)

    def receive(self, offset: int, data: bytes, done: Callable[[int | BaseException], None]) -> bool:
        """Take ``data`` if it belongs at ``next_offset``; False (and ``done`` never called) if not.

        ``done`` gets the offset behind it once it is in the file. After an error start again: ``failed`` stays.
        Raises ``DataDamaged`` for more bytes than were announced.
        """
        if self.failed or self.finishing or offset != self.next_offset:
            return False
        if offset + len(data) > self.total:
            self.abandon()
            raise DataDamaged(f"snapshot {self.index}: more than the announced {self.total} bytes")
        self.next_offset = after = offset + len(data)

        def written(result: BaseException | None) -> None:
            if result is None and self.failed:  # given up for another snapshot while this was written
                result = OSError(errno.ECANCELED, "given up for another snapshot")
            if result is None:
                done(after)
            else:
                self.abandon()
                done(result)

        self.queue.submit(lambda: self._write(data), written)
        return True

    def finish(self, done: Callable[[Received | BaseException], None]) -> None:
        """All bytes were taken (else ``RuntimeError``): check them, make the snapshot the newest on disk, hand it over.

        ``done`` gets ``DataDamaged`` if it is not the announced one or not as it was made: ask for it again from 0.
        One that is not newer than the newest here is handed over too, but not kept.
        """
        if self.failed or self.finishing or self.next_offset != self.total:
            raise RuntimeError("the snapshot is not complete")
        self.finishing = True
        self.done = done

        def sealed(result: BaseException | None) -> None:
            if result is None:
                self._verify(self)
            else:
                self.abandon()
                done(result)

        self.queue.submit(self._file.seal, sealed)

    def abandon(self) -> None:
        """Take no more, and drop what there is."""
        if not self.failed:
            self.failed = True
            self.queue.submit(self._file.discard, _dropped)

    def _write(self, data: bytes) -> None:
        if self.failed:  # set by the engine's thread; a stale value only means one more useless write
            raise OSError(errno.EIO, "an earlier part of this snapshot could not be written")
        self._file.write(data)


def _dropped(result: BaseException | None) -> None:
    if result is not None:
        raise result


def _nobody(_result: Received | BaseException) -> None:
    raise RuntimeError("nobody waits for this snapshot")
