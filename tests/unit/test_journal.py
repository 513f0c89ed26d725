"""The journal: PySyncObj's view of it, what is durable when, and what a damaged one says."""

from __future__ import annotations

import errno
from random import Random

import pytest

from artemis.consensus import records, segments
from artemis.consensus.journal import SLICE_ENTRIES_MAX, Journal
from artemis.consensus.records import COMMAND_BYTES_MAX
from artemis.errors import DataDamaged, InvalidInput
from tests.simulation.disk import Crashed, SimDisk, StepQueue

FIRST = "journal-000000000001.log"


def open_journal(disk: SimDisk, *, segment_bytes: int = 1 << 20, wall_ms: int = 0, seed: int = 1) -> Journal:
    return Journal.open(
        disk, node_id="n1", cluster="c1", rng=Random(seed), wall_ms=wall_ms, segment_bytes=segment_bytes
    )


def sync(journal: Journal, queue: StepQueue) -> list[OSError | None]:
    results: list[OSError | None] = []
    journal.begin_sync(queue, results.append)
    queue.run()
    return results


def filled(disk: SimDisk, entries: int, *, segment_bytes: int = 1 << 20) -> Journal:
    """A journal with synced entries 1 to ``entries``, one batch each."""
    journal, queue = open_journal(disk, segment_bytes=segment_bytes), StepQueue()
    journal.setCurrentTerm(1, "n1")
    for index in range(1, entries + 1):
        journal.add(b"command %d" % index, index, 1)
        assert sync(journal, queue) == [None]
    return journal


def reopened(disk: SimDisk, *, segment_bytes: int = 1 << 20) -> Journal:
    disk.kill()
    return open_journal(disk, segment_bytes=segment_bytes)


# As PySyncObj sees it


def test_a_new_journal_is_empty_and_says_so() -> None:
    journal = open_journal(SimDisk())
    assert len(journal) == 0
    assert journal.recovery.created
    assert (journal.first_index, journal.last_index, journal.last_term) == (0, 0, 0)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId(), journal.getRaftCommitIndex()) == (0, None, 1)


