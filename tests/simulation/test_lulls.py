"""Long runs: faults and clients begin things in bursts only, and the cluster rests between them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.directed import counted_steps
from tests.simulation.run import drawn
from tests.simulation.scenario import Run
from tests.simulation.settings import RareSteps, Settings

MARGIN = 0.001


def test_a_burst_then_a_lull_and_again() -> None:
    settings = Settings(burst=3.0, lull=7.0)
    assert [settings.rest(at) for at in (0.0, 2.9, 3.0, 9.0, 10.0, 12.5, 14.0)] == [0, 0, 7, 1, 0, 0, 6]
    assert [settings.span(seconds) for seconds in (2.0, 3.0, 4.0, 9.5)] == [2.0, 10.0, 11.0, 30.5]
    assert Settings().rest(1234.5) == 0.0
    assert Settings().span(60.0) == 60.0


def test_nothing_begins_in_a_lull() -> None:
    settings = Settings(
        burst=2.0, lull=8.0, lease_owners=0, timing=RareSteps(), think=0.1, faults=("isolate", "kill"), fault_pause=0.3
    )
    run = Run("lulls", settings)
    run.run(settings.span(6.0))
    began = Counter(int(operation.called_at // 10) for operation in run.history.operations if operation.called_at < 29)
    assert all(began[cycle] > 20 for cycle in range(3)), "each cycle has its burst"
    struck = [done.at for done in run.actions.log if done.do in ("kill", "cut")]
    assert struck
    for at in (*struck, *(operation.called_at for operation in run.history.operations)):
        if at < 29:
            assert at % 10 <= 2.0 + MARGIN, f"something began at {at:.3f} s"


def test_draws_without_short_leases_live_long() -> None:
    runs = [drawn(seed) for seed in range(40)]
    long = [run for run in runs if run.settings.lull]
    assert len(long) > 10
    assert all(run.settings.span(20.0) > 20.0 + run.settings.lull for run in long)
    assert not any(run.owners for run in long)


def test_a_lull_costs_a_few_steps_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with registrations: a step of the lease clock that is longer than the clock counts at once must be taken
    when it is due, or the leader's timer rings at every period."""
    settings = Settings(clients=2, lease_owners=0, timing=RareSteps(), think=0.1, burst=3.0, lull=1000.0)
    run = Run("at rest with registrations", settings)
    run.start()
    run.world.run_for(6.0)
    steps = counted_steps(monkeypatch)
    clock_ms = {engine.registry.clock_ms for engine in run.cluster.engines()}
    run.world.run_for(20.0)
    assert max(steps.values()) / 20 <= 16, steps
    [after] = {engine.registry.clock_ms for engine in run.cluster.engines()} - clock_ms
    assert after - max(clock_ms) >= 9 * 500, "a step every two seconds counts half a second"
