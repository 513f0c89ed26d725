"""``ports.Disk`` on a real directory and ``ports.DiskQueue`` on one thread."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from artemis.consensus.ports import AppendFile

T = TypeVar("T")

_LOCK: Final = "lock"


def _sync_data(descriptor: int) -> None:
    """Bytes and file size reach the medium before this returns."""
    if sys.platform == "darwin":  # there fsync only reaches the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


class _File:
    """``ports.AppendFile`` on a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # a signal or a nearly full disk makes a write short
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        _sync_data(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class FileDisk:
    """The files of one directory, which is made (mode 0700) if it is not there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = -1
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_directory(self.path.parent)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path) if entry.name != _LOCK)

    def read(self, name: str) -> bytes:
        return self._file(name).read_bytes()

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        with self._file(name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def size(self, name: str) -> int:
        return self._file(name).stat().st_size

    def append(self, name: str) -> AppendFile:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return _File(os.open(self._file(name), flags, 0o600))

    def truncate(self, name: str, size: int) -> None:
        descriptor = os.open(self._file(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        self._file(old).rename(self._file(new))

    def remove(self, name: str) -> None:
        self._file(name).unlink()

    def sync_directory(self) -> None:
        _sync_directory(self.path)

    def lock(self) -> None:
        """Raises ``BlockingIOError`` that names the directory and the process that has it."""
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except BlockingIOError as exc:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise BlockingIOError(
                errno.EWOULDBLOCK, f"in use by another process (pid {holder}); stop it first", str(self.path)
            ) from exc
        except OSError:
            os.close(descriptor)
            raise
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock >= 0:
            descriptor, self._lock = self._lock, -1
            os.close(descriptor)

    def _file(self, name: str) -> Path:
        if "/" in name or name in ("", ".", "..", _LOCK):
            raise ValueError(f"{name!r} is no plain file name")
        return self.path / name


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ThreadDiskQueue:
    """One thread that runs disk jobs in order; results come back through ``loop``.

    Once closed, or once the loop is, no ``done`` is called: a completion then has nobody left to tell. A job given to
    a closed queue does not run, as if the process had ended just before it; links that go down while a node stops still
    release what they read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, name: str = "disk") -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        # A daemon: a process that ends without ``close`` must not hang on its disk. That is no worse than a kill.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        if self._closed:
            return

        def run() -> None:
            result: T | BaseException
            try:
                result = job()
            except BaseException as exc:  # noqa: BLE001 - the border of a task: the engine's thread gets it
                result = exc
            self._tell(lambda: done(result))

        self._jobs.put(run)

    def close(self) -> None:
        """Blocks until the queued jobs are finished."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (run := self._jobs.get()) is not None:
            run()

    def _tell(self, completion: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            self._loop.call_soon_threadsafe(self._complete, completion)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _complete(self, completion: Callable[[], None]) -> None:
        if not self._closed:
            completion()
