"""A node whose journal cannot be written: it promises nothing, does not lead, says so, and comes back by itself."""

from __future__ import annotations

import errno

import pytest

from tests.simulation.cluster import Cluster
from tests.simulation.directed import converge, engine_of, leader_of, settled_cluster, write


@pytest.fixture
def cluster() -> Cluster:
    return settled_cluster("disk faults")


@pytest.mark.parametrize("operation", ["write", "sync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_leader_with_a_failing_disk_makes_way_and_comes_back(cluster: Cluster, operation: str, code: int) -> None:
    leader = leader_of(cluster)
    other = next(name for name in cluster.members if name != leader)
    assert write(cluster, other, "before")
    disk = cluster.machines[leader].disk
    disk.fail("sync" if operation == "sync" else "write", error=OSError(code, "injected"), sticky=True)
    started = cluster.world.now
    assert write(cluster, other, "during")
    assert leader_of(cluster) != leader
    assert cluster.world.now - started < 2.5
    status = engine_of(cluster, leader).status()
    assert not status.ready
    assert any("journal cannot be written" in reason for reason in status.reasons)
    assert write(cluster, other, "later")
    disk.heal()
    converge(cluster, "before", "during", "later")
    assert engine_of(cluster, leader).status().ready
    # It is a copy again: with it, and without another, there is a majority.
    cluster.kill(next(name for name in cluster.members if name not in (leader, other)))
    assert write(cluster, leader, "last")
    cluster.start_all()
    converge(cluster, "before", "during", "later", "last")


def test_what_was_promised_before_the_fault_survives_a_power_cut_after_it(cluster: Cluster) -> None:
    follower = next(name for name in cluster.members if name != leader_of(cluster))
    for number in range(5):
        assert write(cluster, follower, f"i{number}")
    disk = cluster.machines[follower].disk
    disk.fail("sync", error=OSError(errno.EIO, "injected"), sticky=True)
    assert write(cluster, follower, "during"), "two others are a majority"
    disk.heal()
    converge(cluster, "i0", "i1", "i2", "i3", "i4", "during")
    cluster.power_cut(*cluster.members)
    cluster.start_all()
    converge(cluster, "i0", "i1", "i2", "i3", "i4", "during")


def test_a_leader_whose_write_does_not_return_makes_way(cluster: Cluster) -> None:
    leader = leader_of(cluster)
    other = next(name for name in cluster.members if name != leader)
    cluster.machines[leader].speed.stalled = 20.0
    started = cluster.world.now
    assert write(cluster, other, "during")
    assert leader_of(cluster) != leader
    assert cluster.world.now - started < 3.0
    assert any("has not returned" in reason for reason in engine_of(cluster, leader).status().reasons)
    cluster.machines[leader].speed.stalled = 0.0
    converge(cluster, "during")


def test_a_lone_node_with_a_failing_disk_acknowledges_nothing() -> None:
    cluster = settled_cluster("lone disk", members=1)
    disk = cluster.machines["n1"].disk
    disk.fail("sync", error=OSError(errno.EIO, "injected"), sticky=True)
    assert not write(cluster, "n1", "a", timeout_ms=1_000)
    disk.heal()
    assert cluster.world.run_until_true(lambda: engine_of(cluster, "n1").status().ready, within=10)
    assert write(cluster, "n1", "b")
