"""Leases under faults, for some seconds (C16). Longer: ``make jepsen ARGS="leases --time 180"`` or ``--kills 20``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jepsen_lite import nemesis
from jepsen_lite.cluster import Cluster
from jepsen_lite.lease_report import Least
from jepsen_lite.leases import Settings, leases
from jepsen_lite.owners import Habits
from jepsen_lite.proxy import ProxiedCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SEED = 20261123
SHIFTED = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "shifted_lease_node.py")]


def test_no_lease_ends_early_or_late_while_leaders_are_killed_stopped_and_cut_off(tmp_path: Path) -> None:
    plan = nemesis.plan(SEED, 12.0, nemesis.ALL_FAULTS)
    cluster = ProxiedCluster(tmp_path)
    with cluster:
        result, text = leases(cluster, Settings(seed=SEED, plan=plan, seconds=12.0, owners=120))
    assert result == "valid", text


def test_c16_no_living_instance_disappears_when_leaders_are_killed(tmp_path: Path) -> None:
    """Renewed twice a second with a TTL of 3 s, through whichever node answers."""
    settings = Settings(
        seed=SEED,
        plan=nemesis.leader_kills(SEED, 3),
        owners=20,
        habits=Habits(ttls_ms=(3000,), beats_per_ttl=6, steadfast=True),
        least=Least(ended=20, leaderships=4),
    )
    cluster = Cluster(tmp_path)
    with cluster:
        result, text = leases(cluster, settings)
    assert result == "valid", text


@pytest.mark.parametrize(("shifted_ms", "found"), [(-500, "early: at"), (1600, "late: at")])
def test_leases_that_end_too_early_or_too_late_are_found(tmp_path: Path, shifted_ms: int, found: str) -> None:
    settings = Settings(
        seed=SEED, plan=nemesis.leader_kills(SEED, 1), owners=30, habits=Habits(ttls_ms=(1000,)), least=Least(ended=1)
    )
    cluster = Cluster(tmp_path, command=SHIFTED, environment={"LEASES_SHIFTED_MS": str(shifted_ms)})
    with cluster:
        result, text = leases(cluster, settings)
    assert result == "invalid", text
    assert found in text
