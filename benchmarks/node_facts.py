"""What ``/proc`` and ``/metrics`` say of a node: memory, processor time, pauses of its event loop, its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import Cluster

WORK_LAG = "artemis_event_loop_work_lag_seconds"
WALL_LAG = "artemis_event_loop_lag_seconds"
METRICS_S = 10.0

_BUCKET = re.compile(r'(\w+)_bucket\{le="([^"]+)"\} (\S+)')


def memory_mb(pid: int) -> float:
    """Resident memory, MB."""
    return _status_kb(pid, "VmRSS") / 1000


def memory_peak_mb(pid: int) -> float:
    return _status_kb(pid, "VmHWM") / 1000


def _status_kb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) * 1.024
    raise BenchmarkError(f"/proc/{pid}/status has no {name}")


def processor_us(pid: int) -> float:
    """Processor time of all threads so far, in microseconds. Finer than ``/proc/<pid>/stat``, whose unit is 10 ms."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1000


class Metrics:
    """One scrape."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._text = cluster.text(node, "/metrics", METRICS_S)
        if not self._text:
            raise BenchmarkError(f"{node} gives no metrics")

    def value(self, name: str) -> float:
        """A metric without labels."""
        for line in self._text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise BenchmarkError(f"/metrics has no {name}")

    def buckets(self, name: str) -> dict[float, int]:
        """Upper bound in seconds -> how many were at most that."""
        found = {float(le): int(float(count)) for family, le, count in _BUCKET.findall(self._text) if family == name}
        if not found:
            raise BenchmarkError(f"/metrics has no {name}")
        return found


def longest(before: Mapping[float, int], after: Mapping[float, int]) -> float:
    """The upper bound, in seconds, of the longest that came between two scrapes; 0 if none came."""
    grown = [(bound, after[bound] - before[bound]) for bound in sorted(after)]
    return next((bound for bound, count in grown if count == grown[-1][1]), 0.0) if grown[-1][1] else 0.0
