"""Times at which leases come up, the earliest first. What is queued for leases that are gone goes bit by bit.

A time and its lease id are one integer, which orders as the pair does: the collector looks over each new tuple, and
comparing tuples takes three times as long.

Clearing (``tidy``) takes the queue's heap from its end and puts what is still wanted into a second one. A heap without
its last item is a heap, so both stay in order meanwhile, and the earliest is the smaller of two. Done in one go it was
a pause of 80 ms with 100,000 leases.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from heapq import heapify, heappop, heappush, heapreplace

_ID_BITS = 64
_ID_MASK = 2**_ID_BITS - 1

_SLACK = 1024
"""Times of leases that are gone, tolerated besides as many as there are leases."""

_AT_ONCE = 4
"""Times looked at when a lease goes. More than the one that another lease may add, so that clearing comes to an end."""


class LeaseQueue:
    """One time per lease. Lease ids are from 0 to 2**64 - 1, times are any integers."""

    __slots__ = ("_heap", "_rest")

    def __init__(self, times: Iterable[tuple[int, int]] = ()) -> None:
        """``times`` as (lease id, milliseconds)."""
        self._heap = [time_ms << _ID_BITS | lease_id for lease_id, time_ms in times]
        heapify(self._heap)
        self._rest: list[int] = []
        """Of a clearing that is under way: what was not looked at yet."""

    def __len__(self) -> int:
        """Times of leases that are gone included."""
        return len(self._heap) + len(self._rest)

    def push(self, time_ms: int, lease_id: int) -> None:
        heappush(self._heap, time_ms << _ID_BITS | lease_id)

    def first(self, clock_ms: int) -> tuple[int, int] | None:
        """The earliest as (milliseconds, lease id), unless it is after ``clock_ms``."""
        heap = self._earlier()
        if not heap:
            return None
        first = heap[0]
        time_ms = first >> _ID_BITS
        return None if time_ms > clock_ms else (time_ms, first & _ID_MASK)

    def pop(self) -> None:
        """Take out the first."""
        heappop(self._earlier())

    def postpone(self, time_ms: int) -> None:
        """The lease of the first comes up at ``time_ms`` instead."""
        heap = self._earlier()
        heapreplace(heap, time_ms << _ID_BITS | heap[0] & _ID_MASK)

    def tidy(self, leases: Container[int], count: int) -> None:
        """A lease has gone: clear some of what is queued for others that have, if that is much. ``leases`` holds the
        ids of those there are, ``count`` of them."""
        rest = self._rest
        if rest:
            for _ in range(min(_AT_ONCE, len(rest))):
                queued = rest.pop()
                if queued & _ID_MASK in leases:
                    heappush(self._heap, queued)
        elif len(self._heap) > 2 * count + _SLACK:
            self._rest, self._heap = self._heap, rest

    def _earlier(self) -> list[int]:
        """The heap with the earliest time; an empty one if there is none."""
        heap, rest = self._heap, self._rest
        return rest if rest and not (heap and heap[0] < rest[0]) else heap
