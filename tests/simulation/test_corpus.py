"""Schedules that once broke a promise, shrunk, on every commit: clean with every guard, broken without the one they are
for. Plans without a ``plant`` showed real bugs of this engine, or reach by triggers what times hardly hit: ``about``.

The unit of value here is the schedule: unlike a seed it stays one when the simulator changes (``plans``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import plans, shrink
from tests.simulation.run import replay

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
PLANTED = [path for path in CORPUS if plans.load(path).plant]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_engine_keeps_its_promises(path: Path) -> None:
    report = replay(replace(plans.load(path), plant=""), str(path))
    # The witness of a trigger is that it fired: without it the schedule has not met what it is for.
    assert sum(report.faults.values()) == len(plans.load(path).events)


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.stem)
def test_without_the_guard_the_schedule_breaks_one(path: Path) -> None:
    failure = shrink.failure_of(plans.load(path))
    assert failure is not None, "the schedule does not show any more what it is kept for: record and shrink it again"


def test_the_schedules_are_small() -> None:
    """A long one is a seed in disguise."""
    assert len(PLANTED) >= 10
    for path in CORPUS:
        plan = plans.load(path)
        assert plan.about
        assert len(plan.events) <= 12, path


def test_the_schedules_of_single_moments_have_triggers() -> None:
    assert sum(any(event.when for event in plans.load(path).events) for path in CORPUS) >= 5
