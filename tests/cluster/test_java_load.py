"""The load of Java-like clients, small: it keeps every instance through a killed leader. How fast is not tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.java_clients import Figures
from benchmarks.scratch import RESULTS

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 150.0


def test_fifty_clients_keep_their_instances_when_the_leader_is_killed() -> None:
    before = set(RESULTS.glob("java-clients-*"))
    options = ["--clients", "50", "--seconds", "14", "--ramp", "2", "--restart-after", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "java-clients", *options, "--json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "jepsen-lite")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = msgspec.json.decode(done.stdout, type=Figures)
    assert (figures.clients, figures.instances) == (50, 250)
    assert (figures.lost, figures.missing, figures.unregistered) == ([], {}, [])
    assert figures.events["reconnected"] > 0, "nobody was connected to the leader that was killed"
    assert figures.pongs.count > 0
    assert figures.heartbeats.count > 0
    assert set(RESULTS.glob("java-clients-*")) == before, "nothing is left behind"
