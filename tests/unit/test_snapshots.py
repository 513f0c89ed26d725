"""The snapshot store: the newest whole one counts, a damaged one stops the node, nothing goes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

import pytest

from artemis.consensus.snapshots import SnapshotHeader, SnapshotStore
from artemis.errors import DataDamaged, InvalidInput
from tests.simulation.disk import Crashed, SimDisk, StepQueue

Result = SnapshotHeader | BaseException


def header(index: int, *, term: int = 2, cluster: str = "c1") -> SnapshotHeader:
    return SnapshotHeader(cluster, index, term, (b"previous", index - 1, term), (b"last", index, term))


def write(store: SnapshotStore, index: int, chunks: Iterable[bytes] = (b"state ", b"of it")) -> Result:
    queue = StepQueue()
    results: list[Result] = []
    store.write(header(index), chunks, queue, results.append)
    queue.run()
    assert not store.writing
    (result,) = results
    return result


def reopened(disk: SimDisk) -> SnapshotStore:
    disk.kill()
    return SnapshotStore.open(disk, "c1")


def test_there_is_none_at_first() -> None:
    store = SnapshotStore.open(SimDisk(), "c1")
    assert store.latest is None
    with pytest.raises(LookupError):
        store.load()
    with pytest.raises(LookupError):
        store.reader()


@pytest.mark.parametrize("chunks", [(), (b"",), (b"one",), (b"a", b"", b"\0" * 100_000, b"z")])
def test_what_was_written_is_loaded_after_a_power_cut(chunks: tuple[bytes, ...]) -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    assert write(store, 10, chunks) == store.latest == header(10)
    disk.power_cut(Random(1))
    store = SnapshotStore.open(disk, "c1")
    assert store.latest == header(10)
    assert store.load() == (header(10), b"".join(chunks))


def test_equal_state_gives_equal_files_on_every_node() -> None:
    disks = [SimDisk(), SimDisk()]
    for disk in disks:
        write(SnapshotStore.open(disk, "c1"), 10)
    (name,) = disks[0].names()
    assert disks[0].read(name) == disks[1].read(name)


def test_a_newer_one_replaces_the_older_and_its_file() -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    write(store, 10)
    assert write(store, 20, [b"new"]) == header(20)
    assert len(disk.names()) == 1
    assert reopened(disk).load() == (header(20), b"new")


@pytest.mark.parametrize("index", [10, 9])
def test_one_that_is_not_newer_changes_nothing(index: int) -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    write(store, 10, [b"kept"])
    assert write(store, index, [b"other"]) == header(index), "its state is covered"
    assert store.latest == header(10)
    assert store.load() == (header(10), b"kept")
    assert len(disk.names()) == 1


def test_chunks_are_drawn_one_by_one_and_other_jobs_run_between_them() -> None:
    store, queue = SnapshotStore.open(SimDisk(), "c1"), StepQueue()
    drawn: list[int] = []

    def encode() -> Iterator[bytes]:
        for number in range(3):
            drawn.append(number)
            yield b"slice"

    store.write(header(10), encode(), queue, lambda _: None)
    assert drawn == [], "nothing runs inside the call"
    for expected in ([0], [0, 1], [0, 1, 2]):
        queue.step()
        assert drawn == expected
        assert len(queue) == 1
    with pytest.raises(RuntimeError, match="is being written"):
        store.write(header(11), [], queue, lambda _: None)


@pytest.mark.parametrize("operation", ["write", "sync", "append", "rename", "sync_directory"])
def test_after_a_failed_write_the_earlier_snapshot_stands_and_the_next_attempt_works(operation: str) -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    write(store, 10)
    disk.fail(operation)  # type: ignore[arg-type]
    assert isinstance(write(store, 20), OSError)
    assert store.latest == header(10)
    assert store.load()[0] == header(10)
    assert write(store, 30, [b"third"]) == header(30)
    assert reopened(disk).load() == (header(30), b"third")


def test_a_crash_at_every_disk_operation_leaves_the_old_or_the_new_one_whole() -> None:
    rng = Random(5)
    seen = set()
    for step in range(1, 100):
        disk = SimDisk()
        store = SnapshotStore.open(disk, "c1")
        write(store, 10, [b"old"])
        disk.crash_at(disk.steps + step, torn_bytes=step % 7)
        try:
            write(store, 20, [b"new " * 300, b"state"])
        except Crashed:
            killed = disk.copy()
            killed.kill()
            for state in (killed, *disk.crash_states(rng, 20)):
                found, content = SnapshotStore.open(state, "c1").load()
                assert (found.index, content) in ((10, b"old"), (20, b"new " * 300 + b"state"))
                assert len(state.names()) == 1, "leftovers are gone"
                seen.add(found.index)
        else:
            assert seen == {10, 20}
            return
    pytest.fail("the write never ended")


def test_a_snapshot_that_only_a_killed_process_saw_is_made_durable_before_it_counts() -> None:
    for step in range(1, 30):
        disk = SimDisk()
        store = SnapshotStore.open(disk, "c1")
        write(store, 10)
        disk.crash_at(disk.steps + step)
        try:
            write(store, 20)
        except Crashed:
            latest = reopened(disk).latest
            for state in disk.crash_states(Random(step), 20):
                assert SnapshotStore.open(state, "c1").latest == latest
        else:
            return
    pytest.fail("the write never ended")


def test_every_flipped_bit_and_every_shorter_file_is_refused_at_start() -> None:
    disk = SimDisk()
    write(SnapshotStore.open(disk, "c1"), 10, [b"state"])
    disk.kill()
    (name,) = disk.names()
    content = disk.contents(name)
    for bit in range(8 * len(content)):
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataDamaged, match=f"{name}.*--rejoin"):
            SnapshotStore.open(disk, "c1")
        content[bit // 8] ^= 1 << bit % 8
    while content:
        del content[-1]
        with pytest.raises(DataDamaged, match=name):
            SnapshotStore.open(disk, "c1")


def test_a_damaged_newest_one_is_refused_even_with_an_older_one_beside_it() -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    write(store, 10)
    (old,) = disk.names()
    kept = disk.read(old)
    write(store, 20)
    (new,) = disk.names()
    disk.append(old).write(kept)
    disk.contents(new)[40] ^= 1
    with pytest.raises(DataDamaged, match=new):
        reopened(disk)
    assert disk.names() == [old, new], "a refused start changes nothing"


def test_a_renamed_snapshot_is_refused() -> None:
    disk = SimDisk()
    write(SnapshotStore.open(disk, "c1"), 10)
    (name,) = disk.names()
    disk.rename(name, name.replace("10-", "11-"))
    with pytest.raises(DataDamaged, match="it says it is"):
        reopened(disk)


def test_another_clusters_snapshot_is_a_wrong_setting() -> None:
    disk = SimDisk()
    store = SnapshotStore.open(disk, "c1")
    with pytest.raises(InvalidInput, match="cluster"):
        store.write(header(10, cluster="c2"), [], StepQueue(), lambda _: None)
    write(store, 10)
    with pytest.raises(InvalidInput, match="belongs to cluster 'c1'"):
        SnapshotStore.open(disk, "c2")


@pytest.mark.parametrize(
    ("previous", "last", "field"),
    [((b"", 8, 2), (b"", 10, 2), "previous"), ((b"", 9, 2), (b"", 11, 2), "last"), ((b"", 9, 2), (b"", 10, 3), "last")],
)
def test_a_header_whose_entries_are_not_its_two_last_is_refused(
    previous: tuple[bytes, int, int], last: tuple[bytes, int, int], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        SnapshotHeader("c1", 10, 2, previous, last)
    assert caught.value.field == field


# To a follower


def test_a_reader_keeps_its_file_until_it_is_released() -> None:
    disk, queue = SimDisk(), StepQueue()
    store = SnapshotStore.open(disk, "c1")
    write(store, 10, [b"old state"])
    first, second = store.reader(), store.reader()
    assert first.header == header(10)
    content = first.read(0, first.total)
    assert content[-57:-48] == b"old state"
    write(store, 20)
    assert second.read(4, 9) == content[4:13]
    first.release(queue)
    first.release(queue)
    queue.run()
    assert second.read(0, second.total) == content, "another one still reads it"
    second.release(queue)
    queue.run()
    assert len(disk.names()) == 1
    store.reader().release(queue)
    queue.run()
    assert store.load()[0] == header(20), "the newest stays"


class Follower:
    """Takes a snapshot from a leader's reader, in chunks."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.queue = StepQueue()
        self.store = SnapshotStore.open(self.disk, "c1")
        self.written: list[int | BaseException] = []
        self.results: list[tuple[SnapshotHeader, bytes] | BaseException] = []

    def take(self, content: bytes, *, index: int, chunk_bytes: int = 16, until: int | None = None) -> None:
        receiver = self.store.start_receive(index, 2, len(content), self.queue)
        while receiver.next_offset < (len(content) if until is None else until):
            offset = receiver.next_offset
            assert receiver.receive(offset, content[offset : offset + chunk_bytes], self.written.append)
            self.queue.run()
        if until is None:
            receiver.finish(self.results.append)
            self.queue.run()


