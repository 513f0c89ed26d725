"""How early and how late leases end: the arithmetic, for any clock. Also used by ``tests/simulation/lease_tails.py``.

Early is measured from the call of the last acknowledged renewal, late from the last moment at which a renewal may have
taken effect, less the time in which nobody could renew. A canary, which renews all the time through every node, tells
that time: the gaps between its acknowledgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUTAGE_SECONDS = 0.25
"""No renewal acknowledged for longer than this is an outage. Shorter gaps count as the lateness of leases."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Seconds beyond the TTL at which a lease ended. ``early`` is promised to be 0 at least, ``late`` to be bounded."""

    early: float
    late: float
    outage: float
    leader_changes: int


class Outages:
    """Gaps between the acknowledgements that a canary heard, in seconds of its clock."""

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._gaps: list[tuple[float, float]] = []

    def heard(self, now: float) -> None:
        if now - self._heard_at > OUTAGE_SECONDS:
            self._gaps.append((self._heard_at, now))
        self._heard_at = now

    def between(self, start: float, end: float) -> float:
        """Seconds between these times in which no renewal was acknowledged."""
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in self._gaps)


def summary(ended: Sequence[Ended]) -> str:
    early, late = sorted(e.early for e in ended), sorted(e.late for e in ended)
    return (
        f"{len(ended)} leases ended, {sum(e.leader_changes > 0 for e in ended)} across"
        f" {max(e.leader_changes for e in ended)} changes of leader at most; in seconds beyond the TTL:"
        f" earliest {early[0]:.3f} after its renewal was called; late p50 {late[len(late) // 2]:.3f}, most"
        f" {late[-1]:.3f}, outages of up to {max(e.outage for e in ended):.3f} not counted"
    )
