"""What happened to leases on this node since it started, for its metrics. Not part of the replicated state."""

from __future__ import annotations

from bisect import bisect_left

LATENESS_BUCKETS_MS = (0, 50, 100, 150, 200, 300, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 300_000, 600_000)
"""Upper bounds; what is later counts in one more."""


class LeaseStats:
    """Counters that only grow. One object for a node's life: a snapshot that is installed brings none."""

    __slots__ = ("evictions", "held", "lateness_ms", "lateness_ms_sum", "registrations", "renewals")

    def __init__(self) -> None:
        self.registrations = 0
        self.renewals = 0
        self.evictions = 0
        self.held = 0
        """Times a lease was held by protection instead of ended."""
        self.lateness_ms = [0] * (len(LATENESS_BUCKETS_MS) + 1)
        """Evictions by what the lease clock was past the deadline, not cumulative."""
        self.lateness_ms_sum = 0

    def on_evicted(self, lateness_ms: int) -> None:
        self.evictions += 1
        self.lateness_ms[bisect_left(LATENESS_BUCKETS_MS, lateness_ms)] += 1
        self.lateness_ms_sum += lateness_ms
