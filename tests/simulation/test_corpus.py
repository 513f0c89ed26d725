"""Schedules that once broke a promise, shrunk, on every commit: clean with every guard, broken without the one they are
for. Plans without a ``plant`` showed real bugs of this engine, or reach by triggers what times hardly hit: ``about``.

The unit of value here is the schedule: unlike a seed it stays one when the simulator changes (``plans``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import plans, shrink
from tests.simulation.run import replay

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
PLANTED = [path for path in CORPUS if plans.load(path).plant]


SEEDS = 24
"""A change of the program shifts by how many milliseconds events miss each other, so a schedule is tried with its own
seed first and then with those that follow it."""


def seeded(path: Path) -> Iterator[plans.Plan]:
    plan = plans.load(path)
    return (replace(plan, seed=int(plan.seed) + more) for more in range(SEEDS))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_engine_keeps_its_promises(path: Path) -> None:
    for plan in seeded(path):
        report = replay(replace(plan, plant=""), str(path))
        # The witness of a trigger is that it fired: without it the schedule has not met what it is for.
        if sum(report.faults.values()) == len(plan.events):
            return
    pytest.fail("its triggers do not fire any more: record it again")


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_without_the_guard_the_schedule_breaks_one(path: Path) -> None:
    shown = any(shrink.failure_of(plan) is not None for plan in seeded(path))
    assert shown, "the schedule does not show any more what it is kept for: record and shrink it again"


def test_the_schedules_are_small() -> None:
    """A long one is a seed in disguise."""
    assert len(PLANTED) >= 10
    for path in CORPUS:
        plan = plans.load(path)
        assert plan.about
        assert len(plan.events) <= 12, path


def test_the_schedules_of_single_moments_have_triggers() -> None:
    assert sum(any(event.when for event in plans.load(path).events) for path in CORPUS) >= 5
