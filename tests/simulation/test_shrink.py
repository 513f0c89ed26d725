"""The shrinker finds the few events that matter, says the truth about them, and keeps its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import plans, shrink
from tests.simulation.mutant import faults
from tests.simulation.plants import planted
from tests.simulation.scenario import Run
from tests.simulation.settings import Settings
from tests.simulation.shrink import Shrinker, ddmin, failure_of, kind_of
from tests.simulation.world import Violation

PLANT = "count_the_leader_before_its_disk"


def failing_run(seconds: float = 12.0) -> plans.Plan:
    """A drawn run with a planted bug, written down."""
    for seed in range(1, 40):
        with planted(PLANT):
            run = Run(seed, faults("kill", "slow-disk", "isolate", "reset"))
            try:
                run.run(seconds)
            except Violation:
                if len(run.actions.log) >= 6:
                    return replace(plans.recorded(run, seconds), plant=PLANT)
    raise AssertionError("no seed shows the planted bug after a few faults")


def test_a_random_failing_run_shrinks_to_a_few_events() -> None:
    plan = failing_run()
    shrinker = Shrinker(plan, runs_max=150, seconds_max=60)
    small = shrinker.shrink()
    assert shrinker.runs <= 150
    assert len(small.events) <= min(12, len(plan.events) - 1)
    assert len(small.clients) < len(plan.clients)
    assert small.seconds < plan.seconds
    failure = failure_of(small)
    assert failure is not None
    assert kind_of(failure.text) == kind_of(shrinker.failure.text)
    assert failure_of(replace(small, plant="")) is None


def test_the_result_is_a_plan_and_a_test(tmp_path: Path) -> None:
    plan = failing_run()
    failure = failure_of(plan)
    assert failure is not None
    out = tmp_path / "late-disk.json"
    shrink.write(plan, failure, out)
    assert failure_of(plans.load(out)) == failure
    test = out.with_suffix(".py").read_text()
    assert "def test_late_disk() -> None:" in test
    compile(test, "late-disk.py", "exec")


def test_a_plan_that_passes_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        Shrinker(plans.Plan(seed=1, seconds=2.0, settings=Settings()))


def test_ddmin_leaves_a_minimum() -> None:
    tried: list[tuple[int, ...]] = []

    def fails(items: tuple[int, ...]) -> bool:
        tried.append(items)
        return {3, 11, 12} <= set(items)

    assert ddmin(tuple(range(40)), fails) == (3, 11, 12)
    assert len(tried) < 120


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (
            "seed 1, at 2.5 s: n1 applies entry 5 of term 2, which is on the disks of ['n1'] only",
            "seed 9, at 0.5 s: n3 applies entry 77 of term 4, which is on the disks of ['n2', 'n3'] only",
            "seed 1, at 2.5 s: n1 applies another entry 5 (term 1, not 2) than the first applier",
        ),
        (
            "seed 1, at 9 s: #5 c3 read alpha  [1.0 .. 2.0] ok at revision 3 by n1 lacks c2-1, acknowledged by "
            "#2 c2 add alpha c2-1 [0.1 .. 0.9] ok at revision 2 by n2",
            "seed 4, at 7 s: #65 c0 read beta  [1.5 .. 2.5] ok at revision 30 by n3 lacks c4-10, acknowledged by "
            "#22 c4 add beta c4-10,c4-11 [0.3 .. 0.4] ok at revision 29 by n1",
            "seed 1, at 9 s: #5 c3 read alpha  [1.0 .. 2.0] ok at revision 3 by n1 is older than "
            "#2 c2 add alpha c2-1 [0.1 .. 0.9] ok at revision 2 by n2",
        ),
    ],
)
def test_violations_of_one_kind_are_told_from_others(one: str, same: str, other: str) -> None:
    assert kind_of(one) == kind_of(same)
    assert kind_of(one) != kind_of(other)
