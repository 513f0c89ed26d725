"""Watchers that change nodes under faults, for some seconds. Longer: ``make jepsen ARGS="watch --time 120"``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jepsen_lite import nemesis
from jepsen_lite.hopping import SOON_A_BOOKMARK, Settings, hopping
from jepsen_lite.proxy import ProxiedCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEED = 20261123
SECONDS = 12.0
SMALL_LOG_NODE = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "small_log_node.py")]
"""Nodes that were away come back by a snapshot."""


def test_what_hopping_watchers_are_told_is_the_state_at_every_revision(tmp_path: Path) -> None:
    plan = nemesis.plan(SEED, SECONDS, nemesis.ALL_FAULTS)
    cluster = ProxiedCluster(tmp_path, command=SMALL_LOG_NODE, arguments=SOON_A_BOOKMARK)
    with cluster:
        result, text = hopping(cluster, Settings(seed=SEED, plan=plan, seconds=SECONDS))
    assert result == "valid", text
