"""The stamp a leader puts on its entries, from which the lease clock of the whole cluster is made.

The rules (``artemis/DESIGN.md`` has the whole argument; times in milliseconds):

1. The stamp advances by elapsed monotonic time since the last advance, at most ``STEP_MAX_MS`` at once: a leader that
   was stopped for a minute adds one step, not the minute.
2. It does not advance while an earlier advance is uncommitted: time without a majority does not count.
3. A new leader continues from the last applied stamp, and counts the time since it applied that itself, at most
   ``STAMP_ERROR_MS``: time without a leader does not count beyond that.
4. Time spent waiting for a commit is made up by the next step, as far as it is below ``STAMP_ERROR_MS``. What exceeds
   it is dropped, and every deadline is longer by that bound, so a renewal that carries a slightly old stamp never
   ends early: it was stamped at most ``STAMP_ERROR_MS`` of counted time too low.

Rule 3 is rule 4 across a change of leader. Without it every change loses the time between the last stamp and the
leader's end, in which leases were renewed, and a dead holder's lease lives longer with each. It never ends a lease
early. Let B be the last committed stamp, ordered at real time b; the new leader begins at n, having applied B at a. It
credits k <= n - a <= n - b, and k <= STAMP_ERROR_MS; at a later time e it stamps at most B + k + (e - n).

- A renewal ordered at r <= b, stamped s: B - s <= (b - r) + STAMP_ERROR_MS, by rules 1 and 4 under the leaders before.
  So the stamp at e is at most s + (e - r) + STAMP_ERROR_MS: a deadline of s + TTL + STAMP_ERROR_MS needs e >= r + TTL.
- A renewal ordered at r > b is stamped B. The stamp at e is at most B + STAMP_ERROR_MS + (e - n), and r <= n, for what
  the old leader ordered later is in no log that is kept. Again e >= r + TTL. Here the bound on k matters: a renewal
  behind a stalled step (r - b = 900 ms, n - r = 0) would end 700 ms early with k = n - b.

``a`` is this node's own clock when it applied the stamp; nothing that was heard, or delivered late, enters. A node that
was stopped, cut off or restarted meanwhile applies late, so it credits less. As long as steps are due more often than
every ``STAMP_ERROR_MS`` (``Timing.validate``), a change of leader takes only a - b off the clock, one commit.
"""

from __future__ import annotations

from artemis.leases import LEASE_STAMP_ERROR_MS as STAMP_ERROR_MS

STEP_MAX_MS = 500


class LeaseClock:
    """One leadership's stamping. Make a new one when the leadership changes."""

    def __init__(self, applied_clock_ms: int, applied_at: float, now: float) -> None:
        """``applied_clock_ms``: the lease clock after everything earlier leaders could have committed is applied.
        ``applied_at``: when this node applied it first, or its start if that is later. Both in monotonic seconds."""
        self._stamp_ms = applied_clock_ms
        # Monotonic time that the stamp stands for.
        self._counted_to = max(applied_at, now - STAMP_ERROR_MS / 1000)
        self._step_index: int | None = None  # the entry whose advance is not committed yet

    @property
    def stamp_ms(self) -> int:
        return self._stamp_ms

    @property
    def counted_to(self) -> float:
        """Monotonic time up to which the stamp counts."""
        return self._counted_to

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
