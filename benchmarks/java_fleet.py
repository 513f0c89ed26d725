"""A fleet of Java-like clients on a local cluster, and a witness who reads every change of the registry."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Answer, Connection, Lost, NotSent
from jepsen_lite.registry import REGION, ZONE
from tests.support.java_client import Observed, RegistryClient, java2

Json = dict[str, Any]
Key = tuple[str, str]

SERVICES = 200
POLL_S = 1.0
ANSWER_S = 10.0
STARTS_AT_A_TIME = 20


def instance(client: int, number: int) -> Json:
    """Of the size that such instances have: about 400 bytes."""
    ip = f"10.{client // 250}.{client % 250}.{number}"
    return {
        "regionId": REGION,
        "zoneId": ZONE,
        "groupId": None,
        "serviceId": f"service-{(client + number) % SERVICES}",
        "instanceId": f"client-{client}-{number}",
        "machineName": f"host-{client}",
        "ip": ip,
        "port": 8080,
        "protocol": "http",
        "url": f"http://{ip}:8080/service",
        "healthCheckUrl": f"http://{ip}:8080/health",
        "status": "up",
        "metadata": {"appid": "10001", "subenv": "fat1"},
    }


class Fleet:
    """``clients`` processes as they would be elsewhere, each with its own list of nodes, WebSocket and connections."""

    def __init__(self, cluster: Cluster, clients: int, instances: int) -> None:
        self.observed = Observed()
        urls = itertools.cycle(address.url for address in cluster.addresses.values())
        self._instances = {
            number: [instance(number, one) for one in range(instances)] for number in range(1, clients + 1)
        }
        self.clients = {
            number: RegistryClient(next(urls), java2(REGION, ZONE), self.observed, random.Random(number))
            for number in self._instances
        }
        self.owners: dict[Key, RegistryClient] = {
            (one["serviceId"], one["instanceId"]): self.clients[number]
            for number, listed in self._instances.items()
            for one in listed
        }

    async def start(self, ramp_s: float) -> None:
        """Start all over ``ramp_s``, so that their beats are spread as they are in life."""
        places = asyncio.Semaphore(STARTS_AT_A_TIME)

        async def one(number: int, client: RegistryClient, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            async with places:
                await client.start()
                await client.register(*self._instances[number])

        async with asyncio.TaskGroup() as tasks:
            for at, (number, client) in enumerate(self.clients.items()):
                tasks.create_task(one(number, client, ramp_s * at / len(self.clients)))

    async def stop(self) -> None:
        for client in self.clients.values():
            await client.stop()

    def unrenewed_since(self, moment: float) -> list[int]:
        """Clients that have had no renewal of all their instances acknowledged since then."""
        return [number for number, client in self.clients.items() if (client.last_renewed or 0.0) < moment]


@dataclass(slots=True)
class Witness:
    """Follows the deltas of the cluster, a node at a time, from the moment it starts."""

    cluster: Cluster
    fleet: Fleet
    ttl_s: float
    version: int = 0
    lost: list[str] = field(default_factory=list)
    """Instances that were removed although their owner had a renewal acknowledged within the TTL."""
    silent: list[str] = field(default_factory=list)
    """Instances that were removed because nothing came from their owner for as long as the TTL."""
    unanswered_polls: int = 0
    _connections: dict[str, Connection] = field(default_factory=dict)

    async def start(self) -> None:
        answer = await self._any_node("services", {"regionId": REGION, "zoneId": ZONE})
        self.version = int(answer["version"])

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """One delta: every change since the last, from whichever node answers."""
        try:
            answer = await self._any_node("services-delta", {"version": self.version})
        except BenchmarkError:
            self.unanswered_polls += 1
            return
        now = time.monotonic()
        self.version = int(answer["version"])
        for changes in answer["delta"].values():
            for change in changes:
                if change["changeType"] == "delete":
                    self._removed(change["instance"], now)

    def _removed(self, removed: Json, now: float) -> None:
        owner = self.fleet.owners[removed["serviceId"], removed["instanceId"]]
        age_s = now - (owner.last_renewal_sent or 0.0)
        record = self.lost if age_s < self.ttl_s else self.silent
        record.append(f"{removed['instanceId']}: removed at most {age_s:.1f} s after the start of its last renewal")

    async def listed(self, node: str) -> set[Key]:
        """A linearizable listing by one node. Raises ``BenchmarkError``."""
        answer = await self._ask(node, "services", {"regionId": REGION, "zoneId": ZONE})
        if answer is None:
            raise BenchmarkError(f"{node} does not list its services")
        return {(one["serviceId"], one["instanceId"]) for service in answer["services"] for one in service["instances"]}

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.aclose()

    async def _any_node(self, operation: str, body: Json) -> Json:
        for node in self.cluster.running():
            answer = await self._ask(node, operation, body)
            if answer is not None:
                return answer
        raise BenchmarkError(f"no node answers {operation}")

    async def _ask(self, node: str, operation: str, body: Json) -> Json | None:
        connection = self._connections.setdefault(node, Connection(HOST, self.cluster.addresses[node].http_port))
        path = f"/artemis/api/discovery/{operation}.json"
        try:
            answer: Answer = await connection.request("POST", path, orjson.dumps(body), timeout_s=ANSWER_S)
        except (NotSent, Lost):
            return None
        content: Json = orjson.loads(answer.body)
        return content if answer.status == 200 and content["responseStatus"]["status"] == "success" else None


async def within(limit_s: float, what: str, condition: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until the condition held. Raises ``BenchmarkError``."""
    clock = time.monotonic
    began = clock()
    while not await condition():
        if clock() - began > limit_s:
            raise BenchmarkError(f"not within {limit_s:g} s: {what}")
        await asyncio.sleep(0.1)
    return clock() - began
