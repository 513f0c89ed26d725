"""Linearizable reads share their barriers: what travels between the nodes does not grow with the number of reads."""

from __future__ import annotations

from collections import Counter

import pytest

from artemis.consensus.wire import Message
from artemis.errors import ArtemisError
from tests.simulation.cluster import Cluster
from tests.simulation.directed import engine_of, followers_of, leader_of, settled_cluster
from tests.simulation.invariants import ObservedEngine

READ_MESSAGES = ("ReadIndexRequest", "ReadIndexReply", "ReadProbe", "ReadProbeReply")


def counting(cluster: Cluster) -> Counter[str]:
    """Messages about reads that the nodes send from now on, by type."""
    sent: Counter[str] = Counter()

    def watch(engine: ObservedEngine) -> None:
        send = engine.send

        def counted(peer: str, message: Message) -> None:
            name = type(message).__name__
            if name in READ_MESSAGES:
                sent[name] += 1
            send(peer, message)

        engine.send = counted  # type: ignore[method-assign]

    for engine in cluster.engines():
        watch(engine)
    return sent


@pytest.mark.parametrize("reader", ["follower", "leader"])
def test_a_thousand_reads_that_wait_together_cost_what_one_costs(reader: str) -> None:
    costs = []
    for count in (1, 1_000):
        cluster = settled_cluster("reads together")
        engine = engine_of(cluster, followers_of(cluster)[0] if reader == "follower" else leader_of(cluster))
        sent = counting(cluster)
        passed: list[ArtemisError | None] = []
        for _ in range(count):
            engine.barrier(2_000, passed.append)
        assert cluster.world.run_until_true(lambda n=count, p=passed: len(p) == n, within=2)  # type: ignore[misc]
        assert passed == [None] * count
        costs.append(sent)
    assert costs[0] == costs[1]
    assert sum(costs[0].values()) <= (6 if reader == "follower" else 4)


def messages_under(reads_per_second: int) -> int:
    """Sent for a second of that many reads on each node, all of which are answered."""
    cluster = settled_cluster("reads under load")
    sent = counting(cluster)
    answered: list[ArtemisError | None] = []
    until = cluster.world.now + 1.0

    def keep_reading(name: str) -> None:
        if cluster.world.now < until:
            engine_of(cluster, name).barrier(2_000, answered.append)
            cluster.world.after(1 / reads_per_second, lambda: keep_reading(name))

    for name in cluster.members:
        keep_reading(name)
    cluster.world.run_for(2.0)
    assert len(answered) > 0.9 * reads_per_second * len(cluster.members)
    assert all(error is None for error in answered)
    return sum(sent.values())


def test_under_load_what_is_sent_follows_round_trips_and_not_reads() -> None:
    light, heavy = messages_under(1_000), messages_under(12_000)
    assert heavy <= 1.2 * light
