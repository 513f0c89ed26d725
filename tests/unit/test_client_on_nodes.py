"""The client against the real application and state machine, on an in-memory log: both sides mean the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from artemis.api.app import create_app
from artemis.api.settings import HttpSettings
from artemis.client import (
    AsyncArtemisClient,
    Instance,
    InvalidInput,
    RetryPolicy,
    Unavailable,
    WatchBookmark,
    WatchChanges,
    WatchState,
)
from artemis.client.aio import AsyncRuntime
from artemis.model import key_of
from tests.support.loopback import LoopbackCluster

ORDERS = Instance(
    service_id="Orders",
    instance_id="orders-1",
    region_id="lab",
    zone_id="zone1",
    group_id="g1",
    machine_name="host-a",
    ip="10.0.0.7",
    port=8080,
    protocol="http",
    url="http://10.0.0.7:8080/",
    health_check_url="http://10.0.0.7:8080/health",
    status="up",
    metadata={"Weight": "5", "empty": None},
)
DEADLINE_S = 10.0
SEED = 0
"""Draws n1 as the first node (the scenarios that need it assert it)."""


class ByHost(httpx.AsyncBaseTransport):
    """Leads ``http://n1.test:8080`` to the application of n1. Hosts in ``refusing`` do not listen."""

    def __init__(self, cluster: LoopbackCluster, settings: HttpSettings | None = None) -> None:
        settings = settings or HttpSettings()
        self.asked: list[str] = []
        self.refusing: set[str] = set()
        self._apps = {
            f"{node_id}.test": httpx.ASGITransport(app=create_app(node, settings, now_ms=lambda: 0))
            for node_id, node in cluster.nodes.items()
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        if request.url.host in self.refusing:
            raise httpx.ConnectError("Connection refused", request=request)
        return await self._apps[request.url.host].handle_async_request(request)


Scenario = Callable[[AsyncArtemisClient, LoopbackCluster, ByHost], Awaitable[None]]


def play(scenario: Scenario, settings: HttpSettings | None = None) -> None:
    """Three nodes; the client goes first to n1."""

    async def run() -> None:
        cluster = LoopbackCluster("n1", "n2", "n3")
        hosts = ByHost(cluster, settings)
        async with AsyncArtemisClient(
            ["http://n1.test:8080", "http://n2.test:8080", "http://n3.test:8080"],
            transport=hosts,
            policy=RetryPolicy(backoff_base_s=0.001, backoff_max_s=0.001, attempts_max=4),
            runtime=AsyncRuntime(seed=SEED),
        ) as client:
            await scenario(client, cluster, hosts)

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


def test_nodes_that_allow_little_time_are_asked_for_little() -> None:
    """Their operator may set ``request_timeout_ms_max`` and ``watch_wait_ms_max`` to anything."""

    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        registration = await client.register(ORDERS)
        asked = len(hosts.asked)
        assert (await client.lookup("orders")).instances == (ORDERS,)
        assert len(hosts.asked) == asked + 1, "learned once"
        events = client.watch("orders")
        assert [type(await anext(events)) for _ in range(2)] == [WatchState, WatchBookmark]
        await registration.unregister()
        assert isinstance(await anext(events), WatchChanges)

    play(scenario, HttpSettings(request_timeout_ms=100, request_timeout_ms_max=100, watch_wait_ms_max=50))


def test_an_instance_comes_back_with_every_field_from_each_node() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        registration = await client.register(ORDERS, ttl_ms=45_000)
        for away in ({"n2.test", "n3.test"}, {"n1.test", "n3.test"}, {"n1.test", "n2.test"}):
            hosts.refusing = away
            found = await client.lookup("orders")
            assert found.instances == (ORDERS,)
            assert (found.consistency, found.revision) == ("linearizable", 1)
        hosts.refusing = set()
        listed = await client.services()
        assert [service.instances for service in listed] == [(ORDERS,)]
        await registration.unregister()
        assert (await client.lookup("Orders")).instances == ()

    play(scenario)


def test_members_are_those_of_the_cluster() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        found = {(member.url, member.region_id, member.zone_id) for member in await client.members()}
        assert found == {
            ("http://n1.test:8080", "lab", "zone1"),
            ("http://n2.test:8080", "lab", "zone2"),
            ("http://n3.test:8080", "lab", "zone2"),
        }

    play(scenario)


def test_a_lost_answer_is_repeated_on_another_node_and_applied_once() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        cluster["n1"].loses_answers = 1
        await client.register(ORDERS)
        assert len(hosts.asked) == 2
        assert hosts.asked[0] == "n1.test"
        assert cluster["n2"].registry.revision == 1

    play(scenario)


def test_without_a_leader_writes_fail_definitely_and_stale_reads_work() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        registration = await client.register(ORDERS)
        cluster.leader_id = None
        with pytest.raises(Unavailable) as caught:
            await client.register(ORDERS)
        assert caught.value.definite
        with pytest.raises(Unavailable):
            await client.lookup("orders")
        stale = await client.lookup("orders", consistency="stale")
        assert stale.consistency == "stale"
        assert stale.instances == (ORDERS,)
        cluster.leader_id = "n2"
        await registration.unregister()

    play(scenario)


def test_a_write_that_may_have_left_its_node_is_not_definite() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        for node in cluster.nodes.values():
            node.cut_off = True
        with pytest.raises(Unavailable) as caught:
            await client.register(ORDERS)
        assert not caught.value.definite
        for node in cluster.nodes.values():
            node.cut_off = False

    play(scenario)


def test_a_session_read_waits_on_a_lagging_node_for_the_clients_own_write() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        cluster["n2"].follows = cluster["n3"].follows = False
        await client.register(ORDERS)
        assert hosts.asked == ["n1.test"]
        hosts.refusing = {"n1.test"}
        found = await client.lookup("orders", consistency="session")
        assert found.node != "n1"
        assert found.instances == (ORDERS,)
        hosts.refusing = set()

    play(scenario)


def test_faults_name_their_field() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        with pytest.raises(InvalidInput) as caught:
            await client.register(ORDERS, ttl_ms=1)
        assert caught.value.field == "instance.leaseTtlMs"
        assert caught.value.definite
        assert cluster["n1"].registry.revision == 0

    play(scenario)


def test_an_evicted_instance_is_registered_again() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        back = asyncio.Event()
        registration = await client.register(ORDERS, ttl_ms=1_000, on_reregistered=lambda _: back.set())
        cluster.advance(60_000)
        assert cluster["n1"].registry.find(key_of(ORDERS)) is None
        await back.wait()
        assert registration.state == "active"
        assert cluster["n3"].registry.find(key_of(ORDERS)) is not None

    play(scenario)
