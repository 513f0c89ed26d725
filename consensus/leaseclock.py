"""The stamp a leader puts on its entries, from which the lease clock of the whole cluster is made.

The rules (``artemis/DESIGN.md`` has the whole argument; times in milliseconds):

1. The stamp advances by elapsed monotonic time since the last advance, at most ``STEP_MAX_MS`` at once: a leader that
   was stopped for a minute adds one step, not the minute.
2. It does not advance while an earlier advance is uncommitted: time without a majority does not count.
3. A new leader continues from the last applied stamp: time without a leader does not count.
4. Time spent waiting for a commit is made up by the next step, as far as it is below ``STAMP_ERROR_MS``. What exceeds
   it is dropped, and every deadline is longer by that bound, so a renewal that carries a slightly old stamp never
   ends early: it was stamped at most ``STAMP_ERROR_MS`` of counted time too low.
"""

from __future__ import annotations

from artemis.leases import LEASE_STAMP_ERROR_MS as STAMP_ERROR_MS

STEP_MAX_MS = 500


class LeaseClock:
    """One leadership's stamping. Make a new one when the leadership changes."""

    def __init__(self, applied_clock_ms: int, now: float) -> None:
        """``applied_clock_ms``: the lease clock after everything earlier leaders could have committed is applied.
        ``now``: monotonic seconds."""
        self._stamp_ms = applied_clock_ms
        self._counted_to = now  # monotonic time that the stamp stands for
        self._step_index: int | None = None  # the entry whose advance is not committed yet

    @property
    def stamp_ms(self) -> int:
        return self._stamp_ms

    def due_ms(self, now: float) -> int:
        """How far an advance at ``now`` would move the stamp; 0 while a step is uncommitted."""
        if self._step_index is not None:
            return 0
        return min(STEP_MAX_MS, max(0, int((now - self._counted_to) * 1000)))

    def stamp(self, now: float, index: int) -> int:
        """The stamp for the entry that will stand at ``index``."""
        step_ms = self.due_ms(now)
        if step_ms > 0:
            self._stamp_ms += step_ms
            # Keep the fraction of a millisecond, else a clock stamped 5,000 times a second loses half its time.
            full_step = step_ms == STEP_MAX_MS
            self._counted_to = now if full_step else self._counted_to + step_ms / 1000
            self._step_index = index
        return self._stamp_ms

    def on_applied(self, index: int, now: float) -> None:
        """Everything up to ``index`` is committed and applied."""
        if self._step_index is not None and index >= self._step_index:
            self._step_index = None
            self._counted_to = max(self._counted_to, now - STAMP_ERROR_MS / 1000)
