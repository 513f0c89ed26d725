"""An asyncio event loop of a simulated process: its time is the node's clock, its turns are the world's events.

There is no selector and no thread: what arrives from outside comes as an event of the world (``http``). Callbacks run
in the order of ``call_soon``, also after a pause. The loop dies with its process: nothing of it runs afterwards, and
the coroutines that were waiting are closed at that moment, not whenever the garbage collector finds them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVarTuple, Unpack

from tests.simulation.process import Process

Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as coroutines, futures, tasks, events and sleeping need."""

    def __init__(self, process: Process, on_error: Callable[[str], None]) -> None:
        """``on_error``: told of exceptions that nobody handles, in words."""
        self._process = process
        self._on_error = on_error
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def run(self, callback: Callable[[], object]) -> None:
        """As if this loop called it: for what arrives from outside."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            callback()
        finally:
            asyncio._set_running_loop(outer)

    def close(self) -> None:
        """The process has ended."""
        self._closed = True
        self._ready.clear()
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            coroutine = task.get_coro()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if isinstance(coroutine, Coroutine):
                self.run(coroutine.close)

    @property
    def open_tasks(self) -> int:
        return len(self._tasks)

    # AbstractEventLoop

    def time(self) -> float:
        return self._process.clock()

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            # The process may run what it held during a pause in any order; the queue keeps this loop's own.
            self._ready.append(handle)
            self._process.call_soon(self._run_next)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if not self._closed:
            self._process.call_later(delay, partial(self._run, handle))
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self._on_error(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled handle runs nothing; its event passes unnoticed."""

    # turns

    def _run_next(self) -> None:
        if self._ready:
            self._run(self._ready.popleft())

    def _run(self, handle: asyncio.Handle) -> None:
        if not self._closed and not handle.cancelled():
            self.run(handle._run)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._on_error(f"a task ends with {task.exception()!r}")
