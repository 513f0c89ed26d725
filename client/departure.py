"""Taking out everything that a client registered, when it closes. Pure: the shell sends the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from artemis.client.call import Call
from artemis.client.errors import Refused
from artemis.client.leases import Lease, is_too_large

Unregister = Callable[[Sequence[Lease], float], Call[None]]
"""``(leases, budget_s)`` -> the call that takes them out."""


class Departure:
    """``next_call``, then ``done`` or ``refused``, until there is none. All calls together may last until ``deadline``.

    In requests as large as the heartbeats were: 6,000 instances, or 500 large ones, in one request would be more than
    nodes take, and none would be taken out.
    """

    def __init__(self, leases: Sequence[Lease], size: int, deadline: float, unregister: Unregister) -> None:
        self._left = tuple(leases)
        self._size = size
        self._deadline = deadline
        self._unregister = unregister

    @property
    def left(self) -> int:
        """How many may still be registered."""
        return len(self._left)

    def next_call(self, now: float) -> Call[None] | None:
        """None: all are out."""
        if not self._left:
            return None
        # Without time left the call ends at once and says so.
        return self._unregister(self._left[: self._size], max(0.001, self._deadline - now))

    def done(self) -> None:
        self._left = self._left[self._size :]

    def refused(self, error: Refused) -> None:
        """Raises ``error``, unless smaller requests may help."""
        sent = min(self._size, len(self._left))
        if not is_too_large(error) or sent == 1:
            raise error
        self._size = sent // 2
