"""Short runs of jepsen-lite on real nodes. Longer ones: ``python -m jepsen_lite run --time 60``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.history import load
from jepsen_lite.report import summary
from jepsen_lite.run import Settings, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEED = 20261123
SECONDS = 12.0
SMALL_LOG_NODE = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "small_log_node.py")]


def assert_valid(cluster: Cluster, directory: Path) -> None:
    history = directory / "history.jsonl"
    with cluster:
        verdict = run(cluster, Settings(seed=SEED, seconds=SECONDS), history)
    assert verdict.result == "valid", f"seed {SEED}, {history}\n{summary(load(history), verdict)}"


def test_a_short_run_is_valid(tmp_path: Path) -> None:
    assert_valid(Cluster(tmp_path), tmp_path)


def test_a_short_run_with_snapshots_is_valid(tmp_path: Path) -> None:
    """Nodes that were away come back by a snapshot; without one installed the run has not shown it."""
    cluster = Cluster(tmp_path, command=SMALL_LOG_NODE)
    assert_valid(cluster, tmp_path)
    logs = "".join(process.log_path.read_text() for process in cluster.nodes.values())
    assert "installed snapshot" in logs
