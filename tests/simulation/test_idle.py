"""A cluster at rest does next to nothing, and yet nothing is late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from artemis.consensus.timing import Bounds, Timing
from artemis.errors import ArtemisError, InvalidInput, Unavailable
from tests.simulation.cluster import Cluster
from tests.simulation.directed import counted_steps, leader_of, settle
from tests.simulation.settings import Settings
from tests.simulation.world import World


def resting() -> Cluster:
    cluster = Cluster(World("at rest"), Settings(timing=Timing()))
    cluster.start_all()
    settle(cluster)
    cluster.world.run_for(1.0)
    return cluster


def test_a_node_at_rest_steps_a_few_times_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = resting()
    steps = counted_steps(monkeypatch)
    messages = cluster.network.messages
    cluster.world.run_for(10.0)
    heartbeats = (cluster.network.messages - messages) / 4 / 10  # to two followers and back
    assert 9 <= heartbeats <= 10.5, "heartbeats leave when they are due"
    for name in cluster.members:
        # A follower looks five times per second whether it still runs; the leader at each heartbeat.
        assert 4 <= steps[name] / 10 <= 14, steps


def test_an_idle_follower_campaigns_when_its_leader_is_gone() -> None:
    cluster = resting()
    for _ in range(5):
        settle(cluster)
        before = cluster.world.now
        cluster.kill(leader_of(cluster))
        assert cluster.world.run_until_true(lambda: cluster.leader() is not None, within=2.0), "within two timeouts"
        assert cluster.world.now - before < 1.5
        cluster.start_all()


@pytest.mark.parametrize("budget_ms", [37, 400])
def test_a_read_that_nobody_confirms_ends_when_its_time_is_up(budget_ms: int) -> None:
    cluster = resting()
    leader = leader_of(cluster)
    for name in cluster.members:
        if name != leader:
            cluster.network.cut(leader, name)
    engine = cluster.engine(leader)
    assert engine is not None
    ended: list[tuple[float, ArtemisError | None]] = []
    before = cluster.world.now
    engine.barrier(budget_ms, lambda error: ended.append((cluster.world.now - before, error)))
    cluster.world.run_for(1.0)
    [(after, error)] = ended
    assert isinstance(error, Unavailable)
    assert budget_ms / 1000 * 0.99 <= after <= budget_ms / 1000 * 1.01 + Timing().timer_ms / 1000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(append_batch_bytes=1024 * 1024),
        Bounds(append_batch_bytes=8 * 1024 * 1024),
        replace(Bounds(), entry_bytes=4 * 1024 * 1024),
    ],
)
def test_an_entry_that_fills_a_batch_is_refused_at_start(bounds: Bounds) -> None:
    """The library would cut it into pickled pieces."""
    with pytest.raises(InvalidInput, match="append_batch_bytes"):
        bounds.validate()
