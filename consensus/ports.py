"""What the engine needs from the world. Production and simulation each give their own; both pass the same tests.

One rule binds them all: every callback runs on the engine's single thread, and none runs inside the call that asked
for it (a callback that fires at once would re-enter the engine in the middle of a change).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from artemis.consensus.wire import Message

T = TypeVar("T")


class Clock(Protocol):
    """Monotonic seconds. Differences count, the origin means nothing: nodes may differ by days."""

    def __call__(self) -> float: ...


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """An event loop, as far as the engine needs one. ``asyncio.AbstractEventLoop`` has this shape."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> TimerHandle: ...


class LinkEvents(Protocol):
    """What the links tell the engine."""

    def on_message(self, peer: str, message: Message) -> None: ...

    def on_connected(self, peer: str) -> None:
        """Messages to ``peer`` flow (again). Whatever was sent before may be lost."""

    def on_disconnected(self, peer: str) -> None: ...


class Links(Protocol):
    """Authenticated, ordered message links to the other members, one per direction.

    ``send`` never blocks and never fails. While a link stays up it delivers in order without gaps; a link that cannot
    (peer slow, queue full, bytes damaged) is closed and built anew, and ``on_disconnected`` / ``on_connected`` tell.
    Bytes of an old link may still arrive at the peer after a new one is up, as with TCP.
    """

    def start(self, events: LinkEvents) -> None: ...

    def send(self, peer: str, message: Message) -> None: ...

    def connected(self, peer: str) -> bool: ...

    def close(self) -> None: ...


class AppendFile(Protocol):
    """A file open for appending. Only what was written before a ``sync`` that returned survives a power cut."""

    def write(self, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """The files of one node's data directory, by plain name (no sub-directories). Calls block and raise ``OSError``.

    After start-up the engine calls it only from jobs given to a ``DiskQueue``.
    """

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on; fewer only at the end of the file."""

    def size(self, name: str) -> int: ...

    def append(self, name: str) -> AppendFile:
        """Open ``name``, made empty if it does not exist."""

    def truncate(self, name: str, size: int) -> None:
        """Cut ``name`` to ``size`` bytes, durably."""

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync_directory(self) -> None:
        """Makes creations, renames and removals durable."""

    def lock(self) -> None:
        """Take the directory for this process; ``OSError`` if another one has it. Released by ``unlock`` or death."""

    def unlock(self) -> None: ...


class DiskQueue(Protocol):
    """Runs jobs one after the other, off the engine's thread, and calls ``done`` on the engine's thread.

    ``done`` gets the job's value, or the exception it raised.
    """

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None: ...

    def close(self) -> None:
        """Finish what is queued, then stop. ``done`` is not called any more, and jobs given later do not run."""


class Random(Protocol):
    """``random.Random`` has this shape."""

    def random(self) -> float: ...

    def getrandbits(self, k: int, /) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What one engine runs in."""

    clock: Clock
    rng: Random
    scheduler: Scheduler
    disk: Disk
    disk_queue: DiskQueue
    """For the journal: short jobs, each a write and an fsync."""
    snapshot_queue: DiskQueue
    """For snapshots: long jobs, which must not delay the journal's."""
    links: Links
    wall_ms: int
    """Wall clock at start. Only a hint that makes the incarnation grow when the data directory was lost."""