def test_entries_are_tuples_in_order_by_position_and_slice() -> None:
    journal = open_journal(SimDisk())
    for index in range(5, 10):
        journal.add(b"%d" % index, index, index // 2)
    assert journal[0] == (b"5", 5, 2)
    assert journal[-1] == (b"9", 9, 4)
    assert journal[1:3] == [(b"6", 6, 3), (b"7", 7, 3)]
    assert journal[3:] == [(b"8", 8, 4), (b"9", 9, 4)]
    assert journal[7:] == []
    assert len(journal) == 5
    assert [journal.term_at(index) for index in (4, 5, 9, 10)] == [None, 2, 4, None]


def test_an_open_ended_slice_is_bounded() -> None:
    journal = open_journal(SimDisk())
    for index in range(1, SLICE_ENTRIES_MAX + 100):
        journal.add(b"x", index, 1)
    assert [entry[1] for entry in journal[10:]] == list(range(11, 11 + SLICE_ENTRIES_MAX))


def test_cutting_either_end_keeps_indexes_bytes_and_order() -> None:
    journal = filled(SimDisk(), 10)
    journal.deleteEntriesTo(3)
    journal.deleteEntriesFrom(5)
    assert [entry[1] for entry in journal[:]] == [4, 5, 6, 7, 8]
    assert journal.entry_bytes == sum(len(entry[0]) for entry in journal[:])
    assert journal.getRaftCommitIndex() == 4
    journal.add(b"new", 9, 2)
    assert journal[-1] == (b"new", 9, 2)


@pytest.mark.parametrize("position", [3, 4, -1])
def test_the_log_is_never_emptied_from_the_front(position: int) -> None:
    journal = filled(SimDisk(), 3)
    with pytest.raises(ValueError, match="position"):
        journal.deleteEntriesTo(position)
    assert len(journal) == 3


@pytest.mark.parametrize("position", [0, 4, -1])
def test_the_log_is_never_emptied_from_the_back(position: int) -> None:
    journal = filled(SimDisk(), 3)
    with pytest.raises(ValueError, match="position"):
        journal.deleteEntriesFrom(position)
    assert len(journal) == 3


def test_an_entry_must_continue_the_log() -> None:
    journal = filled(SimDisk(), 3)
    for index in (3, 5):
        with pytest.raises(ValueError, match="continues with 4"):
            journal.add(b"", index, 1)
    with pytest.raises(ValueError, match="at most"):
        journal.add(bytes(COMMAND_BYTES_MAX + 1), 4, 1)
    assert (len(journal), journal.last_index) == (3, 3)


def test_a_second_vote_in_a_term_and_an_older_term_are_refused() -> None:
    journal = open_journal(SimDisk())
    journal.setCurrentTerm(2, None)
    journal.setCurrentTerm(2, "n2")
    journal.setCurrentTerm(2, "n2")
    for term, voted_for in ((2, "n3"), (2, None), (1, "n2")):
        with pytest.raises(ValueError, match="after one for 'n2' in 2"):
            journal.setCurrentTerm(term, voted_for)
    journal.setCurrentTerm(3, None)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (3, None)


# What is durable


def test_nothing_is_on_disk_before_the_sync_and_all_of_it_after() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = open_journal(disk)
    journal.setCurrentTerm(1, "n2")
    journal.add(b"a", 1, 1)
    lsn = journal.lsn
    assert (journal.synced_lsn, journal.synced_index) == (0, 0)
    assert len(reopened(disk.copy())) == 0
    results: list[OSError | None] = []
    journal.begin_sync(queue, results.append)
    assert journal.syncing
    journal.begin_sync(queue, results.append)
    assert len(queue) == 1, "one sync at a time"
    queue.run()
    assert results == [None]
    assert (journal.synced_lsn, journal.synced_index, journal.syncing) == (lsn, 1, False)
    disk.power_cut(Random(1))
    journal = open_journal(disk)
    assert journal[:] == [(b"a", 1, 1)]
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (1, "n2")


def test_entries_added_during_a_sync_belong_to_the_next_one() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = open_journal(disk)
    journal.add(b"a", 1, 1)
    journal.begin_sync(queue, lambda _: None)
    journal.add(b"b", 2, 1)
    queue.run()
    assert (journal.synced_index, journal.synced_lsn, journal.lsn) == (1, 1, 2)
    assert sync(journal, queue) == [None]
    assert (journal.synced_index, journal.synced_lsn) == (2, 2)
    assert sync(journal, queue) == [], "nothing to do is no job"


def test_replaced_entries_lower_the_synced_index_until_they_are_synced() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 5)
    journal.deleteEntriesFrom(2)
    assert journal.synced_index == 2
    for index in (3, 4, 5, 6):
        journal.add(b"new", index, 2)
    assert journal.synced_index == 2
    journal.begin_sync(queue, lambda _: None)
    journal.deleteEntriesFrom(5)
    journal.add(b"newer", 6, 3)
    assert journal.synced_index == 2
    queue.run()
    assert journal.synced_index == 5
    assert sync(journal, queue) == [None]
    assert journal.synced_index == 6


def test_dropping_the_prefix_does_not_lower_the_synced_index() -> None:
    journal = filled(SimDisk(), 5)
    journal.deleteEntriesTo(3)
    assert journal.synced_index == 5


def test_a_reset_is_all_or_nothing_in_any_power_cut() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 5)
    before = journal[:]
    after = [(b"previous", 99, 3), (b"last", 100, 4)]
    journal.reset(after)
    assert (journal[:], journal.synced_index) == (after, 0)
    journal.begin_sync(queue, lambda _: None)
    disk.crash_at(disk.steps + 2)  # written, not synced
    with pytest.raises(Crashed):
        queue.run()
    seen = []
    for state in disk.crash_states(Random(3), 200):
        seen.append(open_journal(state)[:])
        assert seen[-1] in (before, after)
    assert before in seen
    assert after in seen


