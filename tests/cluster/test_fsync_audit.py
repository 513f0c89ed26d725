"""Real nodes under strace: no promise leaves before its fdatasync has returned. Skipped where none can be traced."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.fsync_audit import fsync_audit
from jepsen_lite.strace import Strace, TraceError

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

UNSYNCED_NODE = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "unsynced_node.py")]


def audited(cluster: Cluster) -> tuple[str, str]:
    with cluster:
        try:
            with Strace(cluster.nodes["n1"].pid, cluster.directory / "probe.strace"):
                pass
        except TraceError as exc:
            pytest.skip(f"cannot trace a process: {exc}")
        return fsync_audit(cluster, seconds=1.0)


def test_no_promise_leaves_before_its_fdatasync_has_returned(tmp_path: Path) -> None:
    assert audited(Cluster(tmp_path)) == ("valid", "")


def test_a_node_that_does_not_sync_is_found(tmp_path: Path) -> None:
    result, text = audited(Cluster(tmp_path, command=UNSYNCED_NODE))
    assert result == "invalid"
    assert "left when the last entry on disk was" in text
