"""A short run of jepsen-lite on real nodes. Longer ones: ``python -m jepsen_lite run --time 60``."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.history import load
from jepsen_lite.report import summary
from jepsen_lite.run import Settings, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEED = 20261123
SECONDS = 12.0


def test_a_short_run_is_valid(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    with Cluster(tmp_path) as cluster:
        verdict = run(cluster, Settings(seed=SEED, seconds=SECONDS), history)
    assert verdict.result == "valid", f"seed {SEED}, {history}\n{summary(load(history), verdict)}"