def snapshot_bytes(index: int, state: bytes = b"the leader's state") -> bytes:
    store = SnapshotStore.open(SimDisk(), "c1")
    write(store, index, [state])
    reader = store.reader()
    return reader.read(0, reader.total)


def test_a_received_snapshot_is_verified_durable_and_handed_over() -> None:
    follower = Follower()
    content = snapshot_bytes(50)
    follower.take(content, index=50)
    assert follower.results == [(header(50), b"the leader's state")]
    assert follower.written[-1] == len(content)
    assert follower.store.latest == header(50)
    follower.disk.power_cut(Random(1))
    assert SnapshotStore.open(follower.disk, "c1").load() == (header(50), b"the leader's state")


def test_receiving_goes_on_where_it_stopped_and_ignores_what_does_not_fit() -> None:
    follower = Follower()
    content = snapshot_bytes(50)
    follower.take(content, index=50, until=32)
    receiver = follower.store.start_receive(50, 2, len(content), follower.queue)
    assert receiver.next_offset == 32
    assert not receiver.receive(16, content[16:32], follower.written.append), "seen"
    assert not receiver.receive(48, content[48:64], follower.written.append), "a hole"
    assert receiver.next_offset == 32
    follower.take(content, index=50)
    assert follower.results == [(header(50), b"the leader's state")]


