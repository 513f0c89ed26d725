"""Measures how long the event loop did nothing but one thing: in that time no lease is renewed and no peer is heard."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

INTERVAL_S = 0.02
"""Between two looks. A pause is seen as shorter by up to this, since it may begin right after one."""
THRESHOLD_S = 0.1
LAG_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)

_BOUNDS = (*(str(bound) for bound in LAG_BUCKETS_S), "+Inf")


def _nobody(_late_s: float, _worked_s: float) -> None:
    """For a monitor whose lags nobody counts."""


class StallMonitor:
    """Calls ``report(seconds)`` for each time the loop came back to a due timer more than ``THRESHOLD_S`` late.

    ``on_lag(late_s, worked_s)`` is called at every look: how late it was, and how much of that the loop's own thread
    worked. The rest it waited: for a processor, for the interpreter, or because the process was stopped.
    """

    def __init__(
        self,
        report: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        on_lag: Callable[[float, float], None] = _nobody,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._report = report
        self._clock = clock
        self._on_lag = on_lag
        self._worked = worked
        self._due = 0.0
        self._worked_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = self._clock() + INTERVAL_S
        self._worked_s = self._worked()
        self._handle = loop.call_later(INTERVAL_S, self._tick, loop)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        late = max(0.0, self._clock() - self._due)
        self._on_lag(late, min(late, self._worked() - self._worked_s))
        if late > THRESHOLD_S:
            self._report(late)
        self.start(loop)


class StallMetrics(Collector):
    """Number and total time of the stalls, and a histogram of every lag, for ``/metrics``."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self._lags = _Lags()
        self._work_lags = _Lags()

    def observe(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def observe_lag(self, late_s: float, worked_s: float) -> None:
        self._lags.add(late_s)
        self._work_lags.add(worked_s)

    def collect(self) -> Iterator[Metric]:
        yield SummaryMetricFamily(
            "artemis_event_loop_stall_seconds",
            f"Times the event loop stood still for more than {THRESHOLD_S * 1000:.0f} ms.",
            count_value=self.count,
            sum_value=self.seconds,
        )
        yield self._lags.family("artemis_event_loop_lag_seconds", "How late the event loop came back to a timer.")
        yield self._work_lags.family(
            "artemis_event_loop_work_lag_seconds", "The part of that in which the loop's thread worked."
        )


class _Lags:
    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(LAG_BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def family(self, name: str, text: str) -> Metric:
        buckets = list(zip(_BOUNDS, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._seconds)
