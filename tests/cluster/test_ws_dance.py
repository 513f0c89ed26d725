"""How Java clients register and stay registered, on real nodes (``java-client-and-push.md`` 7.2, 13): unregister over
HTTP, a heartbeat over WebSocket answered ``data-not-found`` with the instance, register over HTTP what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Connection, Lost, NotSent
from jepsen_lite.proxy import ProxiedCluster
from jepsen_lite.registry import REGISTER, UNREGISTER, instance, instances_body
from tests.cluster.calls import Calls, eventually, succeeded
from tests.support.sockets import CHANGES, HEARTBEAT, Talk, talking

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

NODES = ("n1", "n2", "n3")
TTL_MS = 5_000
BEAT_S = 0.5
OLD_CLIENT_S = 0.1
"""What a Java 1.x client waits for an answer."""
OLD_CLIENT_TRIES = 5
ANSWER_S = 10.0


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ProxiedCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        assert "Traceback" not in process.log_path.read_text(errors="replace"), f"{node} logged a traceback"


@asynccontextmanager
async def beating(cluster: Cluster, node: str) -> AsyncIterator[Talk]:
    async with talking(cluster.addresses[node].http_port, HEARTBEAT) as talk:
        yield talk


def heartbeat(service: str, *ids: str) -> dict[str, Any]:
    return {"instances": [instance(service, one, ttl_ms=TTL_MS) for one in ids]}


def code_of(answer: dict[str, Any]) -> str:
    code: str = answer["responseStatus"]["errorCode"]
    return code


def missing_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The instances to be registered, as the answer echoes them."""
    failed = answer["failedInstances"] or []
    return [one["instance"] for one in failed if one["errorCode"] in ("data-not-found", "unknown")]


async def test_the_dance_with_each_step_on_another_node(cluster: Cluster, calls: Calls, service: str) -> None:
    for number, (one, two, three) in enumerate(permutations(NODES)):
        name = f"{service}-{number}"
        succeeded(await calls.unregister(one, name, ["i1", "i2"]))
        async with beating(cluster, two) as talk:
            answer = await talk.ask(heartbeat(name, "i1", "i2"))
            assert code_of(answer) == "partial_fail"
            echoed = missing_in(answer)
            assert [{**one, "leaseTtlMs": TTL_MS} for one in echoed] == heartbeat(name, "i1", "i2")["instances"]
            succeeded(await calls.request(three, "POST", REGISTER, instances_body(echoed)))
            answer = await talk.ask(heartbeat(name, "i1", "i2"))
            assert (code_of(answer), answer["failedInstances"]) == ("success", None)
        assert await calls.ids(one, name) == {"i1", "i2"}