def test_the_incarnation_grows_at_each_open_whatever_the_wall_clock_says() -> None:
    disk = SimDisk()
    seen = []
    for wall_ms in (5_000_000, 3_000_000, 0, 9_000_000):
        seen.append(open_journal(disk, wall_ms=wall_ms).incarnation)
        disk.power_cut(Random(wall_ms))
    assert seen == sorted(set(seen))
    assert seen[0] >> 20 >= 5_000_000
    assert seen[-1] >> 20 >= 9_000_000


def test_starts_on_a_disk_and_on_the_one_that_replaced_it_have_other_numbers() -> None:
    """With the wall clock set back both may be one above the same start that others know."""
    lost, replaced = open_journal(SimDisk(), seed=1), open_journal(SimDisk(), seed=2)
    assert lost.incarnation != replaced.incarnation
    lost.number_start(7 << 60)
    replaced.number_start(7 << 60)
    assert lost.incarnation != replaced.incarnation
    assert min(lost.incarnation, replaced.incarnation) > 7 << 60


def test_the_journal_id_is_drawn_once() -> None:
    disk = SimDisk()
    drawn = open_journal(disk, seed=1).journal_id
    disk.kill()
    assert open_journal(disk, seed=2).journal_id == drawn
    assert open_journal(SimDisk(), seed=2).journal_id != drawn


def test_after_a_failed_sync_nothing_is_vouched_for_until_reopened() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 2)
    journal.add(b"lost", 3, 1)
    disk.fail("sync", error=OSError(errno.EIO, "bad sector"))
    (failure,) = sync(journal, queue)
    assert failure is journal.failure
    assert "bad sector" in str(failure)
    journal.add(b"more", 4, 1)
    (again,) = sync(journal, queue)  # the disk itself would say yes now
    assert again is not None
    assert (journal.synced_index, journal.synced_lsn) == (2, 3)
    journal.close()
    disk.power_cut(Random(1))
    assert [entry[0] for entry in open_journal(disk)[:]] == [b"command 1", b"command 2"]


def test_what_a_failed_sync_left_in_memory_is_written_again_before_it_is_vouched_for() -> None:
    """The kernel keeps the bytes readable and calls them clean: the next life's syncs would not write them."""
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 2)
    journal.add(b"readable", 3, 1)
    disk.fail("sync")
    sync(journal, queue)
    journal = reopened(disk)
    assert journal.synced_index == 3
    journal.add(b"acknowledged", 4, 1)
    assert sync(journal, queue) == [None]
    for state in disk.crash_states(Random(1), 20):
        assert [entry[0] for entry in open_journal(state)[2:]] == [b"readable", b"acknowledged"]


def test_a_full_disk_fails_the_sync_and_leaves_a_readable_journal() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 2)
    journal.add(b"too much", 3, 1)
    disk.fail("write", error=OSError(errno.ENOSPC, "no space left"))
    (failure,) = sync(journal, queue)
    assert failure is not None
    assert failure.errno == errno.ENOSPC
    assert len(reopened(disk)) == 2


def test_an_idle_journal_leaves_one_mark_and_then_rests() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = open_journal(disk)
    journal.add(b"a", 1, 1)
    sync(journal, queue)
    size = disk.size(FIRST)
    journal.onOneSecondTimer()
    assert len(queue) == 0, "something happened in this second"
    journal.onOneSecondTimer()
    queue.run()
    assert disk.size(FIRST) > size
    journal.onOneSecondTimer()
    assert len(queue) == 0
    disk.power_cut(Random(1))
    disk.contents(FIRST)[size - 1] ^= 1  # the command of the last batch
    with pytest.raises(DataDamaged, match="had been on disk"):
        open_journal(disk)


def test_close_syncs_what_is_pending_and_lets_the_next_one_in() -> None:
    disk = SimDisk()
    journal = open_journal(disk)
    journal.add(b"a", 1, 1)
    with pytest.raises(BlockingIOError, match="in use"):
        open_journal(disk)
    journal.close()
    disk.power_cut(Random(1))
    assert len(open_journal(disk)) == 1


# Segments


