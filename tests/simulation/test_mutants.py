"""The checkers bite: every quickly found planted bug is found, by the checker that is there for it.

The slow ones and their budgets are for ``make mutants``. That the same seeds are clean without a plant is shown here
too, else the finds would show nothing but a broken simulator; the named tests run by themselves in this suite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import mutants
from tests.simulation.mutant import MUTANTS, Seeds
from tests.simulation.scenario import Run

ROOT = Path(__file__).parents[2]
CLEAN_SECONDS = 4.0


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """What was found, by name. All in one process tree of their own: a plant may leave traces in imported modules."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.mutants", "--fast", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(mutants.FAST), done.stderr[-2000:]
    return {row["name"]: row["found"] for row in rows}


@pytest.mark.parametrize("name", mutants.FAST)
def test_a_planted_bug_is_found(name: str, verdicts: dict[str, str]) -> None:
    assert verdicts[name], f"{name} survives: python -m tests.simulation.mutants --only {name}"


def test_without_a_planted_bug_the_same_runs_are_clean() -> None:
    for planted in MUTANTS.values():
        if isinstance(planted.by, Seeds) and planted.name in mutants.FAST:
            Run(planted.by.known, planted.by.settings).run(CLEAN_SECONDS)


def test_every_guard_of_the_table_has_its_mutants() -> None:
    """The catalogue can shrink only on purpose."""
    assert len(MUTANTS) >= 90
    assert {"A", "B", "C", "D1", "D4", "E", "F", "G1", "G2", "G3", "G4", "J2", "J3", "J4", "K", "L", "N7"} <= {
        planted.breaks for planted in MUTANTS.values()
    }
    assert set(mutants.FAST) <= set(MUTANTS)
