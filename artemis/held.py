"""Leases past their deadline that protection keeps from ending (``artemis.protection``), and until when."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

_QUEUE_SLACK = 1024
"""Queued times of leases that are held no more, tolerated before the queue is rebuilt."""


class HeldLeases:
    """By lease id and by service. All costs but ``let_go`` do not depend on how many are held."""

    __slots__ = ("_of_service", "_queue", "until_ms_by_id")

    def __init__(self) -> None:
        self.until_ms_by_id: dict[int, int] = {}
        """Read only, and always the same dict: a renewal looks into it once."""
        self._of_service: dict[str, dict[int, None]] = {}
        self._queue: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.until_ms_by_id)

    @property
    def services(self) -> Iterable[str]:
        """Those with a held lease. The order is that of this node's past: nothing may depend on it."""
        return self._of_service.keys()

    @property
    def next_ms(self) -> int | None:
        """No lease is held until an earlier time than this."""
        return self._queue[0][0] if self._queue else None

    def of_service(self, service_id: str) -> int:
        return len(self._of_service.get(service_id, ()))

    def add(self, lease_id: int, service_id: str, until_ms: int) -> None:
        self.until_ms_by_id[lease_id] = until_ms
        self._of_service.setdefault(service_id, {})[lease_id] = None
        heappush(self._queue, (until_ms, lease_id))

    def discard(self, lease_id: int, service_id: str) -> bool:
        """Hold it no more. False if it was not held."""
        if self.until_ms_by_id.pop(lease_id, None) is None:
            return False
        of_service = self._of_service[service_id]
        del of_service[lease_id]
        if not of_service:
            del self._of_service[service_id]
        if len(self._queue) > 2 * len(self.until_ms_by_id) + _QUEUE_SLACK:
            self._queue = [(until_ms, held) for held, until_ms in self.until_ms_by_id.items()]
            heapify(self._queue)
        return True

    def let_go(self, service_id: str, clock_ms: int) -> None:
        """Every held lease of this service may end now."""
        for lease_id in self._of_service.get(service_id, {}):
            if self.until_ms_by_id[lease_id] > clock_ms:
                self.until_ms_by_id[lease_id] = clock_ms
                heappush(self._queue, (clock_ms, lease_id))

    def due(self, clock_ms: int, most: int) -> list[int]:
        """The ids of up to ``most`` leases that are held no longer than ``clock_ms``, by (time, id). They stay held:
        the caller ends each."""
        queue = self._queue
        found: list[int] = []
        while queue and queue[0][0] <= clock_ms and len(found) < most:
            until_ms, lease_id = heappop(queue)
            if self.until_ms_by_id.get(lease_id) == until_ms:
                found.append(lease_id)
        return found

    def copy(self) -> dict[int, int]:
        return self.until_ms_by_id.copy()
