"""Measures how long the event loop did nothing but one thing: in that time no lease is renewed and no peer is heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

INTERVAL_S = 0.05
THRESHOLD_S = 0.1


class StallMonitor:
    """Calls ``report(seconds)`` for each time the loop came back to a due timer more than ``THRESHOLD_S`` late."""

    def __init__(self, report: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = self._clock() + INTERVAL_S
        self._handle = loop.call_later(INTERVAL_S, self._tick, loop)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        late = self._clock() - self._due
        if late > THRESHOLD_S:
            self._report(late)
        self.start(loop)


class StallMetrics(Collector):
    """Number and total time of the stalls, for ``/metrics``."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        yield SummaryMetricFamily(
            "artemis_event_loop_stall_seconds",
            f"Times the event loop stood still for more than {THRESHOLD_S * 1000:.0f} ms.",
            count_value=self.count,
            sum_value=self.seconds,
        )
