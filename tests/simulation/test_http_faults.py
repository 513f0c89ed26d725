"""The real HTTP application under lost answers, cut requests, killed and paused nodes: whole runs, and single moments.

A run is a seed, as in ``test_seeds``: a swarm of faults on nodes, links and disks, and beside it three of ten answers
that never arrive.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from artemis.consensus import engine
from artemis.registry import Registry, StateLimits
from tests.simulation.http_scenario import HttpRun, drawn
from tests.simulation.scenario import Report
from tests.simulation.settings import Settings

SECONDS = 15.0
SEEDS = range(1, 11)

REPLAY = """
from tests.simulation.http_scenario import drawn
print(drawn(7).run(4.0).digest, drawn(2).run(4.0).digest)
"""


@cache
def finished(seed: int) -> tuple[HttpRun, Report]:
    run = drawn(seed)
    return run, run.run(SECONDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_over_http(seed: int) -> None:
    run, report = finished(seed)
    assert report.acknowledged > 0
    assert report.linearizable_reads > 0
    assert run.http.handled > 0


def test_the_runs_do_what_they_claim() -> None:
    runs = [finished(seed) for seed in SEEDS]
    assert sum(report.unknown for _, report in runs) > 50
    assert sum(report.restarts for _, report in runs) > 10
    assert sum(run.http.ages_checked for run, _ in runs) > 50
    assert sum(len(run.shared.heartbeats) for run, _ in runs) > 30
    assert sum(len(run.shared.repeatable) for run, _ in runs) > 100
    assert sum(run.delta_reader.deltas for run, _ in runs) > 80
    watchers = [watcher for run, _ in runs for watcher in run.watchers]
    assert sum(watcher.batches for watcher in watchers) > 100
    assert sum(watcher.bookmarks for watcher in watchers) > 100
    assert sum(watcher.hops for watcher in watchers) > 100
    assert sum(run.undecided for run, _ in runs) <= 2


def test_watchers_whose_revision_is_too_old_read_again_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Registry", lambda: Registry(StateLimits(changes_max=8)))
    runs = [drawn(seed) for seed in (2, 6, 7)]
    for run in runs:
        run.run(SECONDS)
    watchers = [watcher for run in runs for watcher in run.watchers]
    assert sum(watcher.resets for watcher in watchers) > 2
    assert sum(watcher.hops for watcher in watchers) > 30


def test_the_same_seed_is_the_same_run_under_any_hash_seed() -> None:
    here = f"{drawn(7).run(4.0).digest} {drawn(2).run(4.0).digest}"
    replayed = subprocess.run(
        [sys.executable, "-c", REPLAY],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert replayed.stdout.strip() == here


def test_a_run_without_faults_refuses_nothing() -> None:
    run = HttpRun(1, Settings())
    for rate in ("request_cut", "answer_lost", "answer_cut"):
        setattr(run.rates, rate, 0.0)
    run.start()
    run.world.run_for(2.0)
    settled = len(run.history.operations)
    run.world.run_for(8.0)
    run.finish()
    run.frontends.close()
    strict = [o for o in run.history.operations[settled:] if o.kind != "stale-read"]
    assert strict
    assert {operation.outcome for operation in strict} == {"ok"}
