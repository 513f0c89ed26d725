"""Nodes that were away know everything before they answer (C7, C8), and a rolling restart under load costs no client
anything (C9)."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from artemis.client import ArtemisError, AsyncArtemisClient, AsyncRegistration, Instance
from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Answer, Lost, NotSent
from jepsen_lite.registry import REGION, REGISTER, ZONE, evidence_of, instance, instances_body
from tests.cluster.calls import HOUR_MS, NODES, SERVICES, SETTLE_S, Calls, eventually, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

SERVICES_COUNT = 2000
PLACE = orjson.dumps({"regionId": REGION, "zoneId": ZONE})


async def first_successes(calls: Calls, node: str, path: str, body: bytes) -> list[Answer]:
    """Ask a node that starts until it has answered at each level. Before that it may only be silent or refuse."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    found: list[Answer] = []
    for level in ("stale", "linearizable"):
        while True:
            try:
                answer = await calls.request(node, "POST", path, body, {"x-artemis-consistency": level})
            except (NotSent, Lost):
                answer = None
            code = None if answer is None else evidence_of(answer).code
            if answer is not None and code == "success":
                found.append(answer)
                break
            assert code in (None, "service-unavailable"), f"{node} answered {answer}"
            assert asyncio.get_running_loop().time() < deadline, f"{node} answers no {level} read"
            await asyncio.sleep(0.005)
    return found


async def test_c7_a_node_that_was_down_has_what_it_missed_in_its_first_answer(
    calls: Calls, cluster: Cluster, service: str
) -> None:
    leader = cluster.leader()
    victim = next(node for node in reversed(NODES) if node != leader)
    cluster.kill(victim)

    async def noticed() -> None:
        text = await asyncio.to_thread(cluster.text, leader, "/metrics")
        assert f'artemis_raft_peer_connected{{peer="{victim}"}} 0.0' in text

    await eventually(noticed, f"{leader} has noticed that {victim} is gone")
    writer = next(node for node in NODES if node != victim)
    succeeded(await calls.register(writer, service, ["x"]))
    cluster.restart(victim)
    lookup = orjson.dumps({"discoveryConfig": {"serviceId": service}, "regionId": REGION, "zoneId": ZONE})
    for answer in await first_successes(calls, victim, "/artemis/api/discovery/service.json", lookup):
        instances = orjson.loads(answer.body)["service"]["instances"]
        assert [item["instanceId"] for item in instances or []] == ["x"], answer.body[:300]


async def test_c8_a_killed_node_answers_with_the_whole_registry_or_not_at_all(
    calls: Calls, cluster: Cluster, service: str
) -> None:
    wanted = {f"{service}-{number}" for number in range(SERVICES_COUNT)}
    names = sorted(wanted)
    for start in range(0, SERVICES_COUNT, 500):
        items = [instance(name, "i", ttl_ms=HOUR_MS) for name in names[start : start + 500]]
        succeeded(await calls.request("n2", "POST", REGISTER, instances_body(items)))
    for victim in (cluster.leader(), cluster.followers()[0]):
        cluster.kill(victim)
        cluster.restart(victim)
        for answer in await first_successes(calls, victim, SERVICES, PLACE):
            found = {item["serviceId"] for item in orjson.loads(answer.body)["services"]}
            assert wanted <= found, f"{victim} lacks {len(wanted - found)} of {len(wanted)} services"
        await asyncio.to_thread(cluster.wait_ready)


class Load:
    """Clients of the Python SDK, which repeat what fails on another node, and what they could not get done."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self.nodes = [address.url for address in cluster.addresses.values()]
        self.held = {f"{service}-held-{number}" for number in range(50)}
        self.calls = 0
        self.failures: list[str] = []
        self.lost: list[str] = []
        self.stopped = False
        self._service = service

    async def hold(self, client: AsyncArtemisClient) -> None:
        """Register the 50 instances; ``client`` renews them from then on."""

        def lost(registration: AsyncRegistration) -> None:
            self.lost.append(registration.instance.instance_id)

        for one in sorted(self.held):
            await client.register(self._instance(one), ttl_ms=4000, on_lease_lost=lost)

    async def work(self, name: int) -> None:
        """Look up, register and unregister until told to stop. Nothing but success is expected."""
        async with AsyncArtemisClient(self.nodes) as client:
            while not self.stopped:
                try:
                    await self._once(client, f"{self._service}-{name}-{self.calls}")
                except ArtemisError as exc:
                    self.failures.append(repr(exc))

    async def _once(self, client: AsyncArtemisClient, one: str) -> None:
        found = await self._found(client)
        assert found >= self.held, f"missing: {sorted(self.held - found)}"
        registration = await client.register(self._instance(one), ttl_ms=HOUR_MS)
        assert one in await self._found(client)
        await registration.unregister()
        assert one not in await self._found(client)
        self.calls += 5

    async def _found(self, client: AsyncArtemisClient) -> set[str]:
        return {one.instance_id for one in (await client.lookup(self._service)).instances}

    def _instance(self, one: str) -> Instance:
        url = f"http://10.0.0.1:8090/{one}"
        return Instance(service_id=self._service, instance_id=one, region_id=REGION, zone_id=ZONE, url=url)

    async def more(self, count: int) -> None:
        """Wait until ``count`` more calls have succeeded."""
        wanted = self.calls + count

        async def done() -> None:
            assert self.calls >= wanted

        await eventually(done, f"{count} more calls")


async def test_c9_a_rolling_restart_fails_no_request_and_loses_no_lease(
    calls: Calls, cluster: Cluster, service: str
) -> None:
    load = Load(cluster, service)
    async with AsyncArtemisClient(load.nodes) as holder:
        await load.hold(holder)
        async with asyncio.TaskGroup() as tasks:
            for name in range(4):
                tasks.create_task(load.work(name))
            try:
                for node in NODES:
                    assert await asyncio.to_thread(cluster.nodes[node].terminate, 15.0) == 0
                    await load.more(50)
                    cluster.restart(node)
                    await asyncio.to_thread(cluster.wait_ready)
                    assert load.held <= await calls.ids(node, service)
                    await load.more(50)
            finally:
                load.stopped = True
        assert not load.failures, f"{len(load.failures)} of {load.calls} failed: {load.failures[:3]}"
        assert not load.lost
        for node in NODES:
            assert await calls.ids(node, service) == load.held
