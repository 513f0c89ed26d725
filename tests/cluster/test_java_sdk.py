"""The Java SDK 2.0.1 as published, unmodified, on real nodes (``java-client-and-push.md`` 5, 7, 12.1)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Lost, NotSent
from jepsen_lite.registry import REGION, ZONE, instances_in
from jepsen_lite.registry import instance as wire_instance
from tests.cluster.calls import SETTLE_S, Calls, eventually, everybody_lists_everybody, succeeded
from tests.support.java_sdk import Sdk, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.anyio]

TTL_S = 6.0
HURRIED = {
    "instance-registry.heartbeat-interval": 1_000,
    "instance-registry.instance-ttl": 6_000,
    "websocket-session.health-check.dynamic-scheduled-thread.run-interval": 250,
    # It picks any node again, the dead one too: five tries, its default, all go there once in 243 times.
    "websocket-session.reconnect-times.rate-limiter.default-rate-limit": 60,
}
"""As often as the SDK lets itself be set; its defaults are 5 s, 20 s, 1 s and 5 in 20 s."""
EXPECTED_ALARMS = (
    "org.mydotey.scf.source.stringproperty.propertiesfile.PropertiesFileConfigurationSource - file not found",
    # Its watchdog begins as if it had never beaten.
    "org.mydotey.artemis.client.registry.InstanceRegistry - heartbeat interval time is more than",
    # Where the machine is slow: it asks for the connection that it is just making.
    "org.mydotey.artemis.client.websocket.WebSocketSessionContext - WebSocketSession is not available now",
)


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory, class_path: str) -> Iterator[Cluster]:
    """After ``class_path``, which may skip."""
    arguments = ["--default-ttl-ms", str(int(TTL_S * 1_000))]
    with Cluster(tmp_path_factory.mktemp("java-sdk"), arguments=arguments) as cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        assert "Traceback" not in process.log_path.read_text(errors="replace"), f"{node} logged a traceback"


@contextlib.asynccontextmanager
async def sdk(cluster: Cluster, class_path: str, name: str) -> AsyncIterator[Sdk]:
    """A JVM with one client, ``name``, that was given the address of the first node."""
    one = Sdk(cluster.directory / f"{name}.log")
    async with one.running(class_path, REGION, ZONE):
        await one.open(name, cluster.addresses["n1"].url, HURRIED)
        yield one


def instance(service: str, name: str) -> dict[str, Any]:
    return wire_instance(service, name, {"appid": "100001", "build": "2020-12-20", "team": "framework"})


async def on_every_node(calls: Calls, cluster: Cluster, service: str, ids: set[str]) -> None:
    async def attempt() -> None:
        for node in cluster.running():
            assert await calls.ids(node, service) == ids

    await eventually(attempt, f"{service} has {len(ids)} instances on every node")


async def cached(watcher: Sdk, service: str, ids: set[str]) -> None:
    async def attempt() -> None:
        assert await watcher.service("watcher", service) == ids

    await eventually(attempt, f"the cache of the SDK holds {sorted(ids)}")


async def always_there(calls: Calls, cluster: Cluster, service: str, ids: set[str], seconds: float) -> None:
    """Read on every node that runs and answers: none of the instances is ever missing."""
    end = asyncio.get_running_loop().time() + seconds
    seen = 0
    while asyncio.get_running_loop().time() < end:
        for node in cluster.running():
            with contextlib.suppress(NotSent, Lost):
                found = instances_in(await calls.lookup(node, service))
                if found is not None:
                    assert ids <= {str(one["instanceId"]) for one in found}, f"{node} lost instances"
                    seen += 1
        await asyncio.sleep(0.1)
    assert seen > seconds


def gone_ids(watcher: Sdk) -> Counter[str]:
    """How often each instance left, by the pushes of one kind that say so."""
    left: Counter[str] = Counter()
    before: frozenset[str] = frozenset()
    for event in watcher.events:
        if event.type == "delete":
            left.update(before - event.ids)
        before = event.ids
    return left


async def kill_holder(cluster: Cluster, one: Sdk, plane: str) -> str:
    """The node that the client has its present WebSocket to."""
    port = one.ports(plane)[-1]
    node = next(name for name, address in cluster.addresses.items() if address.http_port == port)
    await asyncio.to_thread(cluster.kill, node)
    return node


async def registers(calls: Calls, node: str, service: str, name: str) -> None:
    succeeded(await calls.register(node, service, [name]))


async def test_the_sdk_registers_stays_is_told_of_changes_and_leaves(
    cluster: Cluster, calls: Calls, service: str, class_path: str
) -> None:
    async with sdk(cluster, class_path, "owner") as owner, sdk(cluster, class_path, "watcher") as watcher:
        spelled = service.capitalize()
        await watcher.listen("watcher", spelled)
        # More than fit into one answer of 8 KiB to its heartbeat.
        ids = {f"i{number}" for number in range(30)}
        mine = [instance(spelled, one) for one in sorted(ids)]
        await owner.register("owner", mine)
        await on_every_node(calls, cluster, service, ids)
        await cached(watcher, spelled, ids)

        succeeded(await calls.register("n2", service, ["other"]))
        await until(lambda: "other" in watcher.events[-1].ids, "it hears of another party's instance", SETTLE_S)
        assert watcher.events[-1].type == "new"
        succeeded(await calls.unregister("n3", service, ["other"]))
        await until(lambda: "other" not in watcher.events[-1].ids, "and that it left", SETTLE_S)
        assert watcher.events[-1].type == "delete"

        await always_there(calls, cluster, service, ids, 2.2 * TTL_S)
        assert gone_ids(watcher) == {"other": 1}
        await owner.unregister("owner", mine)
        await on_every_node(calls, cluster, service, set())
        await cached(watcher, spelled, set())
        for one in (owner, watcher):
            assert [alarm for alarm in one.alarms() if not alarm.startswith(EXPECTED_ALARMS)] == []


async def test_the_sdk_keeps_its_instances_and_hears_everything_when_nodes_are_killed(
    cluster: Cluster, calls: Calls, service: str, class_path: str
) -> None:
    await everybody_lists_everybody(calls)
    async with sdk(cluster, class_path, "owner") as owner, sdk(cluster, class_path, "watcher") as watcher:
        await watcher.listen("watcher", service)
        ids = {f"i{number}" for number in range(5)}
        await owner.register("owner", [instance(service, one) for one in sorted(ids)])
        await on_every_node(calls, cluster, service, ids)
        await cached(watcher, service, ids)

        await asyncio.to_thread(cluster.kill, await asyncio.to_thread(cluster.leader))
        await always_there(calls, cluster, service, ids, 1.3 * TTL_S)
        await asyncio.to_thread(cluster.heal)

        for one, plane, other in ((watcher, "discovery", "other1"), (owner, "registry", "other2")):
            dead = await kill_holder(cluster, one, plane)
            # While the client has no connection: it has to be told to look up again.
            survivor = next(node for node in cluster.ids if node != dead)
            await eventually(functools.partial(registers, calls, survivor, service, other), "another party registers")
            ids.add(other)
            await cached(watcher, service, ids)
            await always_there(calls, cluster, service, ids, 1.3 * TTL_S)
            assert one.ports(plane)[-1] != cluster.addresses[dead].http_port
            await asyncio.to_thread(cluster.heal)
        assert gone_ids(watcher) == {}


async def test_instances_of_a_jvm_that_is_killed_end_and_watchers_are_told_once(
    cluster: Cluster, calls: Calls, service: str, class_path: str
) -> None:
    async with sdk(cluster, class_path, "watcher") as watcher, sdk(cluster, class_path, "owner") as owner:
        await watcher.listen("watcher", service)
        ids = {f"i{number}" for number in range(5)}
        succeeded(await calls.register("n1", service, ["stays"]))
        await owner.register("owner", [instance(service, one) for one in sorted(ids)])
        await on_every_node(calls, cluster, service, ids | {"stays"})
        await cached(watcher, service, ids | {"stays"})
        owner.kill()
        killed_at = asyncio.get_running_loop().time()
        await until(lambda: watcher.events[-1].ids == {"stays"}, "all that is left is the other", TTL_S + SETTLE_S)
        assert asyncio.get_running_loop().time() - killed_at > TTL_S - 2.0, "a beat was at most a second old"
        await on_every_node(calls, cluster, service, {"stays"})
        assert gone_ids(watcher) == dict.fromkeys(ids, 1)
