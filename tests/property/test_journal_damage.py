"""Every prefix, every flipped bit and every crash point of a small journal: exhaustive, not sampled."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from artemis.consensus import records
from artemis.consensus.journal import Journal
from artemis.consensus.wire import LogEntry
from artemis.errors import DataDamaged
from tests.simulation.disk import Crashed, SimDisk, StepQueue

State = tuple[tuple[LogEntry, ...], int, str | None]


def open_journal(disk: SimDisk, segment_bytes: int = 1 << 20) -> Journal:
    return Journal.open(disk, node_id="n1", cluster="c", rng=Random(1), wall_ms=0, segment_bytes=segment_bytes)


def state(journal: Journal) -> State:
    return tuple(journal[0 : len(journal)]), journal.getCurrentTerm(), journal.getVotedForNodeId()


STORY: list[Callable[[Journal], None]] = [
    lambda journal: journal.setCurrentTerm(1, "n1"),
    lambda journal: journal.add(b"", 1, 1),
    lambda journal: journal.add(b"two", 2, 1),
    lambda journal: journal.add(b"three", 3, 1),
    lambda journal: journal.setCurrentTerm(2, None),
    lambda journal: journal.deleteEntriesFrom(2),
    lambda journal: journal.add(b"THREE", 3, 2),
    lambda journal: journal.add(b"\0" * 30, 4, 2),
    lambda journal: journal.setCurrentTerm(2, "n3"),
    lambda journal: journal.deleteEntriesTo(2),
    lambda journal: journal.add(b"five", 5, 2),
    lambda journal: journal.reset([(b"eight", 8, 2), (b"nine", 9, 2)]),
    lambda journal: journal.add(b"ten", 10, 2),
]
"""Every kind of record; synced in batches of two, so that most batches hold a change and its continuation."""


def tell(journal: Journal, states: list[State], acknowledged: list[int]) -> None:
    """Live through ``STORY``: ``states[n]`` is the one after n records, ``acknowledged`` has the lsn of each sync."""
    queue = StepQueue()
    states.append(state(journal))
    for number, change in enumerate(STORY, 1):
        change(journal)
        states.append(state(journal))
        if number % 2 == 0 or number == len(STORY):
            journal.begin_sync(queue, lambda error: acknowledged.append(journal.synced_lsn))
            queue.run()


def written(segment_bytes: int = 1 << 20) -> tuple[SimDisk, list[State]]:
    disk = SimDisk()
    states: list[State] = []
    tell(open_journal(disk, segment_bytes), states, [])
    disk.kill()
    return disk, states


def test_every_prefix_gives_the_state_of_the_records_that_are_whole() -> None:
    disk, states = written()
    (name,) = disk.names()
    content = disk.read(name)
    header = records.decode_header(content)
    assert not isinstance(header, records.Bad)
    previous = 0
    for size in range(len(content) + 1):
        cut = disk.copy()
        cut.truncate(name, size)
        if size < header[1]:
            with pytest.raises(DataDamaged):
                open_journal(cut)
            continue
        found = states.index(state(open_journal(cut)), previous)
        assert found - previous <= 1, "states come one after the other"
        previous = found
    assert previous == len(states) - 1


def test_what_is_written_after_a_cut_is_all_that_is_read_later() -> None:
    disk, _ = written()
    (name,) = disk.names()
    for size in range(300, disk.size(name), 7):
        cut = disk.copy()
        cut.truncate(name, size)
        journal = open_journal(cut)
        next_index = journal.last_index + 1
        journal.add(b"after", next_index, 5)
        journal.close()
        again = open_journal(cut)
        assert state(again)[0] == (*tuple(journal[0 : len(journal) - 1]), (b"after", next_index, 5))


@pytest.mark.parametrize("segment_bytes", [260, 1 << 20])
@pytest.mark.parametrize("closed", [True, False])
def test_every_flipped_bit_is_refused_or_cuts_only_what_no_mark_covers(segment_bytes: int, closed: bool) -> None:
    disk, states = written(segment_bytes)
    if closed:
        open_journal(disk, segment_bytes).close()
        disk.kill()
    last = disk.names()[-1]
    covered = _last_mark(disk, last)
    for name in disk.names():
        content = disk.contents(name)
        for bit in range(8 * len(content)):
            content[bit // 8] ^= 1 << bit % 8
            try:
                journal = open_journal(disk.copy(), segment_bytes)
            except DataDamaged:
                pass
            else:
                assert name == last
                assert bit // 8 >= covered, f"{name}: bit {bit} was covered by the mark at {covered}"
                assert state(journal) in states[-3:], "at most the last batch"
                if closed:
                    assert state(journal) == states[-1], "a clean end loses nothing but its own mark"
            content[bit // 8] ^= 1 << bit % 8


def _last_mark(disk: SimDisk, name: str) -> int:
    content = disk.read(name)
    decoded = records.decode_header(content)
    assert not isinstance(decoded, records.Bad)
    header, last = decoded
    seed = records.place_seed(header.journal_id, header.segment)
    at = records.find_mark(content, seed, 0)
    while at is not None:
        last = at
        at = records.find_mark(content, seed, at + 1)
    return last


@pytest.mark.parametrize("segment_bytes", [260, 1 << 20])
@pytest.mark.parametrize("torn_bytes", [None, 1, 20])
def test_a_crash_at_every_disk_operation_keeps_all_that_was_acknowledged(
    segment_bytes: int, torn_bytes: int | None
) -> None:
    rng = Random(11)
    for step in range(1, 1000):
        disk = SimDisk()
        states: list[State] = []
        acknowledged = [0]
        disk.crash_at(step, torn_bytes)
        try:
            tell(open_journal(disk, segment_bytes), states, acknowledged)
        except Crashed:
            allowed = states[acknowledged[-1] :] or [((), 0, None)]
            killed = disk.copy()
            killed.kill()
            for after in (killed, *disk.crash_states(rng, 12)):
                assert state(open_journal(after, segment_bytes)) in allowed
        else:
            assert step > 20
            return
    pytest.fail("the story never ended")
