"""The journal's files, read again at a start: a torn end is cut, whatever else is not as it was written is refused.

A power cut may undo some deletions of old segments and not others (1 back, 2 gone, 3 there), so recovery starts behind
the last gap and then insists that nothing needed is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from artemis.consensus import records
from artemis.consensus.advice import REPLACE
from artemis.consensus.ports import Disk
from artemis.consensus.records import Admit, Bad, Base, Mark, Record, Reset, SegmentHeader, Start, Truncate, Vote
from artemis.consensus.segments import TEMPORARY, Segment, Tracker, create_segment, segment_name, write_aside
from artemis.consensus.wire import LogEntry
from artemis.errors import DataDamaged, InvalidInput

_NAME: Final = re.compile(r"journal-(\d{12})\.log")
_SNAPSHOT: Final = re.compile(r"snapshot-.*\.bin")


@dataclass(slots=True)
class Recovered:
    tracker: Tracker
    entries: list[LogEntry]
    cut_bytes: int
    created: bool


def recover(disk: Disk, *, cluster: str, node_id: str, new_journal_id: bytes) -> Recovered:
    """Read all segments, cut a torn end durably, refuse anything else that is not as it was written."""
    if TEMPORARY in (names := disk.names()):
        disk.remove(TEMPORARY)
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
    write_aside(disk, segment_name(run[-1]), replay.newest_bytes)
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
