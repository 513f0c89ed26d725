"""The long form says what it did, and fails when it found something or met too little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import situations, soak
from tests.simulation.plants import planted
from tests.simulation.soak import Totals

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.soak", "--jobs", "1", "--no-sweep", *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_short_run_prints_seeds_speed_faults_and_situations() -> None:
    done = run("--seconds", "0.1", "--virtual", "4", "--first", "10", "--least", "0", "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds from 10 on" in done.stdout
    assert "seed 10: " in done.stdout
    assert "per CPU second of one core" in done.stdout
    assert "faults: " in done.stdout
    assert all(name in done.stdout for name in situations.SITUATIONS)


def test_a_run_that_met_too_little_has_shown_too_little() -> None:
    done = run("--seconds", "0.1", "--virtual", "2", "--first", "10")
    assert done.returncode == soak.TOO_FEW
    assert "<-- too few" in done.stdout


def test_a_few_seeds_meet_many_situations() -> None:
    """That they are counted at all; that each is met ten times takes longer (``make sim``)."""
    totals = Totals()
    for seed in range(40, 45):
        totals.add(soak.one_seed(seed, 10.0))
    assert not totals.violations
    missed = [name for name in situations.SITUATIONS if not totals.met[name]]
    assert len(missed) <= len(situations.SITUATIONS) * 0.6, missed


def test_a_violation_is_reported_with_its_seed() -> None:
    totals = Totals()
    with planted("acknowledge_before_the_disk"):
        for seed in range(1, 30):
            totals.add(soak.one_seed(seed, 5.0))
            if totals.violations:
                break
    assert totals.violations[0].seed == totals.seeds
    assert "on the disks of" in str(totals.violations[0].violation)


def test_looking_on_changes_nothing() -> None:
    """The situations are counted in a subclass of the engine: it must not be another engine."""
    from tests.simulation.run import drawn

    for seed in (3, 6):
        outcome = soak.one_seed(seed, 5.0)
        run_ = drawn(seed)
        assert outcome.summary == str(run_.run(run_.settings.span(5.0)))


def test_a_situation_that_is_not_listed_is_an_error() -> None:
    from tests.simulation.run import drawn

    run_ = drawn(1)
    run_.cluster.watch.situations["something new"] += 1
    with pytest.raises(KeyError, match="something new"):
        situations.met(run_)


def test_every_kind_of_seed_says_how_to_do_it_again() -> None:
    assert soak.how_to_replay(2, 20.0).count("--seed 2 --seconds 20") == 2
    assert "--http --seed 8" in soak.how_to_replay(8, 20.0)
    directed = soak.how_to_replay(9, 20.0)
    assert ".json --seed 9 --trace" in directed
    assert "--record plan.json" in directed
