"""The two sequences of the Java SDK on real nodes, with the leader killed in the middle
(``java-client-and-push.md`` 7.2, 7.3, 12.1)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.registry import REGION, ZONE
from tests.cluster.calls import Calls, eventually, everybody_lists_everybody
from tests.support.java_client import DiscoveryClient, JavaSettings, Observed, RegistryClient, java1, java2

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

TTL_S = 8.0
"""Shorter than usual, as everything the clients do is below. More than the window of their reconnect limiter: a client
whose five tries in a row met the dead node may do nothing for that long, and then loses its lease by its own rules."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    arguments = ["--default-ttl-ms", str(int(TTL_S * 1_000))]
    with Cluster(tmp_path_factory.mktemp("java"), arguments=arguments) as cluster:
        yield cluster


def hurried(settings: JavaSettings) -> JavaSettings:
    """Four times as fast in what takes seconds, thirty times in what takes minutes."""
    quick = replace(settings, check_s=0.25, heartbeat_s=1.25, instance_ttl_s=TTL_S, reconnects_window_s=5.0)
    return quick.hurried(30)


def generations() -> list[object]:
    return [
        pytest.param(hurried(java2(REGION, ZONE)), id="2.x"),
        pytest.param(hurried(java1(REGION, ZONE)), id="1.x"),
    ]


def instance(service: str, name: str) -> dict[str, Any]:
    number = next(_numbers) % 250
    return {
        "regionId": REGION,
        "zoneId": ZONE,
        "groupId": None,
        "serviceId": service,
        "instanceId": name,
        "machineName": f"host{number}",
        "ip": f"10.0.0.{number}",
        "port": 8080,
        "protocol": "http",
        "url": f"http://10.0.0.{number}:8080/",
        "healthCheckUrl": None,
        "status": "up",
        "metadata": {"appid": "1001"},
    }


@contextlib.asynccontextmanager
async def started(*clients: RegistryClient | DiscoveryClient) -> AsyncIterator[None]:
    for client in clients:
        await client.start()
    try:
        yield
    finally:
        for client in clients:
            await client.stop()


async def all_renewed_after(clients: list[RegistryClient], moment: float) -> None:
    async def attempt() -> None:
        late = [client.session.connected_to for client in clients if (client.last_renewed or 0.0) <= moment]
        seen = clients[0].observed
        assert not late, (
            f"clients without a renewal since, by their node: {late}; {seen.counts} {seen.codes} {seen.notes[:3]}"
        )

    await eventually(attempt, "every client has renewed all its instances")


async def cached(client: DiscoveryClient, service: str, ids: set[str]) -> None:
    async def attempt() -> None:
        assert client.ids(service) == ids

    await eventually(attempt, f"the cache of the discovery client holds {sorted(ids)}")


@pytest.mark.parametrize("settings", generations())
async def test_instances_outlive_the_leader_and_watchers_see_no_gap(
    cluster: Cluster, calls: Calls, service: str, settings: JavaSettings
) -> None:
    clock = asyncio.get_running_loop().time
    await everybody_lists_everybody(calls)
    seen, watched = Observed(), Observed()
    urls = [address.url for address in cluster.addresses.values()]
    owners = [RegistryClient(url, settings, seen, random.Random(at)) for at, url in enumerate(urls * 2)]
    watchers = [DiscoveryClient(url, settings, watched, random.Random(at)) for at, url in enumerate(urls)]
    async with started(*owners, *watchers):
        for watcher in watchers:
            assert await watcher.get_service(service) == []
        for number, owner in enumerate(owners):
            await owner.register(instance(service, f"a{number}"), instance(service, f"b{number}"))
        ids = {f"{letter}{number}" for letter in "ab" for number in range(len(owners))}
        for watcher in watchers:
            await cached(watcher, service, ids)
        await all_renewed_after(owners, clock())
        registered = seen.counts["registered over http"]
        leader = cluster.leader()
        cluster.kill(leader)
        # Longer than the lease, so that whoever lost it is gone.
        await all_renewed_after(owners, clock() + TTL_S)
        assert seen.counts["registered over http"] == registered, (seen.codes, seen.notes)
        survivor = next(node for node in cluster.ids if node != leader)
        assert await calls.ids(survivor, service) == ids
        for watcher in watchers:
            await cached(watcher, service, ids)
        assert not [event for watcher in watchers for event in watcher.events if event.change_type == "delete"]
        await owners[0].unregister(*owners[0].instances)
        for watcher in watchers:
            await cached(watcher, service, ids - {"a0", "b0"})
        cluster.restart(leader)
    assert watched.counts["push for nobody"] == 0


async def test_a_watcher_is_told_of_each_change_once_and_in_order(cluster: Cluster, service: str) -> None:
    settings = hurried(java2(REGION, ZONE))
    seen = Observed()
    owner = RegistryClient(cluster.addresses["n1"].url, settings, seen)
    watcher = DiscoveryClient(cluster.addresses["n2"].url, replace(settings, session_ttl_s=300.0), seen)
    async with started(owner, watcher):
        await watcher.get_service(service.upper())
        for one in ("x", "y"):
            await owner.register(instance(service, one))
            await cached(watcher, service, {"x", "y"} if one == "y" else {"x"})
        await owner.unregister(*owner.instances)
        await cached(watcher, service, set())
    told = [(event.change_type, event.instance_ids) for event in watcher.events if event.change_type != "reload"]
    assert told == [("new", ("x",)), ("new", ("x", "y")), ("delete", ("y",)), ("delete", ())]


async def test_a_process_that_ends_without_a_word_is_removed(cluster: Cluster, calls: Calls, service: str) -> None:
    settings = hurried(java2(REGION, ZONE))
    seen = Observed()
    stays, ends = (RegistryClient(address.url, settings, seen) for address in list(cluster.addresses.values())[:2])
    watcher = DiscoveryClient(cluster.addresses["n3"].url, settings, seen)
    async with started(watcher, stays):
        await watcher.get_service(service)
        async with started(ends):
            await stays.register(instance(service, "stays"))
            await ends.register(instance(service, "ends"))
            await cached(watcher, service, {"stays", "ends"})
        await cached(watcher, service, {"stays"})
        assert await calls.ids("n1", service) == {"stays"}


async def test_many_instances_of_one_process_are_answered_in_messages_it_can_take(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    settings = hurried(java2(REGION, ZONE))
    seen = Observed()
    owner = RegistryClient(cluster.addresses["n1"].url, settings, seen)
    async with started(owner):
        many = [instance(service, f"i{number}") for number in range(200)]
        await owner.register(*many)
        await all_renewed_after([owner], 0.0)
        assert await calls.ids("n2", service) == {one["instanceId"] for one in many}
    assert seen.counts["closed by the server"] == 0
    assert seen.counts["registered over http"] == 200