def test_segments_rotate_and_go_when_the_base_has_passed_them() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 50, segment_bytes=400)
    many = len(disk.names())
    assert many > 5
    journal.deleteEntriesTo(48)
    assert sync(journal, queue) == [None]
    assert len(disk.names()) <= 2
    assert journal.bytes_on_disk() > disk.size(disk.names()[-1])
    journal.setCurrentTerm(2, None)
    sync(journal, queue)
    disk.power_cut(Random(1))
    journal = open_journal(disk, segment_bytes=400)
    assert [entry[1] for entry in journal[:]] == [49, 50]
    assert journal.getCurrentTerm() == 2


def test_nothing_is_deleted_before_the_base_is_on_disk() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 50, segment_bytes=400)
    before = disk.names()
    journal.deleteEntriesTo(48)
    journal.begin_sync(queue, lambda _: None)
    assert disk.names() == before
    disk.fail("sync")
    queue.run()
    assert set(before) <= set(disk.names())


def test_entries_replaced_across_segments_are_recovered_as_replaced() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 30, segment_bytes=400)
    journal.deleteEntriesFrom(10)
    for index in range(11, 16):
        journal.add(b"new", index, 2)
    sync(journal, queue)
    journal.deleteEntriesTo(9)
    sync(journal, queue)
    expected = journal[:]
    assert reopened(disk, segment_bytes=400)[:] == expected


def test_a_segment_that_only_a_killed_process_saw_is_made_durable() -> None:
    for step in range(1, 9):  # through the rotation in front of the next batch
        disk, queue = SimDisk(), StepQueue()
        journal = filled(disk, 3, segment_bytes=100)
        journal.add(b"never acknowledged", 4, 1)
        journal.begin_sync(queue, lambda _: None)
        disk.crash_at(disk.steps + step)
        with pytest.raises(Crashed):
            queue.run()
        journal = reopened(disk, segment_bytes=100)
        index = journal.last_index + 1
        journal.add(b"acknowledged", index, 1)
        assert sync(journal, queue) == [None]
        for state in disk.crash_states(Random(step), 20):
            assert open_journal(state, segment_bytes=100)[-1] == (b"acknowledged", index, 1)


def test_a_tail_that_only_a_killed_process_saw_is_made_durable_before_rotation() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = open_journal(disk, segment_bytes=100)
    journal.add(b"written, not synced", 1, 1)
    journal.begin_sync(queue, lambda _: None)
    disk.crash_at(disk.steps + 2)
    with pytest.raises(Crashed):
        queue.run()
    assert len(reopened(disk, segment_bytes=100)) == 1
    assert len(disk.names()) == 2
    for state in disk.crash_states(Random(1), 20):
        assert len(open_journal(state, segment_bytes=100)) == 1


def test_a_missing_needed_segment_is_refused() -> None:
    disk = SimDisk()
    filled(disk, 50, segment_bytes=400)
    for name in disk.names()[:-1]:
        copy = disk.copy()
        copy.remove(name)
        copy.kill()
        with pytest.raises(DataDamaged, match="an older segment is gone"):
            open_journal(copy)


def test_an_older_segment_that_came_back_behind_a_gap_is_dropped() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 50, segment_bytes=400)
    oldest = disk.names()[0]
    kept = disk.read(oldest)
    journal.deleteEntriesTo(48)
    sync(journal, queue)
    disk.append(oldest).write(kept)
    journal = reopened(disk)
    assert [entry[1] for entry in journal[:]] == [49, 50]
    assert oldest not in disk.names()


def test_a_shortened_old_segment_is_refused() -> None:
    disk = SimDisk()
    filled(disk, 50, segment_bytes=400)
    first, second = disk.names()[:2]
    last_mark = records.find_mark(disk.read(first), _seed(disk, first), 300)
    assert last_mark is not None
    disk.truncate(first, last_mark)  # exactly at a record: each record that is left is valid
    disk.kill()
    with pytest.raises(DataDamaged, match=f"{second}.*does not continue"):
        open_journal(disk)


# Damage


def _seed(disk: SimDisk, name: str) -> int:
    header = records.decode_header(disk.read(name))
    assert not isinstance(header, records.Bad)
    return records.place_seed(header[0].journal_id, header[0].segment)


