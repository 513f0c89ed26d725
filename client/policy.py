"""When to try again: the budgets of one call, and the budget of all calls together. Pure; time and chance are given."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields, replace

from artemis.client.actions import Timeouts
from artemis.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Limits of one call. The defaults outlast an election (about 2 s) and still end a call within 5 s."""

    budget_s: float = 5.0
    """Everything together: attempts, back-off, failover."""
    attempts_max: int = 10
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 2.5
    """Half of the budget, so that a node that hangs leaves time for another."""
    backoff_base_s: float = 0.1
    backoff_max_s: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InvalidInput(field.name, f"must be a number above 0, not {value!r}")
        if not isinstance(self.attempts_max, int):
            raise InvalidInput("attempts_max", f"must be a whole number, not {self.attempts_max!r}")

    def timeouts(self, remaining_s: float) -> Timeouts:
        """Limits of one attempt. With little time left both shrink alike, so that their sum fits."""
        whole_s = self.connect_timeout_s + self.read_timeout_s
        scale = min(1.0, max(0.0, remaining_s) / whole_s)
        return Timeouts(self.connect_timeout_s * scale, self.read_timeout_s * scale)

    def backoff_s(self, failures: int, rng: random.Random) -> float:
        """Full jitter: anything between zero and the exponential ceiling, so that clients which failed together do
        not come back together. ``failures`` counts from 1."""
        # Beyond 2**30 every ceiling is the maximum, and a float would overflow.
        ceiling_s = min(self.backoff_max_s, self.backoff_base_s * 2.0 ** min(failures - 1, 30))
        return rng.uniform(0.0, ceiling_s)

    def within(self, budget_s: float) -> RetryPolicy:
        """The same policy for a call with less time: two attempts fit even if the first one hangs to its end."""
        if budget_s >= self.budget_s:
            return self
        return replace(
            self,
            budget_s=budget_s,
            connect_timeout_s=min(self.connect_timeout_s, budget_s / 6),
            read_timeout_s=min(self.read_timeout_s, budget_s / 3),
            backoff_base_s=min(self.backoff_base_s, budget_s / 20),
            backoff_max_s=min(self.backoff_max_s, budget_s / 10),
        )


class RetryBudget:
    """A token bucket over all calls of a client: in any span the retries are at most
    ``burst + ratio * calls + per_s * seconds``.

    Without it an outage is multiplied by ``attempts_max`` at the moment the cluster can least bear it. ``per_s`` is
    for quiet clients: with the ratio alone, one call a minute would wait an hour for the tokens of one bad call.
    """

    def __init__(self, *, ratio: float = 0.2, burst: float = 20.0, per_s: float = 1.0) -> None:
        self._ratio = ratio
        self._burst = burst
        self._per_s = per_s
        self._tokens = burst
        self._filled_at: float | None = None

    def deposit(self, now: float) -> None:
        """A new call (not a retry) begins."""
        self._refill(now)
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def withdraw(self, now: float) -> bool:
        """Whether one retry is allowed; if so it is paid."""
        self._refill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _refill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + self._per_s * max(0.0, now - self._filled_at))
        self._filled_at = now
