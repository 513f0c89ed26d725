"""``ports.DiskQueue`` in virtual time: each job takes effect some time after it was given, and is told of later still.

A crash in the first span loses the job, one in the second leaves its effect on the disk without anybody knowing; a
crash armed on the disk (``SimDisk.crash_at``) ends the node between two operations of one job.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

from tests.simulation.disk import Crashed, SimDisk
from tests.simulation.process import Process

T = TypeVar("T")


class DiskSpeed:
    """How long jobs take on one node's disk, in seconds; ``stalled`` makes every job that much longer."""

    def __init__(self, rng: Random, seconds_min: float, seconds_max: float) -> None:
        self._rng = rng
        self._bounds = (seconds_min, seconds_max)
        self.stalled = 0.0

    def job(self) -> float:
        return self._rng.uniform(*self._bounds) + self.stalled

    def telling(self) -> float:
        return self._rng.random() * self._bounds[0]


class VirtualDiskQueue:
    def __init__(self, process: Process, disk: SimDisk, speed: DiskSpeed) -> None:
        self._process = process
        self._disk = disk
        self._speed = speed
        self._jobs: deque[Callable[[], None]] = deque()
        self._busy = False
        self._closed = False

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        if self._closed:
            return
        self._jobs.append(partial(self._do, job, done))
        if not self._busy:
            self._start()

    def close(self) -> None:
        self._closed = True
        while self._jobs:
            self._jobs.popleft()()

    def _start(self) -> None:
        self._busy = True
        self._process.world.after(self._speed.job(), partial(self._process.run, self._next))

    def _next(self) -> None:
        if self._jobs:
            self._jobs.popleft()()

    def _do(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        result: T | BaseException
        try:
            result = job()
        except Crashed:
            raise
        except BaseException as exc:  # noqa: BLE001  # as the real queue's thread: the engine gets it
            result = exc
        delay = self._speed.telling() + self._disk.take_spent_ms() / 1000
        self._process.world.after(delay, partial(self._process.run, partial(self._tell, done, result)))

    def _tell(self, done: Callable[[T | BaseException], None], result: T | BaseException) -> None:
        if self._closed:
            return
        self._busy = False
        if self._jobs:
            self._start()
        done(result)
