"""A short attack on the Raft ports. A longer one: ``python -m jepsen_lite strangers --time 60``."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepsen_lite.strangers import SecretCluster, strangers

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_strangers_on_the_raft_ports_change_nothing(tmp_path: Path) -> None:
    cluster = SecretCluster(tmp_path)
    with cluster:
        assert strangers(cluster, seconds=8.0, seed=20261123) == ("valid", "")
