"""The blocking and the asyncio client behind one face, on virtual time, so that both pass one suite."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx

from artemis.client import ArtemisClient, AsyncArtemisClient
from artemis.client.aio import AsyncRuntime
from artemis.client.sync import Runtime
from tests.support.fake_cluster import NODES, FakeCluster

HEARTBEATS = "artemis-client-heartbeats"
REAL_DEADLINE_S = 10.0
STEP_S = 0.05
"""Virtual seconds that pass per look at a condition."""


class VirtualTime:
    """Time that moves by itself when a call waits, and by ``advance``; the heartbeat loop waits for it to move.

    ``idle`` keeps runs independent of the machine's speed: time moves on only when the loop has nothing left to do.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self._moved = threading.Condition()
        self._loop_waits: tuple[threading.Event | asyncio.Event, float] | None = None

    def clock(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        with self._moved:
            self.now += seconds
            self._moved.notify_all()

    @property
    def idle(self) -> bool:
        """The heartbeat loop is waiting, and for something that has not come yet."""
        waits = self._loop_waits
        return waits is not None and not waits[0].is_set() and self.now < waits[1]

    def wait(self, event: threading.Event, timeout_s: float | None) -> None:
        if threading.current_thread().name != HEARTBEATS:
            self.advance(timeout_s or 0.0)
            return
        with self._moved:
            self._loop_waits = event, self.now + (math.inf if timeout_s is None else timeout_s)
            while self.idle:
                self._moved.wait(0.002)
            self._loop_waits = None

    async def wait_async(self, event: asyncio.Event, timeout_s: float | None) -> None:
        task = asyncio.current_task()
        if task is None or task.get_name() != HEARTBEATS:
            self.advance(timeout_s or 0.0)
            return
        self._loop_waits = event, self.now + (math.inf if timeout_s is None else timeout_s)
        while self.idle:  # noqa: ASYNC110 - virtual time has no event to wait for
            await asyncio.sleep(0)
        self._loop_waits = None


class SyncDriver:
    def __init__(self, cluster: FakeCluster, **options: Any) -> None:
        self.time = VirtualTime()
        runtime = Runtime(clock=self.time.clock, wait=self.time.wait, seed=7)
        transport = httpx.MockTransport(cluster.handle)
        self.client = ArtemisClient(NODES, transport=transport, runtime=runtime, **options)
        self.register = self.client.register
        self.lookup = self.client.lookup
        self.services = self.client.services
        self.members = self.client.members
        self.close = self.client.close

    def unregister(self, registration: Any) -> None:
        registration.unregister()

    def heartbeats_run(self) -> bool:
        return any(thread.name == HEARTBEATS for thread in threading.enumerate())

    def until(self, condition: Callable[[], bool]) -> None:
        """Let virtual time pass until ``condition`` holds."""
        deadline = time.monotonic() + REAL_DEADLINE_S
        yielded = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "the condition never held"
            if self.time.idle or not self.heartbeats_run():
                self.time.advance(STEP_S)
            yielded.wait(0.0005)  # lets the heartbeat thread run


class AsyncDriver:
    def __init__(self, cluster: FakeCluster, runner: asyncio.Runner, **options: Any) -> None:
        self.time = VirtualTime()
        self._runner = runner
        runtime = AsyncRuntime(clock=self.time.clock, wait=self.time.wait_async, seed=7)
        transport = httpx.MockTransport(cluster.handle_async)
        self.client = AsyncArtemisClient(NODES, transport=transport, runtime=runtime, **options)
        self.register = partial(self._run, self.client.register)
        self.lookup = partial(self._run, self.client.lookup)
        self.services = partial(self._run, self.client.services)
        self.members = partial(self._run, self.client.members)
        self.close = partial(self._run, self.client.close)

    def unregister(self, registration: Any) -> None:
        self._run(registration.unregister)

    def heartbeats_run(self) -> bool:
        tasks = asyncio.all_tasks(self._runner.get_loop())
        return any(task.get_name() == HEARTBEATS for task in tasks)

    def until(self, condition: Callable[[], bool]) -> None:
        """Let virtual time pass until ``condition`` holds."""

        async def pass_time() -> None:
            deadline = time.monotonic() + REAL_DEADLINE_S
            while not condition():
                assert time.monotonic() < deadline, "the condition never held"
                if self.time.idle or not self.heartbeats_run():
                    self.time.advance(STEP_S)
                await asyncio.sleep(0)

        self._run(pass_time)

    def _run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return self._runner.run(function(*arguments, **options))


Driver = SyncDriver | AsyncDriver
