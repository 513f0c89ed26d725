"""Whole runs: a swarm of faults over the real engine, every invariant, and the same again from the same seed.

``ARTEMIS_SIMULATION_SEED`` (any text, such as a date or a commit id) chooses the fresh seeds. A seed is in the name of
its test and in every violation, and ``python -m tests.simulation.run --seed N --seconds 30 --trace`` runs it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.simulation.run import simulate

SECONDS = 30.0

FIXED_SEEDS = (2, 18, 26, 34, 35)
"""Runs with much in them: five nodes with failing disks, split networks, late votes, slow links, torn transfers.

A seed is a schedule only as long as neither the engine nor the simulator changes: what a run found once is kept as a
schedule in ``test_schedules`` or in the unit tests."""

REPLAY = """
from tests.simulation.run import simulate
print(simulate(34, 8.0).digest, simulate(7, 8.0).digest)
"""


def fresh_seeds(count: int) -> list[int]:
    rng = Random(os.environ.get("ARTEMIS_SIMULATION_SEED", ""))
    return [rng.getrandbits(31) for _ in range(count)]


@pytest.mark.parametrize("seed", [*FIXED_SEEDS, *fresh_seeds(10)])
def test_every_invariant_holds(seed: int) -> None:
    report = simulate(seed, SECONDS)
    assert report.acknowledged > 0
    assert report.linearizable_reads > 0


def test_the_runs_do_what_they_claim() -> None:
    """Over a few seeds each kind of trouble must really have happened, else a green run says nothing."""
    reports = [simulate(seed, SECONDS) for seed in (5, 9, 26, 30, 33)]
    assert sum(report.acknowledged for report in reports) > 300
    assert sum(report.linearizable_reads for report in reports) > 150
    assert sum(report.unknown for report in reports) > 10
    assert sum(report.terms for report in reports) > 20
    assert sum(report.restarts for report in reports) > 20
    assert sum(report.truncations for report in reports) > 0
    assert sum(report.snapshots_installed for report in reports) > 0


def test_the_same_seed_is_the_same_run_under_any_hash_seed() -> None:
    """PySyncObj keeps its peers in a set, so nothing may depend on the order of sets."""
    here = f"{simulate(34, 8.0).digest} {simulate(7, 8.0).digest}"
    for hash_seed in ("0", "12345"):
        replayed = subprocess.run(
            [sys.executable, "-c", REPLAY],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert replayed.stdout.strip() == here


def test_different_seeds_are_different_runs() -> None:
    assert simulate(1, 3.0).digest != simulate(2, 3.0).digest
