"""The journal's files: segments, and the writer that appends to the newest one.

A segment appears under its final name only when its header is synced (written aside, synced, renamed, directory
synced). So a bad header, like a bad record in any but the newest segment, is damage and never a torn end
(``recovery``). Old segments are deleted when none of their entries is alive.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from artemis.consensus import records
from artemis.consensus.ports import AppendFile, Disk
from artemis.consensus.records import Admit, Base, Record, Reset, SegmentHeader, Start, Truncate, Vote

TEMPORARY: Final = "journal.tmp"


def segment_name(segment: int) -> str:
    return f"journal-{segment:012d}.log"


@dataclass(slots=True)
class Segment:
    number: int
    size: int
    top: int = 0
    """Highest index of an entry in it that may still be alive. 0: none."""


@dataclass(slots=True)
class Tracker:
    """What the record stream says up to some place in it, besides the commands themselves."""

    cluster: str
    node_id: str
    journal_id: bytes
    term: int = 0
    voted_for: str | None = None
    incarnation: int = 0
    base_index: int = 0
    next_index: int = 0
    founders: tuple[tuple[str, bytes], ...] = ()
    segments: list[Segment] = field(default_factory=list)

    def follow(self, batch: Sequence[Record]) -> None:
        newest = self.segments[-1]
        for record in batch:
            if type(record) is tuple:
                newest.top = max(newest.top, record[1])
                self.next_index = record[1] + 1
                if not self.base_index:
                    self.base_index = record[1]
            else:
                self._follow_control(record)

    def _follow_control(self, record: Record) -> None:
        match record:
            case Truncate(index):
                self.next_index = index
                for segment in self.segments:
                    segment.top = min(segment.top, index - 1)
            case Base(index):
                self.base_index = index
            case Reset(entries):
                self.base_index = entries[0][1] if entries else 0
                self.next_index = entries[-1][1] + 1 if entries else 0
                for segment in self.segments:
                    segment.top = 0
                self.segments[-1].top = max(0, self.next_index - 1)
            case Vote(term, voted_for):
                self.term, self.voted_for = term, voted_for
            case Start(incarnation):
                self.incarnation = incarnation
            case Admit(founders):
                self.founders = founders
            case _:
                pass  # a mark changes nothing

    def dead_segments(self) -> int:
        """How many of the oldest segments hold no entry that is alive. The newest one always counts as needed."""
        dead = 0
        while dead < len(self.segments) - 1 and self.segments[dead].top < max(1, self.base_index):
            dead += 1
        return dead

    def header(self, segment: int, previous_bytes: int) -> SegmentHeader:
        return SegmentHeader(
            cluster=self.cluster,
            node_id=self.node_id,
            journal_id=self.journal_id,
            segment=segment,
            previous_bytes=previous_bytes,
            term=self.term,
            voted_for=self.voted_for,
            incarnation=self.incarnation,
            base_index=self.base_index,
            next_index=self.next_index,
            founders=self.founders,
        )


@dataclass(frozen=True, slots=True)
class Written:
    bytes_on_disk: int
    dead_segments: int


class SegmentWriter:
    """Appends to the newest segment. Used by one thread at a time; after any failed call it refuses for good.

    A failed fdatasync may have thrown the bytes away while they still read back fine, and a second one would then
    return success: no later success may vouch for them.
    """

    def __init__(self, disk: Disk, tracker: Tracker, segment_bytes: int) -> None:
        self._disk = disk
        self._tracker = tracker
        self._segment_bytes = segment_bytes
        self._file: AppendFile = disk.append(segment_name(tracker.segments[-1].number))
        self._seed = records.place_seed(tracker.journal_id, tracker.segments[-1].number)
        self._failure: BaseException | None = None
        self._mark_due = False

    def append(self, batch: Sequence[Record]) -> Written:
        """Write ``batch`` and sync it. When this returns it survives a power cut.

        The first batch of a writer has no mark in front: what recovery read back may be in no more than memory.
        """
        with self._guard():
            if self._tracker.segments[-1].size >= self._segment_bytes:
                self._rotate()
            self._write((records.MARK, *batch) if self._mark_due else batch)
            self._tracker.follow(batch)
            self._file.sync()
            self._mark_due = True
            size = sum(segment.size for segment in self._tracker.segments)
            return Written(bytes_on_disk=size, dead_segments=self._tracker.dead_segments())

    def claim(self) -> None:
        """Write down, durably, that all so far is durable, without waiting for the next batch to say it."""
        with self._guard():
            if self._mark_due:
                self._write((records.MARK,))
                self._file.sync()
                self._mark_due = False

    def drop_dead_segments(self) -> None:
        with self._guard():
            dead = self._tracker.dead_segments()
            for segment in self._tracker.segments[:dead]:
                self._disk.remove(segment_name(segment.number))
            del self._tracker.segments[:dead]
            if dead:
                self._disk.sync_directory()

    @property
    def tracker(self) -> Tracker:
        return self._tracker

    @property
    def segment_bytes(self) -> int:
        return self._segment_bytes

    def abandon(self) -> None:
        """Let go of the file without a word about it."""
        with suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Leave a durable claim behind if nothing failed, and let go of the file."""
        try:
            if self._failure is None:
                self.claim()
        finally:
            self._file.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        if self._failure is not None:
            raise OSError(errno.EIO, f"journal unusable since an earlier failure: {self._failure}")
        try:
            yield
        except BaseException as exc:
            self._failure = exc
            raise

    def _write(self, batch: Sequence[Record]) -> None:
        segment = self._tracker.segments[-1]
        data = records.encode(batch, self._seed, segment.size)
        self._file.write(data)
        segment.size += len(data)

    def _rotate(self) -> None:
        # At start-up the old segment may not be synced yet; the new header vouches for its full size.
        self._file.sync()
        self._file.close()
        old = self._tracker.segments[-1]
        new = create_segment(self._disk, self._tracker.header(old.number + 1, old.size))
        self._tracker.segments.append(new)
        self._seed = records.place_seed(self._tracker.journal_id, new.number)
        self._file = self._disk.append(segment_name(new.number))
        self._mark_due = False  # the header vouches for what is before it


def create_segment(disk: Disk, header: SegmentHeader) -> Segment:
    """Make a segment that holds only its header, durably."""
    data = records.encode_header(header)
    write_aside(disk, segment_name(header.segment), data)
    return Segment(header.segment, len(data))


def write_aside(disk: Disk, name: str, data: bytes) -> None:
    """Make ``data`` the contents of ``name``: all of it, durably, or what was there before."""
    file = disk.append(TEMPORARY)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.rename(TEMPORARY, name)
    disk.sync_directory()
