"""A node says when it is not well (P8): reasons appear when something is wrong and go when it is mended."""

from __future__ import annotations

from artemis.consensus.engine import BEHIND_SECONDS
from tests.simulation.directed import converge, engine_of, followers_of, settled_cluster, write


def test_a_settled_cluster_has_nothing_to_say() -> None:
    cluster = settled_cluster("well")
    assert cluster.world.run_until_true(lambda: not any(engine.status().reasons for engine in cluster.engines()), 5)
    assert all(engine.status().apply_lag_ms < 1_000 for engine in cluster.engines())


def test_a_node_that_is_cut_off_says_so_within_an_election_timeout_and_later_how_old_it_is() -> None:
    cluster = settled_cluster("cut off")
    alone, other = followers_of(cluster)
    engine = engine_of(cluster, alone)
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)
    for name in cluster.members:
        if name != alone:
            cluster.network.cut(alone, name)
            cluster.network.cut(name, alone)
    assert cluster.world.run_until_true(lambda: "no leader" in engine.status().reasons, within=1.0)
    assert cluster.world.run_until_true(
        lambda: any("ms old" in reason for reason in engine.status().reasons), within=BEHIND_SECONDS + 1
    )
    assert write(cluster, other, "during")
    converge(cluster, "during")
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)


def test_a_node_that_hears_its_leader_and_lags_in_the_log_is_not_ready() -> None:
    """Contact alone proves nothing: heartbeats arrive, but what is committed cannot be applied."""
    cluster = settled_cluster("lag")
    follower, other = followers_of(cluster)
    engine = engine_of(cluster, follower)
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)
    tick = engine.core.tick
    engine.core.tick = lambda: None  # type: ignore[method-assign]
    assert write(cluster, other, "during")
    assert cluster.world.run_until_true(
        lambda: any("ms old" in reason for reason in engine.status().reasons), within=BEHIND_SECONDS + 2
    )
    assert engine.status().known_leader
    engine.core.tick = tick  # type: ignore[method-assign]
    converge(cluster, "during")
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)
