"""Two ways of being unwell that no other part notices: entries that are committed and not applied, and a process that
did not run."""

from __future__ import annotations

STUCK_SECONDS = 5.0
"""Committed entries normally wait a few milliseconds for being applied; a large backlog moves on all the time."""

LONG_STALL_SECONDS = 1.0
"""Longer than an election timeout: the others may have replaced this node meanwhile, and nobody renewed through it."""

STALL_SHOWN_SECONDS = 2.0
"""How long such a stall keeps the node from being called ready: long enough for a probe to see it, short because a host
that was suspended stalls all its nodes at once. One that stalls again and again is not ready at all."""


class ApplyWatch:
    """Whether the applied index follows the commit index."""

    def __init__(self) -> None:
        self._applied = 0
        self._behind_since: float | None = None
        self._looked_at = float("-inf")

    def look(self, now: float, committed: int, applied: int) -> None:
        """To be called several times per second. What was not looked at for a second does not count."""
        if committed <= applied:
            self._behind_since = None
        elif self._behind_since is None or applied != self._applied or now - self._looked_at > 1.0:
            self._behind_since = now
        self._applied = applied
        self._looked_at = now

    def reason(self, now: float) -> str | None:
        if self._behind_since is None or now - self._behind_since < STUCK_SECONDS:
            return None
        return f"entry {self._applied + 1} is committed and has not been applied for {now - self._behind_since:.0f} s"


class StallWatch:
    """The last long stall of the event loop."""

    def __init__(self) -> None:
        self._ended_at = float("-inf")
        self._seconds = 0.0

    def ended(self, now: float, seconds: float) -> None:
        """The loop runs again, after it stood still for ``seconds``."""
        if seconds >= LONG_STALL_SECONDS:
            self._ended_at, self._seconds = now, seconds

    def reason(self, now: float) -> str | None:
        if now - self._ended_at >= STALL_SHOWN_SECONDS:
            return None
        return f"its event loop stood still for {self._seconds * 1000:.0f} ms, {now - self._ended_at:.0f} s ago"