async def test_a_heartbeat_of_two_hundred_instances_is_danced_in_messages_of_eight_kilobytes(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    """A longer message would close the connection here as it does in Java."""
    ids = [f"i{number}" for number in range(200)]
    async with beating(cluster, "n1") as talk:
        await talk.say(heartbeat(service, *ids))
        registered = 0
        while registered < len(ids):
            echoed = missing_in(await talk.hear())
            succeeded(await calls.request("n2", "POST", REGISTER, instances_body(echoed)))
            registered += len(echoed)
        assert code_of(await talk.ask(heartbeat(service, *ids))) == "success"


@dataclass
class OldClient:
    """A Java 1.x registry client with one instance: 100 ms for an answer over HTTP, then another node."""

    cluster: Cluster
    service: str
    id: str
    nodes: list[str]
    lost: list[str] = field(default_factory=list)
    """Answers that called the instance unknown after it had been registered."""
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    renewed: int = 0

    async def live(self) -> None:
        """Register and beat until cancelled."""
        item = instance(self.service, self.id, ttl_ms=TTL_MS)
        await self._post(UNREGISTER, [item])
        turn = 0
        while True:
            node = self.nodes[turn % len(self.nodes)]
            turn += 1
            try:
                async with beating(self.cluster, node) as talk:
                    await self._beat(talk, item)
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                await asyncio.sleep(0.1)

    async def _beat(self, talk: Talk, item: dict[str, object]) -> None:
        while True:
            await talk.say({"instances": [item]})
            async with asyncio.timeout(ANSWER_S):
                answer = await talk.hear()
            if code_of(answer) in ("service-unavailable", "internal-service-error"):
                return
            echoed = missing_in(answer)
            if echoed:
                if self.registered.is_set():
                    self.lost.append(f"{self.id}: {answer}")
                await self._post(REGISTER, [{**one, "leaseTtlMs": TTL_MS} for one in echoed])
            else:
                assert code_of(answer) == "success", answer
                self.registered.set()
                self.renewed += 1
            await asyncio.sleep(BEAT_S)

    async def _post(self, path: str, items: list[dict[str, Any]]) -> None:
        """As the Java client does: five tries on any node, and what fails is left to the next heartbeat."""
        for number in range(OLD_CLIENT_TRIES):
            node = self.nodes[number % len(self.nodes)]
            connection = Connection("127.0.0.1", self.cluster.addresses[node].http_port)
            try:
                answer = await connection.request("POST", path, instances_body(items), None, timeout_s=OLD_CLIENT_S)
                if answer.status == 200 and b"service-unavailable" not in answer.body:
                    return
            except (NotSent, Lost):
                pass
            finally:
                await connection.aclose()
            await asyncio.sleep(0.1)


async def test_old_clients_register_and_stay_through_kills_of_the_leader(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    """Those that live lose nothing, and those that come in the middle of an election get in."""
    victim = cluster.leader()
    rest = [node for node in NODES if node != victim]
    orders = [rest, rest[::-1]] * 2
    early = [OldClient(cluster, service, f"early{number}", order) for number, order in enumerate(orders)]
    late = [OldClient(cluster, service, f"late{number}", order) for number, order in enumerate(orders)]
    async with asyncio.timeout(60):
        lives = [asyncio.ensure_future(client.live()) for client in early]
        try:
            await asyncio.gather(*(client.registered.wait() for client in early))
            cluster.kill(victim)
            lives += [asyncio.ensure_future(client.live()) for client in late]
            await asyncio.gather(*(client.registered.wait() for client in late))
            before = [client.renewed for client in early]
            await until_each(early, before)
            await asyncio.to_thread(cluster.heal)
            assert await calls.ids(victim, service) == {client.id for client in early + late}
        finally:
            for life in lives:
                life.cancel()
            ends = await asyncio.gather(*lives, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []
    assert [line for client in early + late for line in client.lost] == []


async def until_each(clients: list[OldClient], before: list[int]) -> None:
    """Until each has been renewed twice more than it was: one answer may have been on its way."""

    async def check() -> None:
        assert all(client.renewed >= count + 2 for client, count in zip(clients, before, strict=True))

    await eventually(check, "everybody is renewed")


async def test_a_node_without_a_majority_calls_nobody_unknown_and_sends_listeners_away(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    assert isinstance(cluster, ProxiedCluster)
    alone = cluster.leader()
    other = next(node for node in NODES if node != alone)
    succeeded(await calls.register(other, service, ["i1"]))
    async with beating(cluster, alone) as talk:
        assert code_of(await talk.ask(heartbeat(service, "i1"))) == "success"
        async with talking(cluster.addresses[alone].http_port, CHANGES) as listener:
            await listener.subscribe(service)
            cluster.proxies.isolate(alone)
            answer = await talk.ask(heartbeat(service, "i1", "i2"))
            assert (code_of(answer), answer["failedInstances"]) == ("service-unavailable", None)
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(20):
                    await listener.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        with pytest.raises(InvalidHandshake):
            async with talking(cluster.addresses[alone].http_port, CHANGES):
                pass
        await asyncio.to_thread(cluster.heal)
        assert code_of(await talk.ask(heartbeat(service, "i1"))) == "success"
