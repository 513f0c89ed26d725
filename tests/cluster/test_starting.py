"""A node that cannot start says why in one line and ends at once with a code that is not 0."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from jepsen_lite.cluster import HOST, Cluster

pytestmark = pytest.mark.cluster

END_S = 15.0


def failed_start(cluster: Cluster) -> tuple[int, str]:
    """Start only the first node, which must end by itself: its exit code and what it printed."""
    try:
        cluster.restart("n1")
        return cluster.nodes["n1"].wait(END_S), cluster.nodes["n1"].log_path.read_text()
    finally:
        cluster.close()


@pytest.mark.parametrize("which", ["http_port", "raft_port"])
def test_an_address_in_use_is_one_clear_error(tmp_path: Path, which: str) -> None:
    cluster = Cluster(tmp_path, size=3)  # a cluster of one has no use for its raft address
    port: int = getattr(cluster.addresses["n1"], which)
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        code, output = failed_start(cluster)
    assert code > 0
    assert f"{HOST}:{port}" in output
    assert "Traceback" not in output


def test_a_second_node_on_the_same_data_directory_does_not_start(tmp_path: Path) -> None:
    with Cluster(tmp_path / "first", size=1) as first:
        data_dir = str(first.data_dir("n1"))
        code, output = failed_start(Cluster(tmp_path / "second", size=1, arguments=["--data-dir", data_dir]))
        assert code > 0
        assert data_dir in output
        assert "Traceback" not in output
        assert first.is_ready("n1"), "the first node must not notice"


def test_sigterm_ends_with_code_0_and_the_data_is_there_again(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1) as cluster:
        assert cluster.nodes["n1"].terminate(END_S) == 0
        cluster.restart("n1")
        cluster.wait_ready()
        assert cluster.leader() == "n1"
