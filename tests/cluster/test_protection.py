"""Mass silence on real processes: held, said, over a change of leader, and over in the end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from jepsen_lite.cluster import Cluster
from tests.cluster.calls import NODES, Calls, calls_on, eventually, revision, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

HOLD_S = 8.0
TTL_S = 1.0
STAMP_ERROR_S = 0.2
SIZE = 60
HEADER = "x-artemis-protection"


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every member is set alike; whichever starts last tells the cluster."""
    with Cluster(
        tmp_path_factory.mktemp("cluster"),
        arguments=["--protection-hold-ms", f"{HOLD_S * 1000:.0f}", "--protection-window-ms", "1000"],
    ) as cluster:
        yield cluster


@pytest.fixture
async def calls(cluster: Cluster) -> AsyncIterator[Calls]:
    async with calls_on(cluster) as calls:
        yield calls


async def said(calls: Calls, node: str) -> str | None:
    return (await calls.lookup(node, "mass")).headers.get(HEADER)


async def metric(calls: Calls, node: str, name: str) -> float:
    text = (await calls.request(node, "GET", "/metrics")).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_mass_silence_is_held_over_a_change_of_leader_and_ends_by_itself(cluster: Cluster, calls: Calls) -> None:
    names = [f"m{number}" for number in range(SIZE)]

    async def as_set() -> None:
        assert await metric(calls, "n1", "artemis_protection_enabled") == 1

    await eventually(as_set, "the cluster has its settings")
    succeeded(await calls.register("n1", "alone", ["a1"], ttl_ms=int(TTL_S * 1000)))
    registered_at = time.monotonic()
    succeeded(await calls.register("n2", "mass", names, ttl_ms=int(TTL_S * 1000)))

    async def protected_everywhere() -> None:
        for node in NODES:
            assert await said(calls, node) == "services"
            assert await metric(calls, node, "artemis_protection_held_leases") == SIZE

    await eventually(protected_everywhere, "every node says so")
    assert await calls.ids("n3", "alone") == set(), "who dies alone is gone meanwhile"
    assert await calls.ids("n3", "mass") == set(names)

    leader = (await calls.lookup("n1", "mass")).headers["x-artemis-leader"]
    cluster.kill(leader)
    survivors = [node for node in NODES if node != leader]
    assert await calls.eventual_ids(survivors[0], "mass") == set(names)
    succeeded(await calls.heartbeat(survivors[0], "mass", names[:5]))
    succeeded(await calls.unregister(survivors[1], "mass", names[5:10]))
    assert await calls.ids(survivors[1], "mass") == set(names) - set(names[5:10])
    cluster.restart(leader)

    async def gone() -> float:
        assert await calls.ids(survivors[0], "mass") == set()
        return time.monotonic() - registered_at

    took = await eventually(gone, "what is silent ends")
    assert took >= TTL_S + HOLD_S + STAMP_ERROR_S - 0.05
    cluster.wait_ready()

    async def over() -> None:
        answers = [await calls.lookup(node, "mass") for node in NODES]
        assert {answer.headers.get(HEADER) for answer in answers} == {None}
        assert len({revision(answer) for answer in answers}) == 1

    await eventually(over, "no node is protected any more")
