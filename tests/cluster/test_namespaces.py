"""The partitions of ``test_partitions`` (C12, C15) with packets that are lost in the kernel, where that can be had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.namespaces import NamespaceCluster, obstacle
from tests.cluster.test_partitions import (
    severable,
    test_c12_only_the_side_with_a_majority_writes,
    test_c15_loss_in_one_direction_ends_no_lease,
)

__all__ = ["severable", "test_c12_only_the_side_with_a_majority_writes", "test_c15_loss_in_one_direction_ends_no_lease"]

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := obstacle():
        pytest.skip(f"no network namespaces: {reason}")
    with NamespaceCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        assert "Traceback" not in process.log_path.read_text(errors="replace"), f"{node} logged a traceback"
