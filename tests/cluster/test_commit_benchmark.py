"""The commit benchmark measures what it says and leaves nothing behind. How fast is not tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.report import Result
from benchmarks.scratch import RESULTS

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0


def test_it_commits_at_the_leader_and_outlives_a_kill_of_it() -> None:
    before = set(RESULTS.glob("commit-*"))
    options = ["--seconds", "1", "--in-flight", "1,20", "--failovers", "1"]
    command = [sys.executable, "-m", "benchmarks", "commit", *options]
    done = subprocess.run(
        [*command, "--json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "jepsen-lite")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(done.stdout, type=Result)
    assert [(row.connections, row.unit) for row in result.rows] == [(1, "proposals"), (20, "proposals")]
    assert all(row.per_second > 0 and 0 < row.p50_ms <= row.p99_ms for row in result.rows)
    (failover,) = result.moments.values()
    assert 0 < failover["p50"] <= failover["worst"]
    assert set(RESULTS.glob("commit-*")) == before