def test_a_transfer_given_up_for_another_one_never_reports_success() -> None:
    follower = Follower()
    content = snapshot_bytes(50)
    given_up = follower.store.start_receive(50, 2, len(content), follower.queue)
    assert given_up.receive(0, content, follower.written.append)
    other = follower.store.start_receive(60, 2, len(content), follower.queue)
    follower.queue.run()
    (result,) = follower.written
    assert isinstance(result, OSError)
    assert not given_up.receive(0, content, follower.written.append)
    assert other.next_offset == 0
    assert follower.disk.names() == []


def test_another_snapshot_than_the_one_under_way_begins_at_the_start() -> None:
    follower = Follower()
    follower.take(snapshot_bytes(50), index=50, until=32)
    follower.take(snapshot_bytes(60), index=60)
    assert follower.results == [(header(60), b"the leader's state")]
    assert len(follower.disk.names()) == 1


def test_a_damaged_received_snapshot_is_dropped_and_may_come_again() -> None:
    follower = Follower()
    write(follower.store, 10)
    good = snapshot_bytes(50)
    for at in range(0, len(good), 5):
        bad = bytearray(good)
        bad[at] ^= 1
        follower.take(bytes(bad), index=50)
        assert isinstance(follower.results.pop(), DataDamaged)
        assert follower.store.latest == header(10)
        assert len(follower.disk.names()) == 1
    follower.take(good, index=50)
    assert follower.store.latest == header(50)


def test_a_received_snapshot_of_another_index_than_announced_is_dropped() -> None:
    follower = Follower()
    follower.take(snapshot_bytes(50), index=51)
    assert isinstance(follower.results[0], DataDamaged)
    assert follower.store.latest is None


def test_an_older_received_snapshot_is_handed_over_but_not_kept() -> None:
    follower = Follower()
    write(follower.store, 60)
    follower.take(snapshot_bytes(50), index=50)
    assert follower.results == [(header(50), b"the leader's state")]
    assert follower.store.latest == header(60)
    assert len(follower.disk.names()) == 1


def test_more_bytes_than_announced_are_refused() -> None:
    follower = Follower()
    receiver = follower.store.start_receive(50, 2, 10, follower.queue)
    with pytest.raises(DataDamaged, match="announced 10"):
        receiver.receive(0, b"eleven byte", follower.written.append)
    with pytest.raises(RuntimeError, match="not complete"):
        receiver.finish(follower.results.append)
    assert follower.store.start_receive(50, 2, 10, follower.queue) is not receiver


@pytest.mark.parametrize("operation", ["write", "sync", "rename", "append"])
def test_a_disk_error_while_receiving_is_told_and_the_next_attempt_works(operation: str) -> None:
    follower = Follower()
    content = snapshot_bytes(50)
    follower.disk.fail(operation)  # type: ignore[arg-type]
    receiver = follower.store.start_receive(50, 2, len(content), follower.queue)
    assert receiver.receive(0, content, follower.written.append)
    follower.queue.run()
    if not receiver.failed:
        receiver.finish(follower.results.append)
        follower.queue.run()
    assert isinstance((follower.written + follower.results)[-1], OSError)
    assert follower.disk.names() == []
    follower.take(content, index=50)
    assert follower.store.latest == header(50)
    assert len(follower.disk.names()) == 1


def test_a_crash_at_every_disk_operation_of_receiving_leaves_the_old_or_the_new_one_whole() -> None:
    rng = Random(9)
    content = snapshot_bytes(50)
    for step in range(1, 100):
        follower = Follower()
        write(follower.store, 10, [b"old"])
        follower.disk.crash_at(follower.disk.steps + step, torn_bytes=3)
        try:
            follower.take(content, index=50, chunk_bytes=64)
        except Crashed:
            for state in follower.disk.crash_states(rng, 15):
                found, restored = SnapshotStore.open(state, "c1").load()
                assert (found.index, restored) in ((10, b"old"), (50, b"the leader's state"))
        else:
            return
    pytest.fail("the transfer never ended")


def test_own_and_received_snapshots_at_once_keep_the_newer() -> None:
    for own, received in ((40, 50), (50, 40)):
        follower = Follower()
        content = snapshot_bytes(received)
        receiver = follower.store.start_receive(received, 2, len(content), follower.queue)
        receiver.receive(0, content, follower.written.append)
        taken: list[Result] = []
        follower.store.write(header(own), [b"own"], follower.queue, taken.append)
        receiver.finish(follower.results.append)
        follower.queue.run()
        assert taken == [header(own)], "never the received one: the log up to it is not there"
        assert follower.store.latest == header(50)
        assert reopened(follower.disk).latest == header(50)
        assert len(follower.disk.names()) == 1
