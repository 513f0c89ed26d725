"""What was applied already: by origin and number (exactly once), and by request id (the same answer to a retry)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from artemis.commands import RequestId
from artemis.outcomes import Outcome, Refused


class Session(NamedTuple):
    """The highest proposal applied of one origin. Numbers below it that never came will never be applied: their
    origin has given them up."""

    incarnation: int
    seq: int


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a request id and the lease time at which it was applied."""

    fingerprint: bytes
    clock_ms: int
    outcome: Outcome


class RequestWindow:
    """Outcomes by request id, for ``window_ms`` of lease time and at most ``count_max`` of them, oldest first out."""

    __slots__ = ("_by_id", "_count_max", "_oldest_first", "_window_ms")

    def __init__(self, count_max: int, window_ms: int, remembered: Iterable[tuple[str, Remembered]] = ()) -> None:
        """``remembered`` by age, the oldest first."""
        self._count_max = count_max
        self._window_ms = window_ms
        self._by_id: dict[str, Remembered] = dict(remembered)
        # A dict alone keeps the order too, but finding its first key again and again after deletions from the front
        # walks over the holes they left.
        self._oldest_first: deque[str] = deque(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def outcome_of(self, request: RequestId, revision: int) -> Outcome | None:
        """The remembered outcome; None if there is none. ``Refused("request-id-reused")``, at ``revision``, if the id
        belongs to a request with another fingerprint."""
        remembered = self._by_id.get(request.id)
        if remembered is None:
            return None
        if remembered.fingerprint != request.fingerprint:
            return Refused(revision, "request-id-reused")
        return remembered.outcome

    def remember(self, request: RequestId, clock_ms: int, outcome: Outcome) -> None:
        """Keep the outcome of an id that is not remembered yet."""
        self._by_id[request.id] = Remembered(request.fingerprint, clock_ms, outcome)
        self._oldest_first.append(request.id)
        if len(self._oldest_first) > self._count_max:
            del self._by_id[self._oldest_first.popleft()]

    def forget_before(self, clock_ms: int) -> None:
        """Drop what is older than the window at lease time ``clock_ms``."""
        oldest_first = self._oldest_first
        while oldest_first and self._by_id[oldest_first[0]].clock_ms + self._window_ms < clock_ms:
            del self._by_id[oldest_first.popleft()]

    def copy(self) -> dict[str, Remembered]:
        """All of them by age, oldest first, safe to read while the window changes."""
        return self._by_id.copy()
