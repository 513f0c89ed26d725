"""Going on after the disk failed, without a restart.

After a failed write or fsync nothing about the newest segment is certain: the kernel may have dropped pages that still
read back fine, and a second fsync then reports success for data that is gone. So nothing of it is trusted. Everything
on disk is read again as at a start, the newest segment is written anew and synced (``recovery.recover``), and then
whatever memory has and the disk has not is appended as one batch. When that returned, all of memory is durable.
"""

from __future__ import annotations

from dataclasses import dataclass

from artemis.consensus import recovery
from artemis.consensus.ports import Disk
from artemis.consensus.records import Admit, Base, Record, Reset, Start, Truncate, Vote
from artemis.consensus.segments import SegmentWriter, Tracker, Written
from artemis.consensus.wire import LogEntry


@dataclass(frozen=True, slots=True)
class Target:
    """The journal as it is in memory."""

    cluster: str
    node_id: str
    journal_id: bytes
    entries: list[LogEntry]
    term: int
    voted_for: str | None
    incarnation: int
    founders: tuple[tuple[str, bytes], ...]


def rebuild(disk: Disk, target: Target, segment_bytes: int) -> tuple[SegmentWriter, Written]:
    """Make the disk hold ``target``. Raises ``OSError`` while the disk still fails, ``DataDamaged`` if it lost more."""
    found = recovery.recover(disk, cluster=target.cluster, node_id=target.node_id, new_journal_id=target.journal_id)
    writer = SegmentWriter(disk, found.tracker, segment_bytes)
    try:
        return writer, writer.append(missing(found.tracker, found.entries, target))
    except BaseException:
        writer.close()
        raise


def missing(tracker: Tracker, on_disk: list[LogEntry], target: Target) -> list[Record]:
    """The records that turn what is on disk into ``target``."""
    records: list[Record] = [Start(target.incarnation)]
    if (tracker.term, tracker.voted_for) != (target.term, target.voted_for):
        records.append(Vote(target.term, target.voted_for))
    if tracker.founders != target.founders:
        records.append(Admit(target.founders))
    return records + _missing_entries(on_disk, target.entries)


def _missing_entries(on_disk: list[LogEntry], wanted: list[LogEntry]) -> list[Record]:
    if not wanted or not on_disk or wanted[0][1] > on_disk[-1][1] or wanted[0][1] < on_disk[0][1]:
        return [Reset(tuple(wanted[:2])), *wanted[2:]]
    skipped = wanted[0][1] - on_disk[0][1]
    same = 0
    kept = on_disk[skipped:]
    while same < min(len(kept), len(wanted)) and kept[same] == wanted[same]:
        same += 1
    records: list[Record] = []
    if same < len(kept):
        records.append(Truncate(kept[same][1]))
    records += wanted[same:]
    if skipped:
        records.append(Base(wanted[0][1]))
    return records
