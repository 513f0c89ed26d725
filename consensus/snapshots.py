"""The newest snapshot of the state on disk: written aside, synced, renamed, verified, never replaced by an older one.

Files: ``snapshot-<index>-<term>.bin``, and ``snapshot-….tmp`` while one is made or received. Only the newest counts;
others are kept as long as a reader sends them to a follower. A damaged newest one stops the node (``DataDamaged``),
even with an older one beside it: the log in between may be gone already.

Jobs: give every call the same ``DiskQueue``, and another one than the journal's. Chunks are written one per job, so a
shared queue would work, but the sync and the check of a large file take as long as they take, and no acknowledgement
should wait behind them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from artemis.consensus import snapshot_file
from artemis.consensus.advice import REPLACE
from artemis.consensus.ports import Disk, DiskQueue
from artemis.consensus.snapshot_file import SnapshotHeader
from artemis.consensus.snapshot_transfer import SnapshotReceiver, SnapshotWriter
from artemis.errors import DataDamaged, InvalidInput

__all__ = ["SnapshotHeader", "SnapshotReader", "SnapshotReceiver", "SnapshotStore"]

_NAME: Final = re.compile(r"snapshot-\d{20}-\d{20}\.bin")
_TEMPORARY: Final = re.compile(r"snapshot-.*\.tmp")


def _file_name(header: SnapshotHeader) -> str:
    return f"snapshot-{header.index:020d}-{header.term:020d}.bin"


class SnapshotReader:
    """A snapshot that stays readable, for sending it to a follower, while newer ones appear."""

    def __init__(self, store: SnapshotStore, disk: Disk, header: SnapshotHeader, total: int) -> None:
        self.header = header
        self.total = total
        """Bytes of the file, which is what travels: the receiver checks all of it."""
        self._store = store
        self._disk = disk
        self._name = _file_name(header)
        self._released = False

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes. Blocks on the disk: call it in a job."""
        return self._disk.read_range(self._name, offset, size)

    def release(self, queue: DiskQueue) -> None:
        """The file may go once it is not the newest any more. Calling it again does nothing."""
        if not self._released:
            self._released = True
            self._store.reader_released(self._name, queue)


