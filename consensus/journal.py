"""The Raft log of one node: in memory for PySyncObj, on disk by group sync.

PySyncObj uses a journal as if every call were durable at once. Here every call is immediate in memory and remembered
as a record; ``begin_sync`` writes everything remembered as one batch with one fdatasync, off the loop. Whoever tells
another node about the log or a vote waits until ``synced_lsn`` has passed the ``lsn`` of what it tells. So a kill or a
power cut in between loses only what nobody was told.

What a journal does not do: it keeps no commit index (the leader supplies it again; a stored one that is ahead of the
log it belongs to lets a node commit alone), and it does not notice that its newest segment was deleted by hand.
The bytes of the very last batch are vouched for by the next batch, or by a mark once nothing happened for one to two
seconds; before that a flipped bit in them looks like a torn end and is cut. Price: one fdatasync per idle period.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final, overload

from artemis.consensus import recovery
from artemis.consensus.journal_repair import Target, rebuild
from artemis.consensus.ports import Disk, DiskQueue, Random
from artemis.consensus.records import COMMAND_BYTES_MAX, Admit, Base, Record, Reset, Start, Truncate, Vote
from artemis.consensus.segments import SegmentWriter, Written
from artemis.consensus.wire import LogEntry

SEGMENT_BYTES: Final = 64 * 1024 * 1024

SLICE_ENTRIES_MAX: Final = 4096
"""Most entries an open-ended slice gives. PySyncObj asks for ``log[n:]`` on each send and then uses a prefix bounded in
bytes: copying the whole rest for each batch makes the catch-up of a follower quadratic (0.8 ms per 100,000 entries and
batch). Its other open-ended use only looks at the first entry and whether there is a second."""

FREE_ENTRIES_MAX: Final = 8192
"""Dropped entries are given back to the allocator this many at a time: 100,000 at once stall the loop for 12 ms."""

_NO_INDEX: Final = 1 << 64

_START_RANDOM_BITS: Final = 20


def _start_above(number: int, drawn: bytes) -> Start:
    """With a random part: a start on data that was lost since must not have had the same number, or the outcome of its
    proposal 1 would answer another one's."""
    return Start(number + 1 + int.from_bytes(drawn[:4], "big"))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What ``Journal.open`` found."""

    entries: int
    cut_bytes: int
    """Bytes of a torn end that nobody had been told about."""
    segments: int
    created: bool


class Journal:
    """See the module. Every method runs on the engine's thread; ``open`` and ``close`` block on the disk."""

    def __init__(self, disk: Disk, recovered: recovery.Recovered, writer: SegmentWriter) -> None:
        tracker = recovered.tracker
        self._disk = disk
        self._writer = writer
        self._entries = recovered.entries
        self._entry_bytes = sum(len(entry[0]) for entry in recovered.entries)
        self._next_index = tracker.next_index
        self._term = tracker.term
        self._voted_for = tracker.voted_for
        self._dropped: list[LogEntry] = []
        self._pending: list[Record] = []
        self._pending_low = _NO_INDEX
        self._in_flight_low = _NO_INDEX
        self._queue: DiskQueue | None = None
        self._quiet = True
        self._claimed = True
        self._bytes_on_disk = sum(segment.size for segment in tracker.segments)
        self.incarnation = tracker.incarnation
        self.journal_id = tracker.journal_id
        self.founders = dict(tracker.founders)
        """The journal id of each member at the founding. Empty until this member is admitted (``admission``)."""
        self.recovery = Recovery(
            entries=len(recovered.entries),
            cut_bytes=recovered.cut_bytes,
            segments=len(tracker.segments),
            created=recovered.created,
        )
        self.lsn = 0
        self.synced_lsn = 0
        self.syncing = False
        self.failure: OSError | None = None
        """Why nothing can be made durable now. Only ``repair`` or a new ``open`` start over from the disk."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        node_id: str,
        cluster: str,
        rng: Random,
        wall_ms: int,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Journal:
        """Lock the directory, recover everything in it, and make the new incarnation durable.

        Raises ``DataDamaged`` (what is there is not what was written), ``InvalidInput`` (another node's or cluster's
        directory) or ``OSError`` (in use by another process, or the disk fails); the lock is then released.
        """
        disk.lock()
        try:
            drawn = rng.getrandbits(128).to_bytes(16, "big")
            recovered = recovery.recover(disk, cluster=cluster, node_id=node_id, new_journal_id=drawn)
            writer = SegmentWriter(disk, recovered.tracker, segment_bytes)
            # Above every earlier start, also when the wall clock was set back.
            start = _start_above(max(recovered.tracker.incarnation, wall_ms << _START_RANDOM_BITS), drawn)
            # This sync also covers what a killed process had written but not synced, and was read back just now.
            writer.append((start,))
            writer.claim()
            writer.drop_dead_segments()
            return cls(disk, recovered, writer)
        except BaseException:
            disk.unlock()
            raise

    # PySyncObj's journal

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append one entry. ``ValueError`` if it does not continue the log."""
        if idx != self._next_index and self._next_index:
            raise ValueError(f"entry {idx}: the log continues with {self._next_index}")
        size = len(command)
        if size > COMMAND_BYTES_MAX:
            raise ValueError(f"entry {idx}: a command of {size} bytes; at most {COMMAND_BYTES_MAX} are allowed")
        entry = (command, idx, term)
        self._entries.append(entry)
        self._entry_bytes += size
        self._next_index = idx + 1
        if idx < self._pending_low:
            self._pending_low = idx
        self._pending.append(entry)
        self.lsn += 1

    def clear(self) -> None:
        """Forget all entries. A crash may leave the log empty: to replace it, use ``reset``, which is atomic."""
        self.reset([])

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop the entries at position ``entryFrom`` and behind."""
        count = len(self._entries)
        if entryFrom == count:
            return
        if not 0 < entryFrom < count:
            raise ValueError(f"position {entryFrom} of {count} entries; at least one must stay, see deleteEntriesTo")
        index = self._entries[entryFrom][1]
        self._entry_bytes -= _command_bytes(self._entries[entryFrom:])
        del self._entries[entryFrom:]
        self._next_index = index
        self._remember(Truncate(index), low=index)

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Drop the entries in front of position ``entryTo``. At least one entry must stay.

        An emptied log would start at the next restart like a member that lost its disk.
        """
        if not 0 <= entryTo < max(1, len(self._entries)):
            raise ValueError(f"position {entryTo} would leave nothing of {len(self._entries)} entries")
        if entryTo == 0:
            return
        dropped = self._entries[:entryTo]
        del self._entries[:entryTo]
        if len(dropped) < len(self._entries):
            self._entry_bytes -= _command_bytes(dropped)
        else:
            self._entry_bytes = _command_bytes(self._entries)
        self._dropped += dropped
        self._remember(Base(self._entries[0][1]), low=_NO_INDEX)

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...

    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...

    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        if isinstance(item, int):
            return self._entries[item]
        if item.stop is None and (item.start or 0) >= 0:
            start = item.start or 0
            return self._entries[start : start + SLICE_ENTRIES_MAX]
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not kept: the commit index is volatile in Raft, and wrong ones were persisted by stock PySyncObj."""

    def getRaftCommitIndex(self) -> int:
        return self.first_index or 1

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Raises ``ValueError`` on what would be a second vote in a term or a term that goes back."""
        if (term, votedForNodeId) == (self._term, self._voted_for):
            return
        if term < self._term or (term == self._term and self._voted_for is not None):
            raise ValueError(
                f"vote for {votedForNodeId!r} in term {term} after one for {self._voted_for!r} in {self._term}"
            )
        self._term, self._voted_for = term, votedForNodeId
        self._remember(Vote(term, votedForNodeId), low=_NO_INDEX)

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._voted_for

    def onOneSecondTimer(self) -> None:
        """When nothing happened since the last call, leave a durable mark behind the last batch."""
        del self._dropped[-FREE_ENTRIES_MAX:]
        idle = self._quiet and not self._pending and not self.syncing
        self._quiet = True
        if idle and self._queue is not None and self.failure is None and not self._claimed:
            self._claimed = True
            self._queue.submit(self._writer.claim, self._kept_house)

    def _destroy(self) -> None:
        """PySyncObj is done with the journal; whoever opened it closes it, after the disk queue."""

    # What the engine adds

    @property
    def first_index(self) -> int:
        """0 when the log is empty."""
        return self._entries[0][1] if self._entries else 0

    @property
    def last_index(self) -> int:
        return self._entries[-1][1] if self._entries else 0

    @property
    def last_term(self) -> int:
        return self._entries[-1][2] if self._entries else 0

    def term_at(self, index: int) -> int | None:
        """Term of the entry ``index``; None if it is not in the log (dropped, or not there yet)."""
        if not self._entries:
            return None
        position = index - self._entries[0][1]
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def reset(self, entries: list[LogEntry]) -> None:
        """Replace the whole log by ``entries``, atomically also in a crash: a snapshot was installed."""
        for before, entry in pairwise(entries):
            if entry[1] != before[1] + 1:
                raise ValueError(f"entry {entry[1]} behind entry {before[1]}")
        if any(len(entry[0]) > COMMAND_BYTES_MAX for entry in entries) or len(entries) > 2:
            raise ValueError(f"at most two entries, each at most {COMMAND_BYTES_MAX} bytes")
        self._entries = list(entries)
        self._entry_bytes = _command_bytes(entries)
        self._next_index = entries[-1][1] + 1 if entries else 0
        self._remember(Reset(tuple(entries)), low=0)

    @property
    def entry_bytes(self) -> int:
        """Bytes of the commands held in memory."""
        return self._entry_bytes

    def bytes_on_disk(self) -> int:
        """Size of all segments, as of the last finished sync."""
        return self._bytes_on_disk

    @property
    def synced_index(self) -> int:
        """Every entry up to here is on disk as it is in memory now. 0: none."""
        last, low = self.last_index, min(self._pending_low, self._in_flight_low)
        return last if last < low else max(0, low - 1)

    @property
    def in_step(self) -> bool:
        """Nothing is to be written, and nothing is being written."""
        return not (self._pending or self.syncing)

    def number_start(self, above: int) -> None:
        """From here on this start has a number above ``above``, and above the one it has."""
        start = _start_above(max(above, self.incarnation), self.journal_id)
        self.incarnation = start.incarnation
        self._remember(start, low=_NO_INDEX)

    def admit(self, founders: dict[str, bytes]) -> None:
        """From here on this member takes part: what it promises later is on disk behind this."""
        self.founders = dict(founders)
        self._remember(Admit(tuple(sorted(founders.items()))), low=_NO_INDEX)

    def begin_sync(self, queue: DiskQueue, done: Callable[[OSError | None], None]) -> None:
        """Hand everything pending to ``queue`` as one job; ``done`` hears when it is on disk, or why it is not.

        Nothing happens if nothing is pending or a sync is running: call again from ``done``. Always use one queue.
        """
        if self.syncing or not self._pending:
            return
        batch, self._pending = self._pending, []
        # The low of a failed sync stays: what it carried never counts as synced.
        self._in_flight_low = min(self._in_flight_low, self._pending_low)
        self._pending_low = _NO_INDEX
        self.syncing = True
        self._quiet = self._claimed = False
        self._queue = queue
        queue.submit(partial(self._writer.append, batch), partial(self._synced, self.lsn, done))

    def repair(self, queue: DiskQueue, done: Callable[[Exception | None], None]) -> None:
        """After a failure: try to make all that is in memory durable on what the disk is now (``journal_repair``).

        ``done`` hears None when the journal works again, else why not; then call again later.
        """
        if self.syncing:
            return
        self._pending = []
        self._in_flight_low, self._pending_low = min(self._in_flight_low, self._pending_low), _NO_INDEX
        self.syncing = True
        tracker, old = self._writer.tracker, self._writer
        target = Target(
            cluster=tracker.cluster,
            node_id=tracker.node_id,
            journal_id=self.journal_id,
            entries=list(self._entries),
            term=self._term,
            voted_for=self._voted_for,
            incarnation=self.incarnation,
            founders=tuple(sorted(self.founders.items())),
        )

        def job() -> tuple[SegmentWriter, Written]:
            old.abandon()
            return rebuild(self._disk, target, old.segment_bytes)

        queue.submit(job, partial(self._repaired, self.lsn, done))

    def _repaired(
        self,
        lsn: int,
        done: Callable[[Exception | None], None],
        result: tuple[SegmentWriter, Written] | BaseException,
    ) -> None:
        self.syncing = False
        if isinstance(result, Exception):
            done(result)
            return
        if isinstance(result, BaseException):
            raise result
        self._writer, written = result
        self.failure = None
        self.synced_lsn = lsn
        self._in_flight_low = _NO_INDEX
        self._bytes_on_disk = written.bytes_on_disk
        done(None)

    def close(self) -> None:
        """Sync what is pending if nothing failed, and release the directory. Close the disk queue first."""
        try:
            if self.failure is None and self._pending:
                self._writer.append(self._pending)
            self._writer.close()
        finally:
            self._disk.unlock()

    def _remember(self, record: Record, low: int) -> None:
        self._pending.append(record)
        self._pending_low = min(self._pending_low, low)
        self.lsn += 1

    def _synced(self, lsn: int, done: Callable[[OSError | None], None], result: Written | BaseException) -> None:
        self.syncing = False
        if isinstance(result, BaseException):
            self._fail(result)
            done(self.failure)
            return
        self.synced_lsn = lsn
        self._in_flight_low = _NO_INDEX
        del self._dropped[-FREE_ENTRIES_MAX:]
        self._bytes_on_disk = result.bytes_on_disk
        if result.dead_segments and self._queue is not None:
            self._queue.submit(self._writer.drop_dead_segments, self._kept_house)
        done(None)

    def _kept_house(self, result: BaseException | None) -> None:
        if isinstance(result, BaseException):
            self._fail(result)

    def _fail(self, result: BaseException) -> None:
        if self.failure is None:
            self.failure = result if isinstance(result, OSError) else OSError(errno.EIO, f"journal: {result!r}")


def _command_bytes(entries: list[LogEntry]) -> int:
    return sum([len(entry[0]) for entry in entries])
