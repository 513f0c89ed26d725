"""Snapshots at their worst moments (``artemis.consensus.snapshotting``), on simulated machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest

from artemis import snapshot
from artemis.consensus import applying
from artemis.consensus.timing import Bounds
from artemis.consensus.wire import SnapshotChunk, SnapshotReply
from artemis.registry import Registry
from tests.simulation.cluster import Cluster
from tests.simulation.directed import converge, engine_of, followers_of, leader_of, settle, settled_cluster, write
from tests.simulation.disk import SimDisk
from tests.simulation.world import Violation

SNAPSHOT_PREFIX = "snapshot-"


@pytest.fixture
def cluster() -> Cluster:
    """Three nodes that snapshot only when told, keep nothing behind a snapshot, and send it in small pieces."""
    return settled_cluster("snapshotting", bounds=Bounds(snapshot_trailing_entries=0, snapshot_chunk_bytes=200))


def write_all(cluster: Cluster, node: str, names: Iterable[str]) -> None:
    for name in names:
        assert write(cluster, node, name)


def compact(cluster: Cluster, node: str) -> None:
    """Snapshot and wait until the log begins behind what was applied before."""
    engine = engine_of(cluster, node)
    target = engine.core.applied_index
    cluster.take_snapshot(node)
    assert cluster.world.run_until_true(lambda: engine.journal.first_index >= target - 1, within=5)


def names(count: int, prefix: str = "i") -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(count))


def test_a_follower_that_was_away_gets_a_snapshot_and_then_the_rest(cluster: Cluster) -> None:
    leader, away = leader_of(cluster), followers_of(cluster)[0]
    cluster.kill(away)
    write_all(cluster, leader, names(20))
    compact(cluster, leader)
    write_all(cluster, leader, names(5, "late"))
    cluster.start(away)
    converge(cluster, *names(20), *names(5, "late"))
    engine = engine_of(cluster, away)
    assert engine.status().snapshot_index > 0


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_a_crash_at_any_disk_operation_of_an_install_is_survived(cluster: Cluster, power: bool) -> None:
    """From the first received chunk to the journal that begins with the snapshot."""
    leader, away = leader_of(cluster), followers_of(cluster)[0]
    cluster.kill(away)
    write_all(cluster, leader, names(12))
    compact(cluster, leader)
    installed = False
    for operations in range(1, 60):
        cluster.start(away)
        cluster.crash_in_disk_job(away, operations=operations, torn_bytes=None, power=power)
        cluster.world.run_until_true(lambda: not cluster.machines[away].running, within=2)
        if cluster.machines[away].running:
            installed = True
            break
    assert installed, "the install never ended before the crash"
    converge(cluster, *names(12))


def test_the_state_that_a_snapshot_replaced_goes_piece_by_piece_with_the_entries_behind_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, away = leader_of(cluster), followers_of(cluster)[0]
    write_all(cluster, leader, names(12))
    settle(cluster)
    for other in cluster.members:
        if other != away:
            cluster.network.cut(away, other)
            cluster.network.cut(other, away)
    cluster.world.run_for(10)  # until the connections are given up, and with them what they hold
    write_all(cluster, leader, names(5, "later"))
    compact(cluster, leader)
    gone: list[int] = []
    take_apart = snapshot.take_apart

    def observed(registry: Registry) -> Iterator[object]:
        for part in take_apart(registry):
            gone.append(engine_of(cluster, away).core.applied_index)
            yield part
        gone.append(0)

    monkeypatch.setattr(snapshot, "take_apart", observed)
    monkeypatch.setattr(applying, "LET_GO_AT_ONCE", 1)
    cluster.network.heal_all()
    converge(cluster, *names(12), *names(5, "later"))
    assert cluster.world.run_until_true(lambda: 0 in gone, within=60)
    # Each record before another entry, and the end once.
    assert len(gone) > 12
    assert len(set(gone)) == len(gone)


def test_a_link_that_breaks_during_the_transfer_goes_on_where_it_was(cluster: Cluster) -> None:
    leader, away = leader_of(cluster), followers_of(cluster)[0]
    cluster.kill(away)
    write_all(cluster, leader, names(30))
    compact(cluster, leader)
    cluster.start(away)
    engine = engine_of(cluster, leader)
    for _ in range(5):
        assert cluster.world.run_until_true(lambda: engine.feeding_snapshot(away) or cluster.settled(), within=10)
        cluster.world.run_for(0.01)
        cluster.network.reset(leader, away)
        cluster.network.reset(away, leader)
    converge(cluster, *names(30))


def test_an_older_snapshot_over_a_newer_state_is_answered_and_not_installed(cluster: Cluster) -> None:
    """Hazard E4: it would take back what is applied, and drop entries behind it that were acknowledged."""
    leader, follower = leader_of(cluster), followers_of(cluster)[0]
    write_all(cluster, leader, names(3))
    settle(cluster)
    engine = engine_of(cluster, follower)
    sent: list[object] = []
    links = engine._world.links
    links.send = lambda peer, message: sent.append(message)  # type: ignore[method-assign]
    before = engine.core.applied_index
    engine.on_message(leader, SnapshotChunk(engine.core.term, 2, 1, 999, 0, b"x" * 10))
    cluster.world.run_for(0.05)
    assert SnapshotReply(engine.core.term, 2, 999) in sent
    assert engine.core.applied_index >= before
    cluster.kill(follower)
    converge(cluster, *names(3))


def test_a_damaged_snapshot_stops_the_start(cluster: Cluster) -> None:
    """Hazard E1: the library logs it and goes on with an empty state."""
    leader, follower = leader_of(cluster), followers_of(cluster)[0]
    write_all(cluster, leader, names(3))
    settle(cluster)
    compact(cluster, follower)
    cluster.kill(follower)
    disk = cluster.machines[follower].disk
    name = snapshot_name(disk)
    flip(disk, name)
    with pytest.raises(Violation, match=f"refuses to start.*{name}: the checksum"):
        restart(cluster, follower)


def test_a_journal_without_its_snapshot_stops_the_start(cluster: Cluster) -> None:
    leader, follower = leader_of(cluster), followers_of(cluster)[0]
    write_all(cluster, leader, names(3))
    settle(cluster)
    compact(cluster, follower)
    cluster.kill(follower)
    disk = cluster.machines[follower].disk
    name = snapshot_name(disk)
    disk.remove(name)
    with pytest.raises(Violation, match=r"refuses to start.*snapshot before it is missing"):
        restart(cluster, follower)


def test_a_restarted_node_applies_a_long_log_in_slices_and_becomes_ready() -> None:
    cluster = settled_cluster("slices", bounds=Bounds(apply_bytes=1))
    leader, follower = leader_of(cluster), followers_of(cluster)[0]
    write_all(cluster, leader, names(50))
    settle(cluster)
    cluster.kill(follower)
    cluster.start(follower)
    core = engine_of(cluster, follower).core
    tick, slices = core.tick, list[int]()

    def counted() -> None:
        before = core.applied_index
        tick()
        slices.append(core.applied_index - before)

    core.tick = counted  # type: ignore[method-assign]
    assert cluster.world.run_until_true(lambda: engine_of(cluster, follower).status().ready, within=10)
    assert sum(slices) >= 50
    assert max(slices) == 1
    converge(cluster, *names(50))


def test_the_log_in_memory_is_bounded_in_bytes_and_by_the_snapshot_behind_it() -> None:
    log_bytes = 4_000
    cluster = settled_cluster("bytes", bounds=Bounds(snapshot_log_bytes=log_bytes, snapshot_trailing_entries=1_000))
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    lengths: list[int] = []
    for name in names(200):
        write_all(cluster, leader, [name])
        snapshot_bytes = engine.snapshots._store.size_bytes
        assert engine.journal.entry_bytes < max(log_bytes, snapshot_bytes) + 2_000
        lengths.append(engine.journal.last_index - engine.journal.first_index)
    drops = [after for before, after in itertools.pairwise(lengths) if after < before]
    assert len(drops) >= 2, "no prefix was dropped twice"
    assert min(drops) > 2, "nothing was kept behind a snapshot"
    settle(cluster)
    converge(cluster, *names(200))


def restart(cluster: Cluster, node: str) -> None:
    """Start and let the refusal come out."""
    cluster.start(node)
    cluster.world.run_for(0.1)


def snapshot_name(disk: SimDisk) -> str:
    (name,) = [name for name in disk.names() if name.startswith(SNAPSHOT_PREFIX)]
    return name


def flip(disk: SimDisk, name: str) -> None:
    damaged = bytearray(disk.read(name))
    damaged[len(damaged) // 2] ^= 1
    disk.remove(name)
    file = disk.append(name)
    file.write(bytes(damaged))
    file.sync()
    file.close()
    disk.sync_directory()
