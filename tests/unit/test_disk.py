"""What the engine may expect of a disk and of a disk queue: the real and the simulated ones pass the same tests."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from artemis.consensus.disk import FileDisk, ThreadDiskQueue
from artemis.consensus.ports import Disk
from tests.simulation.disk import Crashed, SimDisk, StepQueue


@pytest.fixture(params=["files", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return FileDisk(tmp_path / "data") if request.param == "files" else SimDisk()


def write(disk: Disk, name: str, data: bytes) -> None:
    file = disk.append(name)
    file.write(data)
    file.sync()
    file.close()


# Both disks


def test_what_is_appended_is_read_back_whole_and_in_ranges(disk: Disk) -> None:
    write(disk, "a", b"0123")
    write(disk, "a", b"456789")
    assert disk.read("a") == b"0123456789"
    assert disk.size("a") == 10
    assert disk.read_range("a", 2, 3) == b"234"
    assert disk.read_range("a", 8, 100) == b"89"
    assert disk.read_range("a", 10, 1) == b""


def test_names_follow_creation_rename_and_removal(disk: Disk) -> None:
    disk.append("b").close()
    write(disk, "a", b"old")
    write(disk, "c", b"new")
    assert disk.names() == ["a", "b", "c"]
    disk.rename("c", "a")
    disk.remove("b")
    disk.sync_directory()
    assert disk.names() == ["a"]
    assert disk.read("a") == b"new"


def test_a_file_stays_open_for_appending_while_it_is_renamed(disk: Disk) -> None:
    file = disk.append("a")
    file.write(b"before ")
    disk.rename("a", "b")
    file.write(b"after")
    file.close()
    assert disk.read("b") == b"before after"


def test_truncate_cuts_and_appending_goes_on_behind_the_cut(disk: Disk) -> None:
    write(disk, "a", b"0123456789")
    disk.truncate("a", 4)
    write(disk, "a", b"new")
    assert disk.read("a") == b"0123new"


@pytest.mark.parametrize(
    "call",
    [
        lambda disk: disk.read("none"),
        lambda disk: disk.read_range("none", 0, 1),
        lambda disk: disk.size("none"),
        lambda disk: disk.truncate("none", 0),
        lambda disk: disk.rename("none", "a"),
        lambda disk: disk.remove("none"),
    ],
)
def test_a_file_that_is_not_there_is_an_os_error(disk: Disk, call: Callable[[Disk], object]) -> None:
    with pytest.raises(FileNotFoundError):
        call(disk)
    assert disk.names() == []


def test_the_lock_keeps_others_out_until_it_is_released(disk: Disk) -> None:
    other = FileDisk(disk.path) if isinstance(disk, FileDisk) else disk
    disk.lock()
    with pytest.raises(BlockingIOError, match="in use by another process"):
        other.lock()
    disk.unlock()
    other.lock()
    assert disk.names() == [], "the lock is no file of the engine"
    other.unlock()


# Files


def test_the_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    FileDisk(tmp_path / "some" / "where")
    assert stat.S_IMODE((tmp_path / "some" / "where").stat().st_mode) == 0o700


def test_the_lock_error_names_directory_and_process(tmp_path: Path) -> None:
    first, second = FileDisk(tmp_path), FileDisk(tmp_path)
    first.lock()
    with pytest.raises(BlockingIOError, match=rf"pid {os.getpid()}.*{tmp_path}"):
        second.lock()
    first.unlock()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "lock"])
def test_only_plain_names_are_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        FileDisk(tmp_path).append(name)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FileDisk(tmp_path)
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real_write(descriptor, bytes(data)[:3]))
    write(disk, "a", b"0123456789")
    assert disk.read("a") == b"0123456789"


# What the simulated one loses


def test_a_kill_keeps_everything_and_ends_the_old_handles() -> None:
    disk = SimDisk()
    disk.lock()
    file = disk.append("a")
    file.write(b"not synced")
    disk.kill()
    assert disk.read("a") == b"not synced"
    disk.lock()
    with pytest.raises(Crashed):
        file.write(b"from the dead")


def test_a_power_cut_keeps_what_was_synced_and_a_torn_part_of_the_rest() -> None:
    disk = SimDisk()
    file = disk.append("a")
    disk.sync_directory()
    file.write(b"synced")
    file.sync()
    file.write(b"x" * 2000)
    seen = {state.read("a") for state in disk.crash_states(Random(1), 300)}
    assert all(content.startswith(b"synced") for content in seen)
    sizes = {len(content) for content in seen}
    assert {6, 2006} <= sizes, "nothing and everything of it"
    assert len(sizes) > 50, "and much in between"
    assert any(b"\0" in content for content in seen), "with sectors that never arrived"


def test_a_power_cut_may_undo_directory_operations_until_they_are_synced() -> None:
    disk = SimDisk()
    write(disk, "old", b"1")
    disk.sync_directory()
    write(disk, "new", b"2")
    disk.rename("new", "final")
    disk.remove("old")
    seen = {tuple(state.names()) for state in disk.crash_states(Random(1), 300)}
    assert {("old",), ("final",), ("final", "old"), ("new", "old")} <= seen
    disk.sync_directory()
    assert {tuple(state.names()) for state in disk.crash_states(Random(1), 50)} == {("final",)}


def test_bytes_of_a_failed_sync_read_well_until_the_power_goes() -> None:
    disk = SimDisk()
    file = disk.append("a")
    disk.sync_directory()
    file.write(b"gone")
    disk.fail("sync")
    with pytest.raises(OSError, match="injected"):
        file.sync()
    file.write(b"kept")
    file.sync()
    assert disk.read("a") == b"gonekept"
    disk.power_cut(Random(1))
    assert disk.read("a") == b"\0\0\0\0kept"


def test_a_fault_waits_for_its_operation_and_its_turn() -> None:
    disk = SimDisk()
    disk.latency_ms["sync"] = 5.0
    file = disk.append("a")
    disk.fail("sync", after=1, name="a")
    file.sync()
    with pytest.raises(OSError, match="injected"):
        file.sync()
    file.sync()
    assert disk.take_spent_ms() == 15.0
    assert disk.take_spent_ms() == 0.0


def test_a_crash_tears_the_write_it_falls_into() -> None:
    disk = SimDisk()
    file = disk.append("a")
    disk.crash_at(disk.steps + 1, torn_bytes=3)
    with pytest.raises(Crashed):
        file.write(b"0123456789")
    with pytest.raises(Crashed):
        disk.names()
    disk.kill()
    assert disk.read("a") == b"012"


# Queues


def fail() -> int:
    raise OSError("broken")


def test_thread_queue_runs_jobs_in_order_off_the_loop_and_answers_on_it() -> None:
    async def main() -> list[object]:
        queue = ThreadDiskQueue(asyncio.get_running_loop())
        results: list[object] = []
        threads: set[int] = set()
        last = asyncio.get_running_loop().create_future()

        def done(result: object) -> None:
            assert threading.get_ident() == loop_thread
            results.append(result)
            if len(results) == 4:
                last.set_result(None)

        def job(number: int) -> int:
            threads.add(threading.get_ident())
            return number

        loop_thread = threading.get_ident()
        for number in range(3):
            queue.submit(partial(job, number), done)
        queue.submit(fail, done)
        assert results == [], "never inside the call that asked"
        await asyncio.wait_for(last, 10)
        queue.close()
        assert len(threads) == 1
        assert loop_thread not in threads
        return results

    *values, error = asyncio.run(main())
    assert values == [0, 1, 2]
    assert isinstance(error, OSError)


def test_thread_queue_finishes_what_is_queued_and_tells_nobody_after_close() -> None:
    async def main() -> tuple[list[int], list[object]]:
        queue = ThreadDiskQueue(asyncio.get_running_loop())
        ran: list[int] = []
        told: list[object] = []
        for number in range(50):
            queue.submit(partial(ran.append, number), told.append)
        queue.close()
        queue.close()
        queue.submit(partial(ran.append, -1), told.append)
        for _ in range(3):
            await asyncio.sleep(0)
        return ran, told

    assert asyncio.run(main()) == (list(range(50)), [])


def test_thread_queue_outlives_its_loop_quietly() -> None:
    loop = asyncio.new_event_loop()
    queue = ThreadDiskQueue(loop)
    gate = threading.Event()
    told: list[object] = []
    queue.submit(lambda: gate.wait(10), told.append)
    loop.close()
    gate.set()
    queue.close()
    assert told == []


def test_step_queue_runs_one_job_per_step() -> None:
    queue = StepQueue()
    results: list[object] = []
    queue.submit(lambda: 1, results.append)
    queue.submit(fail, results.append)
    assert results == []
    assert queue.step()
    assert results == [1]
    queue.run()
    assert isinstance(results[1], OSError)
    assert not queue.step()
