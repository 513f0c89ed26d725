"""A disk in memory that loses what a real one may lose.

``kill`` is kill -9: everything written stays. ``power_cut`` keeps what was synced; of the rest, per file, any part of
what was appended since (a prefix torn at any byte, or with sectors of zeros where data never arrived) and any of the
directory operations since ``sync_directory`` (per name in order). Both end the life of the process that had the disk:
its open files and its lock are gone, and each later call through them raises ``Crashed``.

A failed sync is modelled as Linux does it: the bytes stay readable but are never written, and the next sync succeeds.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

T = TypeVar("T")

SECTOR_BYTES = 512

Operation = Literal["read", "write", "sync", "append", "truncate", "rename", "remove", "sync_directory"]


class Crashed(BaseException):
    """The process that made the call does not exist any more. Not an ``Exception``: nothing may handle it."""


@dataclass(slots=True)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    """Bytes from the start that are on the medium, except those in ``lost``."""
    lost: list[tuple[int, int]] = field(default_factory=list)
    """Ranges a failed sync dropped: readable until the power goes."""

    def survive(self, rng: Random) -> None:
        """Become what is left of it after a power cut."""
        appended = len(self.data) - self.synced
        kept = self.synced + (rng.choice((0, appended, rng.randint(0, appended))) if appended else 0)
        del self.data[kept:]
        if kept > self.synced and rng.random() < 0.3:
            for sector in range(self.synced // SECTOR_BYTES, kept // SECTOR_BYTES + 1):
                if rng.random() < 0.5:
                    self._zero(max(self.synced, sector * SECTOR_BYTES), min(kept, (sector + 1) * SECTOR_BYTES))
        for start, end in self.lost:
            self._zero(start, min(end, len(self.data)))
        self.synced = len(self.data)
        self.lost = []

    def _zero(self, start: int, end: int) -> None:
        if end > start:
            self.data[start:end] = bytes(end - start)


@dataclass(frozen=True, slots=True)
class _DirectoryChange:
    """Names that point elsewhere (or nowhere) from now on, all at once."""

    changes: tuple[tuple[str, _Inode | None], ...]


@dataclass(slots=True)
class _Fault:
    operation: Operation
    after: int
    error: OSError
    sticky: bool
    name: str | None


class SimFile:
    """``ports.AppendFile`` of a ``SimDisk``."""

    def __init__(self, disk: SimDisk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self._life = disk.life
        self._name = name
        self._inode = inode
        self._closed = False

    def write(self, data: bytes) -> None:
        self._check()
        torn = self._disk.step("write", self._name, len(data))
        self._inode.data += data[:torn]
        if torn < len(data):
            self._disk.crash()
        self._disk.written_bytes += len(data)

    def sync(self) -> None:
        self._check()
        try:
            self._disk.step("sync", self._name)
        except OSError:
            self._inode.lost.append((self._inode.synced, len(self._inode.data)))
            self._inode.synced = len(self._inode.data)
            raise
        self._inode.synced = len(self._inode.data)

    def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        if self._life != self._disk.life:
            raise Crashed
        if self._closed:
            raise ValueError("write to a closed file")


class SimDisk:
    """``ports.Disk`` in memory. One instance lives through any number of crashes of its node."""

    def __init__(self) -> None:
        self.life = 0
        """Grows at each crash; handles of an earlier life are dead."""
        self.steps = 0
        """Operations so far, reads too."""
        self.written_bytes = 0
        self.latency_ms: dict[Operation, float] = {}
        """What each operation costs; see ``take_spent_ms``."""
        self._spent_ms = 0.0
        self._now: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._changes: list[_DirectoryChange] = []
        self._locked = False
        self._dead = False
        self._crash_at: tuple[int, int | None] | None = None
        self._faults: list[_Fault] = []

    # ports.Disk

    def names(self) -> list[str]:
        self.step("read", "")
        return sorted(self._now)

    def read(self, name: str) -> bytes:
        self.step("read", name)
        return bytes(self._inode(name).data)

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        self.step("read", name)
        return bytes(self._inode(name).data[offset : offset + size])

    def size(self, name: str) -> int:
        self.step("read", name)
        return len(self._inode(name).data)

    def append(self, name: str) -> SimFile:
        self.step("append", name)
        if name not in self._now:
            self._change((name, _Inode()))
        return SimFile(self, name, self._now[name])

    def truncate(self, name: str, size: int) -> None:
        self.step("truncate", name)
        inode = self._inode(name)
        del inode.data[size:]
        inode.synced = len(inode.data)

    def rename(self, old: str, new: str) -> None:
        self.step("rename", old)
        self._change((old, None), (new, self._inode(old)))

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self._inode(name)
        self._change((name, None))

    def sync_directory(self) -> None:
        self.step("sync_directory", "")
        self._durable = dict(self._now)
        self._changes = []

    def lock(self) -> None:
        self.step("read", "lock")
        if self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "in use by another process; stop it first")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    # Crashes

    def kill(self) -> None:
        """kill -9 of the process: the page cache stays."""
        self.life += 1
        self._locked = self._dead = False
        self._crash_at = None
        self._faults = []

    def power_cut(self, rng: Random) -> None:
        """The machine loses its power: see the module."""
        kept = self._surviving_changes(rng)
        for change in kept:
            for name, inode in change.changes:
                if inode is None:
                    self._durable.pop(name, None)
                else:
                    self._durable[name] = inode
        self._now = dict(self._durable)
        self._changes = []
        for name in sorted(self._now):
            self._now[name].survive(rng)
        self.kill()

    def crash_states(self, rng: Random, samples: int) -> Iterator[SimDisk]:
        """Independent disks, each as this one may look after a power cut now."""
        for _ in range(samples):
            state = self.copy()
            state.power_cut(rng)
            yield state

    def copy(self) -> SimDisk:
        return copy.deepcopy(self)

    def crash_at(self, step: int, torn_bytes: int | None = None) -> None:
        """The operation number ``step`` (see ``steps``) does not happen and the process ends there.

        If it is a write, its first ``torn_bytes`` still arrive in the page cache. Then call ``kill`` or ``power_cut``.
        """
        self._crash_at = (step, torn_bytes)

    def disarm(self) -> None:
        """No crash and no failure is waiting any more."""
        self._crash_at = None
        self._faults = []

    def crash(self) -> None:
        """The process ends now, in the middle of what it does."""
        self._dead = True
        raise Crashed

    # Faults

    def fail(
        self,
        operation: Operation,
        *,
        after: int = 0,
        error: OSError | None = None,
        sticky: bool = False,
        name: str | None = None,
    ) -> None:
        """Make the next such operation (``after`` that many of them; on ``name`` only) fail; ``sticky``: and all later
        ones, until ``heal`` or a crash."""
        self._faults.append(_Fault(operation, after, error or OSError(errno.EIO, "injected"), sticky, name))

    def heal(self) -> None:
        """No fault is injected any more. What earlier ones broke stays broken."""
        self._faults = []

    def take_spent_ms(self) -> float:
        """Virtual time the operations since the last call took, for the queue that ran them."""
        spent, self._spent_ms = self._spent_ms, 0.0
        return spent

    def step(self, operation: Operation, name: str, size: int = 0) -> int:
        """Count one operation, let it crash or fail; how many of its ``size`` bytes are written."""
        if self._dead:
            raise Crashed
        self.steps += 1
        self._spent_ms += self.latency_ms.get(operation, 0.0)
        if self._crash_at is not None and self.steps >= self._crash_at[0]:
            torn = self._crash_at[1]
            if operation == "write" and torn is not None and torn < size:
                return torn
            self.crash()
        for fault in self._faults:
            if fault.operation == operation and fault.name in (None, name):
                if fault.after:
                    fault.after -= 1
                    continue
                if not fault.sticky:
                    self._faults.remove(fault)
                raise fault.error
        return size

    # For tests that damage files

    def contents(self, name: str) -> bytearray:
        """The bytes themselves, open to changes that no program made."""
        return self._now[name].data

    def _inode(self, name: str) -> _Inode:
        if name not in self._now:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self._now[name]

    def _change(self, *changes: tuple[str, _Inode | None]) -> None:
        for name, inode in changes:
            if inode is None:
                del self._now[name]
            else:
                self._now[name] = inode
        self._changes.append(_DirectoryChange(changes))

    def _surviving_changes(self, rng: Random) -> list[_DirectoryChange]:
        style = rng.choice(("none", "all", "prefix", "any"))
        if style == "none":
            return []
        if style == "all":
            return self._changes
        if style == "prefix":
            return self._changes[: rng.randint(0, len(self._changes))]
        kept: list[_DirectoryChange] = []
        stuck: set[str] = set()  # names of which an earlier change was lost: their later ones are lost too
        for change in self._changes:
            names = {name for name, _ in change.changes}
            if stuck.isdisjoint(names) and rng.random() < 0.5:
                kept.append(change)
            else:
                stuck |= names
        return kept


class StepQueue:
    """``ports.DiskQueue`` that runs a job only when told to, on the same thread."""

    def __init__(self) -> None:
        self._jobs: list[Callable[[], None]] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        if self._closed:
            return

        def run() -> None:
            result: T | BaseException
            try:
                result = job()
            except Exception as exc:  # noqa: BLE001 - as the thread does; a crash goes through to the test
                result = exc
            if not self._closed:
                done(result)

        self._jobs.append(run)

    def step(self) -> bool:
        """Run the oldest job; False if there is none."""
        if not self._jobs:
            return False
        self._jobs.pop(0)()
        return True

    def run(self) -> None:
        while self.step():
            pass

    def close(self) -> None:
        self._closed = True
        self.run()
