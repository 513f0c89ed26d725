"""Exactly once over HTTP with three of ten answers lost, and what the other answers say of writes that were not done.

``not-applied`` is a definite failure in the history of the client: if such a write is in the log, or anybody sees its
instance, the run is violated (``done-after-all``, ``definitely failed``). ``unknown`` leaves both open. Every operation
with a request id is repeated on other nodes during the run and after it, and must get its first revision again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from artemis.consensus.proposals import Session
from tests.simulation.http_clients import TroubleRates
from tests.simulation.http_scenario import HttpRun, HttpWays
from tests.simulation.mutant import faults
from tests.simulation.world import Violation

SECONDS = 10.0
SEEDS = range(1, 5)


def run_of(seed: int) -> HttpRun:
    settings = faults("kill", "isolate", "pause", every=0.6, length=2.0, think=0.1, ids=0.7)
    return HttpRun(f"lost answers {seed}", settings, HttpWays(rates=TroubleRates(answer_lost=0.3)))


def run_all(seeds: int) -> None:
    for seed in range(1, seeds + 1):
        run_of(seed).run(SECONDS)


def test_what_is_said_of_failed_writes_is_true_with_three_of_ten_answers_lost() -> None:
    told: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    repeated = 0
    for seed in SEEDS:
        run = run_of(seed)
        run.run(SECONDS)
        told.update(run.http.told)
        outcomes.update(o.outcome for o in run.history.operations if o.kind in ("add", "remove"))
        repeated += len(run.shared.repeatable)
    # Both were said, of many writes; answers were lost; and what could be repeated was.
    assert told["not-applied"] > 20, told
    assert told["unknown"] > 10, told
    assert set(told) == {"not-applied", "unknown"}
    assert outcomes["ok"] > 60, outcomes
    assert outcomes["info"] > 40, outcomes
    assert repeated > 80


def test_a_node_that_calls_every_late_write_not_applied_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = Session.expire

    def optimistic(self: Session, now: float) -> None:
        for pending in self._pending.values():
            pending.left = False
        guarded(self, now)

    monkeypatch.setattr(Session, "expire", optimistic)
    with pytest.raises(Violation, match=r"definitely failed|done-after-all|failed for certain|nobody added"):
        run_all(8)
