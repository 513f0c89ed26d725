"""A node says when it is not well (P8): reasons appear when something is wrong and go when it is mended."""

from __future__ import annotations

from artemis.consensus.health import STALL_SHOWN_SECONDS, STUCK_SECONDS
from artemis.consensus.standing import BEHIND_SECONDS
from tests.simulation.directed import converge, engine_of, followers_of, leader_of, settled_cluster, write


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


def test_a_leader_that_is_cut_off_says_how_old_it_is_also_when_it_leads_no_more() -> None:
    cluster = settled_cluster("cut off leader")
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)
    for name in cluster.members:
        if name != leader:
            cluster.network.cut(leader, name)
            cluster.network.cut(name, leader)
    cluster.world.run_for(3.0)
    assert engine.status().role != "leader"
    assert 2_800 <= engine.status().apply_lag_ms <= 3_300


def test_a_leader_that_was_paused_knows_its_age_before_it_hears_of_the_next_one() -> None:
    cluster = settled_cluster("paused leader")
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)
    cluster.pause(leader)
    cluster.world.run_for(3.0)
    assert leader_of(cluster) != leader
    cluster.resume(leader)
    assert cluster.world.run_until_true(lambda: engine.status().role != "leader", within=1)
    assert engine.status().apply_lag_ms < 4_000


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


def test_a_stuck_apply_is_noticed_and_names_the_entry() -> None:
    cluster = settled_cluster("stuck")
    follower, other = followers_of(cluster)
    engine = engine_of(cluster, follower)
    tick = engine.core.tick
    engine.core.tick = lambda: None  # type: ignore[method-assign]
    assert write(cluster, other, "during")
    committed = engine.core.commit_index
    assert cluster.world.run_until_true(
        lambda: any(
            "is committed and has not been applied" in reason and str(engine.core.applied_index + 1) in reason
            for reason in engine.status().reasons
        ),
        within=STUCK_SECONDS + 1,
    ), (committed, engine.status())
    engine.core.tick = tick  # type: ignore[method-assign]
    converge(cluster, "during")
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=2)


def test_a_node_that_stood_still_says_so_for_a_while() -> None:
    cluster = settled_cluster("stall")
    follower = followers_of(cluster)[0]
    engine = engine_of(cluster, follower)
    cluster.pause(follower)
    cluster.world.run_for(2.0)
    cluster.resume(follower)
    assert cluster.world.run_until_true(
        lambda: any("event loop stood still" in reason for reason in engine.status().reasons), within=1
    )
    assert cluster.world.run_until_true(lambda: not engine.status().reasons, within=STALL_SHOWN_SECONDS + 1)


def test_a_cut_off_leader_says_so_within_an_election_timeout() -> None:
    cluster = settled_cluster("cut off leader")
    leader = leader_of(cluster)
    engine = engine_of(cluster, leader)
    assert cluster.world.run_until_true(lambda: engine.status().known_leader, within=1)
    for name in cluster.members:
        if name != leader:
            cluster.network.cut(leader, name)
            cluster.network.cut(name, leader)
    seconds = cluster.settings.timing.election_timeout_ms_max / 1000
    assert cluster.world.run_until_true(lambda: not engine.status().known_leader, within=seconds)
    assert "no leader" in engine.status().reasons
