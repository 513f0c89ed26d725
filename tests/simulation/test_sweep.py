"""A crash at every moment of a scripted run (``sweep``). A part of them here, all of them in ``make sim``.

``ARTEMIS_SWEEP_STRIDE`` (1: all) and ``ARTEMIS_SWEEP_OFFSET`` choose which.
"""

from __future__ import annotations

import sys

import pytest

from tests.simulation import sweep
from tests.simulation.plants import planted

USUAL_STRIDE = 7


def test_a_crash_at_any_moment_of_the_script_loses_nothing() -> None:
    which = sweep.stride_of_this_run(USUAL_STRIDE)
    counts, found = sweep.sweep(which)
    sys.stdout.write(f"{counts}\n")
    assert not found, "\n".join(found)
    outcomes = counts.split("(")[1]
    for what in ("kills at a disk", "power cuts at a disk", "kills at a send", "power cuts at a send"):
        assert what in outcomes, counts


@pytest.mark.parametrize(
    ("plant", "crashes"),
    [
        ("never_sync", [("n1", "disk", step, True) for step in range(40, 130, 15)]),
        ("acknowledge_before_the_disk", [("n2", "send", step, True) for step in range(20, 60, 5)]),
    ],
)
def test_the_sweep_finds_a_planted_bug(plant: str, crashes: list[tuple[str, sweep.Kind, int, bool]]) -> None:
    with planted(plant):
        outcomes = [sweep.run_crash(sweep.Crash(*crash)) for crash in crashes]
    assert any(outcome.violation for outcome in outcomes)
