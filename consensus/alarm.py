"""An engine's only timer. It rings at the next deadline, so a node at rest does next to nothing.

Whoever opens something with a deadline says so (``sooner``); what was opened and closed again leaves at most one ring
for nothing. Deadlines that only ever move away (an election's, with each heartbeat) cost nothing at all until the old
one is reached. The longest pause is short enough to notice that the process was stopped.
"""

from __future__ import annotations

from collections.abc import Callable

from artemis.consensus.health import StallWatch
from artemis.consensus.ports import Scheduler, TimerHandle

STALL_SECONDS = 0.1
"""A timer that is late by more means that this process did not run."""

DRAIN_SECONDS = 0.05
"""How long it then only listens: what arrived meanwhile is in the sockets. Judging by the clock first would depose a
healthy leader for its own pause, and answer "no majority" to writes whose acknowledgements are there."""

PERIODS_MAX = 10
"""Periods (``Timing.timer_ms``) between two rings at most. With ``STALL_SECONDS`` this is how long a process can be
stopped without noticing it: well below the shortest election timeout."""

BEHIND_SECONDS = 0.001
"""It rings that much behind a deadline: who looks then must find it passed, and the clock that timers run on may differ
from the one that deadlines are read from in its last digits. Event loops count whole milliseconds."""


class Alarm:
    """Times are monotonic seconds of the engine's clock."""

    def __init__(self, scheduler: Scheduler, period: float, ring: Callable[[], None]) -> None:
        """``period``: how often to look when a deadline has passed and what it was for is still not done."""
        self.drain_until = float("-inf")
        """While the time is before this, nothing is judged by the clock."""
        self.stalls = StallWatch()
        self._scheduler = scheduler
        self._period = period
        self._ring = ring
        self._timer: TimerHandle | None = None
        self._due = float("inf")

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def drains(self, now: float) -> bool:
        """This process did not run for a while, and reads its sockets before it judges by the clock."""
        if now > self._due:
            if now - self._due > STALL_SECONDS:
                self.drain_until = now + DRAIN_SECONDS
                self.stalls.ended(now, now - self._due)
            self._due = now
        return now < self.drain_until

    def set(self, now: float, deadline: float) -> None:
        """Ring at ``deadline``, and in time to notice a stop; in a period when it has passed already."""
        wait = deadline - now
        if wait <= 0:
            wait = self._period
        self._start(now, min(wait + BEHIND_SECONDS, self._period * PERIODS_MAX))

    def sooner(self, now: float, deadline: float) -> None:
        """Ring at ``deadline`` at the latest."""
        if deadline < self._due:
            self.set(now, deadline)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, now: float, seconds: float) -> None:
        self.stop()
        self._due = now + seconds
        self._timer = self._scheduler.call_later(seconds, self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._ring()