def test_a_torn_end_is_cut_durably_and_reported() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 3)
    size = disk.size(FIRST)
    journal.add(b"half written", 4, 1)
    sync(journal, queue)
    torn = disk.size(FIRST) - 5
    disk.truncate(FIRST, torn)
    disk.kill()
    journal = open_journal(disk)
    assert journal.recovery.entries == len(journal) == 3
    # the mark in front of the batch was whole, so only the entry behind it is cut
    assert journal.recovery.cut_bytes == torn - size - 9
    assert reopened(disk).recovery.cut_bytes == 0


def test_bytes_behind_a_cut_do_not_come_back() -> None:
    disk, queue = SimDisk(), StepQueue()
    journal = filled(disk, 1)
    size = disk.size(FIRST)
    for index in range(2, 6):
        journal.add(b"old", index, 1)
    sync(journal, queue)
    disk.contents(FIRST)[size + 9 + 12] ^= 1  # first entry of the unclaimed batch; the others stay whole
    journal = reopened(disk)
    assert len(journal) == 1
    journal.add(b"new", 2, 2)
    sync(journal, queue)
    assert reopened(disk)[1:] == [(b"new", 2, 2)]


def test_a_damaged_middle_is_refused_with_file_place_and_advice() -> None:
    disk = SimDisk()
    filled(disk, 3)
    at = disk.read(FIRST).index(b"command 2")
    disk.contents(FIRST)[at] ^= 0x10
    disk.kill()
    with pytest.raises(DataDamaged, match=rf"{FIRST} at byte {at - 25}: the checksum.*--rejoin"):
        open_journal(disk)
    disk.lock()  # the refused start let go of the directory


def test_a_segment_under_another_name_is_refused() -> None:
    """Its records are bound to its number: all of them would look like a torn end, and be cut."""
    disk = SimDisk()
    filled(disk, 3)
    disk.kill()
    disk.rename(FIRST, "journal-000000000003.log")
    with pytest.raises(DataDamaged, match=r"journal-000000000003\.log at byte 0: it is segment 1 under another name"):
        open_journal(disk)


def test_a_snapshot_without_a_journal_is_refused() -> None:
    disk = SimDisk()
    name = "snapshot-00000000000000000010-00000000000000000001.bin"
    file = disk.append(name)
    file.write(b"state")
    with pytest.raises(DataDamaged, match=f"{name} is there, but the journal is missing.*--rejoin"):
        open_journal(disk)
    assert disk.names() == [name], "a refused start leaves nothing that the next one could take for a journal"


def test_a_damaged_header_is_refused_even_in_the_newest_segment() -> None:
    disk = SimDisk()
    open_journal(disk)
    disk.contents(FIRST)[12] ^= 1
    disk.kill()
    with pytest.raises(DataDamaged, match=f"{FIRST} at byte 0"):
        open_journal(disk)


def test_anothers_directory_is_a_wrong_setting_not_damage() -> None:
    disk = SimDisk()
    filled(disk, 1)
    for node_id, cluster, field in (("n2", "c1", "node_id"), ("n1", "c2", "cluster_name")):
        disk.kill()
        with pytest.raises(InvalidInput, match="the data directory belongs to") as caught:
            Journal.open(disk, node_id=node_id, cluster=cluster, rng=Random(1), wall_ms=0)
        assert caught.value.field == field


def test_an_unfinished_first_segment_is_begun_again() -> None:
    disk = SimDisk()
    for step in range(1, 20):
        disk.crash_at(disk.steps + step)
        try:
            journal = open_journal(disk)
        except Crashed:
            disk.power_cut(Random(step))
            continue
        assert journal.recovery.cut_bytes == 0
        break
    else:
        pytest.fail("never opened")
    disk.kill()
    assert open_journal(disk).recovery.segments == 1


def test_segment_names_sort_as_their_numbers() -> None:
    names = [segments.segment_name(number) for number in (1, 9, 10, 10**11)]
    assert names == sorted(names)
