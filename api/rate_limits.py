"""How many requests of each operation this node takes: ``java-http.md`` 4.3.

Per node and operation, counted per request and not per instance, over the last ten seconds. A refused request does not
count, so whoever keeps asking too often still gets the allowed number through. Look-ups have no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

WINDOW_S = 10
LIMIT_MAX = 10_000_000

DEFAULT_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "register": 100_000,
        "heartbeat": 100_000,
        "unregister": 100_000,
        "replication-register": 1_000_000,
        "replication-heartbeat": 1_000_000,
        "replication-unregister": 1_000_000,
        "replication-get-services": 1_000_000,
        "up-registry-nodes": 10_000,
        "up-discovery-nodes": 10_000,
        "get-cluster": 30,
        # The earlier servers' shipped setting, below the default of 30: it walks over all leases.
        "get-leases": 10,
        "get-legacy-leases": 30,
        "get-config": 30,
        "get-deployment": 30,
    }
)
"""Requests in ``WINDOW_S`` seconds, by operation as the earlier servers named them."""


class RateLimit:
    """Counts in buckets of one second: ten numbers, however many requests there are."""

    __slots__ = ("_counts", "_limit", "_second", "_total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts = [0] * WINDOW_S
        self._second = 0
        self._total = 0

    def admits(self, now_s: float) -> bool:
        """Whether one more request fits; if so it is counted. ``now_s`` is of any clock that does not go back."""
        second = int(now_s)
        if second != self._second:
            self._advance(second)
        if self._total >= self._limit:
            return False
        self._total += 1
        self._counts[second % WINDOW_S] += 1
        return True

    def _advance(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            bucket = passed % WINDOW_S
            self._total -= self._counts[bucket]
            self._counts[bucket] = 0
        self._second = second


class RateLimits:
    """The limits of one node, by operation. WebSocket heartbeats count with those over HTTP."""

    def __init__(self, limits: Mapping[str, int], *, enabled: bool) -> None:
        """``limits`` replace the defaults of the operations they name."""
        chosen = {**DEFAULT_LIMITS, **limits} if enabled else {}
        self._by_operation = {operation: RateLimit(limit) for operation, limit in chosen.items()}

    def of(self, operation: str | None) -> RateLimit | None:
        """None: no limit."""
        return None if operation is None else self._by_operation.get(operation)
