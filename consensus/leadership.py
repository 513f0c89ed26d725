"""What belongs to one leadership and ends with it: queued proposals, the lease clock's stamp, read confirmations."""

from __future__ import annotations

from artemis.consensus.leaseclock import LeaseClock
from artemis.consensus.proposals import Orderer
from artemis.consensus.reads import Confirmations
from artemis.consensus.timing import Bounds, Timing


class Leadership:
    """Made anew whenever this node's role changes; while it does not lead, it stays empty."""

    def __init__(self, members: int, timing: Timing, bounds: Bounds) -> None:
        self.orderer = Orderer(bounds)
        self.confirmations = Confirmations(members)
        self.announced_commit = 0
        """The commit index the followers were told last."""
        self._lease_step_ms = timing.lease_step_ms
        # A lone node commits only what is on disk, so a second entry in flight would keep the first from committing.
        self._in_flight_max = bounds.entries_in_flight if members > 1 else 1
        self._clock: LeaseClock | None = None

    def begin(self, applied_clock_ms: int, now: float) -> None:
        """The leader has applied everything that earlier leaders committed: from here it may stamp entries."""
        if self._clock is None:
            self._clock = LeaseClock(applied_clock_ms, now)

    def next_entry(self, now: float, index: int, lease_count: int) -> bytes | None:
        """The entry to append at ``index`` now: waiting proposals, or a due step of the lease clock, or none."""
        clock = self._clock
        if clock is None or self.orderer.in_flight >= self._in_flight_max:
            return None
        step_due = lease_count > 0 and clock.due_ms(now) >= self._lease_step_ms
        if not len(self.orderer) and not step_due:
            return None
        self.orderer.on_appended(index)
        return self.orderer.next_entry(clock.stamp(now, index))

    def on_applied(self, index: int, now: float) -> None:
        self.orderer.on_applied(index)
        if self._clock is not None:
            self._clock.on_applied(index, now)
