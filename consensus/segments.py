"""The journal's files: segments, their recovery, and the writer that appends to the newest one.

A segment appears under its final name only when its header is synced (written aside, synced, renamed, directory
synced). So a bad header, like a bad record in any but the newest segment, is damage and never a torn end.

Old segments are deleted when none of their entries is alive. A power cut may undo some deletions and not others
(1 back, 2 gone, 3 there), so recovery starts behind the last gap and then insists that nothing needed is missing.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from artemis.consensus import records
from artemis.consensus.advice import REPLACE
from artemis.consensus.ports import AppendFile, Disk
from artemis.consensus.records import Admit, Bad, Base, Mark, Record, Reset, SegmentHeader, Start, Truncate, Vote
from artemis.consensus.wire import LogEntry
from artemis.errors import DataDamaged, InvalidInput

_NAME: Final = re.compile(r"journal-(\d{12})\.log")
_TEMPORARY: Final = "journal.tmp"
_SNAPSHOT: Final = re.compile(r"snapshot-.*\.bin")


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
    _write_aside(disk, segment_name(header.segment), data)
    return Segment(header.segment, len(data))


def _write_aside(disk: Disk, name: str, data: bytes) -> None:
    """Make ``data`` the contents of ``name``: all of it, durably, or what was there before."""
    file = disk.append(_TEMPORARY)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.rename(_TEMPORARY, name)
    disk.sync_directory()


@dataclass(slots=True)
class Recovered:
    tracker: Tracker
    entries: list[LogEntry]
    cut_bytes: int
    created: bool


def recover(disk: Disk, *, cluster: str, node_id: str, new_journal_id: bytes) -> Recovered:
    """Read all segments, cut a torn end durably, refuse anything else that is not as it was written."""
    if _TEMPORARY in (names := disk.names()):
        disk.remove(_TEMPORARY)
    # A process killed between rename and directory sync left a segment that reads well and that a power cut takes away,
    # with all that is appended to it from now on.
    disk.sync_directory()
    numbers = sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))
    if not numbers:
        _refuse_snapshot_alone(names)
        tracker = Tracker(cluster, node_id, new_journal_id)
        tracker.segments.append(create_segment(disk, tracker.header(1, 0)))
        return Recovered(tracker, [], 0, created=True)
    run = _behind_last_gap(numbers)
    replay = _Replay(disk, run[-1])
    for number in run:
        replay.segment(number, cluster, node_id)
    replay.finish()
    # Written anew, not only cut: after a failed sync the kernel may keep bytes that read back but that no later sync
    # writes. A restarted node would vouch for them, acknowledge what follows, and lose both with the power.
    _write_aside(disk, segment_name(run[-1]), replay.newest_bytes)
    for number in numbers[: len(numbers) - len(run)]:
        disk.remove(segment_name(number))
    return Recovered(replay.tracker, replay.entries, replay.cut_bytes, created=False)


def _behind_last_gap(numbers: list[int]) -> list[int]:
    start = len(numbers) - 1
    while start and numbers[start - 1] == numbers[start] - 1:
        start -= 1
    return numbers[start:]


def _refuse_snapshot_alone(names: list[str]) -> None:
    """A journal is there before any snapshot. A lone node would go on from that, and lose what came behind it."""
    for name in names:
        if _SNAPSHOT.fullmatch(name):
            raise DataDamaged(
                f"{name} is there, but the journal is missing: keep a copy of what is left; then {REPLACE}"
            )


class _Replay:
    """Applies the record stream to an empty log."""

    def __init__(self, disk: Disk, newest: int) -> None:
        self._disk = disk
        self._newest = newest
        self._first = 0
        self.tracker = Tracker("", "", b"")
        self.entries: list[LogEntry] = []
        self.cut_bytes = 0
        self.newest_bytes = b""
        """Of the newest segment, all that counts."""

    def segment(self, number: int, cluster: str, node_id: str) -> None:
        name = segment_name(number)
        data = self._disk.read(name)
        decoded = records.decode_header(data)
        if isinstance(decoded, Bad):
            raise damaged(name, 0, decoded.reason)
        header, offset = decoded
        if header.segment != number:
            raise damaged(name, 0, f"it is segment {header.segment} under another name")
        if header.cluster != cluster:
            raise InvalidInput(
                "cluster_name", f"the data directory belongs to cluster {header.cluster!r}, not {cluster!r}"
            )
        if header.node_id != node_id:
            raise InvalidInput("node_id", f"the data directory belongs to node {header.node_id!r}, not {node_id!r}")
        self._enter(name, header)
        segment = Segment(number, len(data))
        self.tracker.segments.append(segment)
        seed = records.place_seed(header.journal_id, number)
        while offset < len(data):
            record = records.decode(data, seed, offset)
            if isinstance(record, Bad):
                self._cut_or_refuse(name, data, seed, offset, record)
                segment.size = offset
                break
            self._apply(name, offset, record[0])
            offset = record[1]
        self.newest_bytes = data[: segment.size]

    def finish(self) -> None:
        """The entries from the base on must be there: a missing segment may not go unnoticed."""
        if self._first != self.tracker.base_index:
            raise damaged(
                segment_name(self.tracker.segments[0].number),
                0,
                f"entries {self.tracker.base_index} to {self._first - 1} are missing: an older segment is gone",
            )

    def _enter(self, name: str, header: SegmentHeader) -> None:
        before = self.tracker
        if not before.segments:
            self.tracker = Tracker(
                cluster=header.cluster,
                node_id=header.node_id,
                journal_id=header.journal_id,
                term=header.term,
                voted_for=header.voted_for,
                incarnation=header.incarnation,
                base_index=header.base_index,
                next_index=header.next_index,
                founders=header.founders,
            )
            self._first = header.next_index
        elif header != before.header(before.segments[-1].number + 1, before.segments[-1].size):
            raise damaged(name, 0, "the segment does not continue the one before it, whose end is missing or changed")

    def _cut_or_refuse(self, name: str, data: bytes, seed: int, offset: int, bad: Bad) -> None:
        if segment_name(self._newest) != name:
            raise damaged(name, offset, bad.reason + ", and newer segments follow")
        mark = records.find_mark(data, seed, offset)
        if mark is not None:
            raise damaged(name, offset, f"{bad.reason}, but the mark at {mark} says it had been on disk")
        self.cut_bytes = len(data) - offset

    def _apply(self, name: str, offset: int, record: Record) -> None:
        if type(record) is tuple:
            if self.tracker.next_index not in (0, record[1]):
                raise damaged(name, offset, f"entry {record[1]} where {self.tracker.next_index} must be")
            if not self.entries and not self.tracker.next_index:
                self._first = record[1]
            self.entries.append(record)
        else:
            self._apply_control(name, offset, record)
        self.tracker.follow((record,))

    def _apply_control(self, name: str, offset: int, record: Record) -> None:
        match record:
            case Truncate(index) | Base(index):
                if not self.tracker.base_index <= index <= self.tracker.next_index:
                    raise damaged(name, offset, f"{record} outside the log that ends before {self.tracker.next_index}")
                keep = max(0, index - self._first)
                if isinstance(record, Truncate):
                    del self.entries[keep:]
                    self._first = min(self._first, index)
                else:
                    del self.entries[:keep]
                    self._first = max(self._first, index)
            case Reset(entries):
                self.entries = list(entries)
                self._first = entries[0][1] if entries else 0
            case Start() | Vote() | Admit() | Mark():
                pass
            case _:
                raise damaged(name, offset, f"unexpected {record!r}")


def damaged(name: str, offset: int, reason: str) -> DataDamaged:
    return DataDamaged(
        f"{name} at byte {offset}: {reason}. The node does not start on damaged data: acknowledged writes may be "
        f"missing from it. Check the disk and keep a copy of the data directory; then {REPLACE}"
    )