class SnapshotStore:
    """See the module. Every method runs on the engine's thread; ``open`` and ``load`` block on the disk."""

    def __init__(self, disk: Disk, cluster: str, latest: SnapshotHeader | None, total: int) -> None:
        self.latest = latest
        self.failure: OSError | None = None
        """An old file could not be removed. Nothing is lost by it but space."""
        self._disk = disk
        self._cluster = cluster
        self._total = total
        self._newest_index = latest.index if latest else 0  # as files; touched by jobs only
        self._readers: dict[str, int] = {}
        self._writer: SnapshotWriter | None = None
        self._receiver: SnapshotReceiver | None = None
        self._received = 0

    @classmethod
    def open(cls, disk: Disk, cluster: str) -> SnapshotStore:
        """Check every byte of the newest snapshot, remove older ones and what unfinished writes left.

        Take the directory's lock first (``Journal.open`` does). Raises ``DataDamaged`` or, for another cluster's
        snapshot, ``InvalidInput``.
        """
        names = disk.names()
        disk.sync_directory()  # the newest may be there by a rename that a killed process did not make durable
        snapshots = sorted(name for name in names if _NAME.fullmatch(name))
        latest, total = None, 0
        if snapshots:
            latest = _own(disk, snapshots[-1], cluster, keep_state=False)[0]
            total = disk.size(snapshots[-1])
        for name in (*snapshots[:-1], *(name for name in names if _TEMPORARY.fullmatch(name))):
            disk.remove(name)
        return cls(disk, cluster, latest, total)

    def load(self) -> tuple[SnapshotHeader, bytes]:
        """The newest snapshot and its state, checked again. ``LookupError`` if there is none."""
        return _own(self._disk, _file_name(self._latest_or_raise()), self._cluster, keep_state=True)

    @property
    def writing(self) -> bool:
        return self._writer is not None

    @property
    def size_bytes(self) -> int:
        """Of the newest snapshot; 0 without one."""
        return self._total

    def write(
        self,
        header: SnapshotHeader,
        chunks: Iterable[bytes],
        queue: DiskQueue,
        done: Callable[[SnapshotHeader | BaseException], None],
    ) -> None:
        """Make the snapshot ``header`` of the state ``chunks``; one at a time (``RuntimeError``).

        Chunks are drawn on the engine's thread, each when the one before is written: the encoder may work in slices
        (a few 100 KiB each) while the loop goes on. An exception out of them is not caught: a state that cannot be
        encoded is a bug of this program, not a fault of the disk.

        ``done`` gets ``header`` when its state is safe: in this snapshot, or covered by a newer one (``latest``) that
        arrived meanwhile and stays. The log up to it may then be dropped, and no further: a newer one that was just
        received covers entries this node has not got. After an error the earlier snapshot stands as before.
        """
        if self._writer is not None:
            raise RuntimeError("a snapshot is being written")
        if header.cluster != self._cluster:
            raise InvalidInput("cluster", f"must be {self._cluster!r}, not {header.cluster!r}")

        def finished(result: int | BaseException | None) -> None:
            self._writer = None
            if isinstance(result, BaseException):
                done(result)
                return
            if result is not None:
                self._published(header, result, queue)
            done(header)

        self._writer = SnapshotWriter(self._disk, header, iter(chunks), queue, self._publish, finished)
        self._writer.begin()

    def reader(self) -> SnapshotReader:
        """The newest snapshot, kept until released. ``LookupError`` if there is none."""
        header = self._latest_or_raise()
        name = _file_name(header)
        self._readers[name] = self._readers.get(name, 0) + 1
        return SnapshotReader(self, self._disk, header, self._total)

    def reader_released(self, name: str, queue: DiskQueue) -> None:
        self._readers[name] -= 1
        if not self._readers[name]:
            del self._readers[name]
            if name != _file_name(self._latest_or_raise()):
                self._remove(name, queue)

    def start_receive(self, index: int, term: int, total: int, queue: DiskQueue) -> SnapshotReceiver:
        """Take a snapshot of ``total`` bytes from a leader; go on at the receiver's ``next_offset``.

        That is above 0 if part of the same one is there already; a different unfinished one is dropped.
        """
        current = self._receiver
        if current is not None and current.expects(index, term, total):
            return current
        if current is not None and not current.finishing:
            current.abandon()
        self._received += 1
        name = f"snapshot-receive-{self._received}.tmp"  # its own: an earlier one may still be checked
        self._receiver = SnapshotReceiver(self._disk, index, term, total, queue, name, self._verify_received)
        return self._receiver

    def _verify_received(self, receiver: SnapshotReceiver) -> None:
        """The file is complete and synced: check it, publish it, tell."""

        def job() -> tuple[SnapshotHeader, bytes, bool]:
            header, state = _verified(self._disk, receiver.name, self._cluster, keep_state=True)
            if (header.index, header.term) != (receiver.index, receiver.term):
                raise DataDamaged(
                    f"a snapshot of index {header.index}, term {header.term} came instead of the announced one of "
                    f"index {receiver.index}, term {receiver.term}"
                )
            return header, state, self._publish(receiver.name, header)

        def finished(result: tuple[SnapshotHeader, bytes, bool] | BaseException) -> None:
            if self._receiver is receiver:
                self._receiver = None
            if isinstance(result, BaseException):
                receiver.abandon()
                receiver.done(result)
                return
            header, state, kept = result
            if kept:
                self._published(header, receiver.total, receiver.queue)
            receiver.done((header, state))

        receiver.queue.submit(job, finished)

    def _publish(self, temporary: str, header: SnapshotHeader) -> bool:
        """Job: give a synced file its final name; False if what is there is as new."""
        if header.index <= self._newest_index:
            self._disk.remove(temporary)
            return False
        self._disk.rename(temporary, _file_name(header))
        self._disk.sync_directory()
        self._newest_index = header.index
        return True

    def _published(self, header: SnapshotHeader, total: int, queue: DiskQueue) -> None:
        old, self.latest, self._total = self.latest, header, total
        if old is not None and _file_name(old) not in self._readers:
            self._remove(_file_name(old), queue)

    def _remove(self, name: str, queue: DiskQueue) -> None:
        def removed(result: BaseException | None) -> None:
            if isinstance(result, OSError):
                self.failure = result
            elif result is not None:
                raise result

        queue.submit(lambda: self._disk.remove(name), removed)

    def _latest_or_raise(self) -> SnapshotHeader:
        if self.latest is None:
            raise LookupError("there is no snapshot")
        return self.latest


def _verified(disk: Disk, name: str, cluster: str, *, keep_state: bool) -> tuple[SnapshotHeader, bytes]:
    header, state = snapshot_file.verify(disk, name, keep_state=keep_state)
    if header.cluster != cluster:
        raise InvalidInput("cluster_name", f"{name} belongs to cluster {header.cluster!r}, not {cluster!r}")
    return header, state


def _own(disk: Disk, name: str, cluster: str, *, keep_state: bool) -> tuple[SnapshotHeader, bytes]:
    try:
        header, state = _verified(disk, name, cluster, keep_state=keep_state)
        if name != _file_name(header):
            raise DataDamaged(f"{name}: it says it is {_file_name(header)}")
    except DataDamaged as exc:
        raise DataDamaged(
            f"{exc}. The log before the snapshot is gone, so the node does not start without it: keep a copy of the "
            f"data directory; then {REPLACE}"
        ) from exc
    return header, state
