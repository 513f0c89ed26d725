"""Links that are cut and nodes that are stopped (C12 to C15, C28): the nodes reach each other through proxies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.proxy import ProxiedCluster, SeverableCluster
from jepsen_lite.registry import (
    Consistency,
    evidence_of,
    instances_in,
)
from tests.cluster.calls import Calls, eventually, revision, succeeded
from tests.cluster.living import Living

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

NODES = ("n1", "n2", "n3")
REFUSAL_S = 2.0 + 0.5
"""A node without a majority answers within 2 s; the rest is for this process on a busy machine."""
TTL_S = 2.0
BEAT_S = 0.4


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ProxiedCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        assert "Traceback" not in process.log_path.read_text(errors="replace"), f"{node} logged a traceback"


@pytest.fixture
def severable(cluster: Cluster) -> SeverableCluster:
    assert isinstance(cluster, SeverableCluster)
    return cluster


def node_of(cluster: Cluster, role: str) -> str:
    leader = cluster.leader()
    return leader if role == "leader" else next(node for node in NODES if node != leader)


async def value(calls: Calls, node: str, service: str, level: Consistency = "linearizable") -> str:
    answer = await calls.lookup(node, service, level)
    found = instances_in(answer)
    assert found, f"{node} answered {answer.status} {answer.body[:300]!r}"
    metadata = found[0]["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["v"])


async def until_not_ready(cluster: Cluster, node: str) -> None:
    async def check() -> None:
        answer = await asyncio.to_thread(cluster.probe, node, "GET", "/readyz")
        assert answer is not None
        assert answer[0] == 503

    await eventually(check, f"{node} is not ready")


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_c12_only_the_side_with_a_majority_writes(
    calls: Calls, severable: SeverableCluster, service: str, role: str
) -> None:
    alone = node_of(severable, role)
    other, third = (node for node in NODES if node != alone)
    before = succeeded(await calls.register(alone, service, ["k"], {"v": "0"}))
    assert {await value(calls, node, service) for node in NODES} == {"0"}
    severable.links.isolate(alone)

    started = time.monotonic()
    refused, read = await asyncio.gather(
        calls.register(alone, service, ["k"], {"v": "A"}), calls.lookup(alone, service)
    )
    assert time.monotonic() - started < REFUSAL_S
    assert evidence_of(refused).code == "service-unavailable", refused.body[:300]
    assert evidence_of(refused).outcome in ("not-applied", "unknown")
    assert evidence_of(read).code == "service-unavailable", read.body[:300]

    async def write_b() -> None:
        succeeded(await calls.register(other, service, ["k"], {"v": "B"}))

    await eventually(write_b, "the majority accepts a write")
    assert await value(calls, third, service) == "B"
    await until_not_ready(severable, alone)
    assert evidence_of(await calls.lookup(alone, service)).code == "service-unavailable"
    stale = await calls.lookup(alone, service, "stale")
    if evidence_of(stale).code != "service-unavailable":
        assert await value(calls, alone, service, "stale") == "0"
        assert revision(stale) >= revision(before)

    await asyncio.to_thread(severable.heal)
    assert {await value(calls, node, service) for node in NODES} == {"B"}
    succeeded(await calls.register(alone, service, ["after"], {"v": "C"}))
    assert {await value(calls, node, service) for node in NODES} == {"B"}


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_c13_a_stopped_node_does_not_hold_up_the_others(
    calls: Calls, cluster: Cluster, service: str, role: str
) -> None:
    stopped = node_of(cluster, role)
    writer, reader = (node for node in NODES if node != stopped)
    cluster.pause(stopped)

    async def first() -> None:
        succeeded(await calls.register(writer, service, ["i0"]))

    await eventually(first, "the others have a leader")
    took: list[float] = []
    for number in range(1, 100):
        started = time.monotonic()
        succeeded(await calls.register(writer, service, [f"i{number}"]))
        took.append(time.monotonic() - started)
    wanted = {f"i{number}" for number in range(100)}
    assert await calls.ids(reader, service) == wanted
    assert sorted(took)[97] < 1.0, "a commit waited for the stopped node"
    cluster.resume(stopped)
    assert await calls.eventual_ids(stopped, service) == wanted


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_c14_a_stopped_node_ends_no_living_lease(calls: Calls, cluster: Cluster, service: str, role: str) -> None:
    stopped = node_of(cluster, role)
    others = tuple(node for node in NODES if node != stopped)
    leases = Living(cluster, service, others, TTL_S)
    await leases.register(calls)
    async with leases.beating():
        await calls.ids(others[0], service)
        cluster.pause(stopped)
        await leases.outlive(calls, others, 2 * TTL_S)
        cluster.resume(stopped)
        assert await calls.eventual_ids(stopped, service) == set(leases.ids)
        await leases.outlive(calls, others, 0.5)
    assert await calls.ids(stopped, service) == set(leases.ids)


@pytest.mark.parametrize("blocked", ["from the leader", "to the leader"])
async def test_c15_loss_in_one_direction_ends_no_lease(
    calls: Calls, severable: SeverableCluster, service: str, blocked: str
) -> None:
    """The client starts every round at the node behind the bad direction."""
    leader = severable.leader()
    follower, third = (node for node in NODES if node != leader)
    # An attempt at the follower takes its whole time budget before the next node is asked: more than half of TTL_S.
    leases = Living(severable, service, (follower, third, leader), 2 * TTL_S)
    await leases.register(calls)
    async with leases.beating():
        severable.links.cut(*((leader, follower) if blocked == "from the leader" else (follower, leader)))
        await leases.outlive(calls, (third, leader), 3 * TTL_S)
        await asyncio.to_thread(severable.heal)
        assert await calls.eventual_ids(follower, service) == set(leases.ids)


async def test_c28_a_node_without_contact_to_a_leader_is_not_ready(
    calls: Calls, severable: SeverableCluster, service: str
) -> None:
    node = node_of(severable, "follower")
    severable.links.isolate(node)
    await until_not_ready(severable, node)
    report = await calls.request(node, "GET", "/readyz?verbose")
    assert b"[-]leader known" in report.body
    assert (await calls.request(node, "GET", "/health")).body == b"OK"
    assert all(severable.is_ready(other) for other in NODES if other != node)
    await asyncio.to_thread(severable.heal)
    assert severable.is_ready(node)
