"""Pushes on real nodes (C26): every committed change reaches the sockets of every node once and in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from jepsen_lite.cluster import Cluster
from jepsen_lite.registry import REGISTER, instance, instances_body
from tests.cluster.calls import Calls, eventually, succeeded
from tests.support.sockets import ALL_CHANGES, CHANGES, Talk, brief, talking

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

NODES = ("n1", "n2", "n3")
SHORT_TTL_MS = 1_500
AWAY = 1013
"""Closes a session on a node whose state may be old."""
PUSH_S = 1.0
"""Java's own tests allow a push this much (``java-client-and-push.md`` 12.1)."""


@asynccontextmanager
async def listening(cluster: Cluster, node: str, path: str = CHANGES) -> AsyncIterator[Talk]:
    async with talking(cluster.addresses[node].http_port, path) as talk:
        yield talk


async def subscribed(talk: Talk, service: str) -> None:
    """The reload says that the subscription stands: what changes from now on is pushed."""
    assert brief(await talk.subscribe(service)) == ("reload", service, "reload")


async def heard_until(talk: Talk, last: tuple[str, str, str]) -> list[dict[str, Any]]:
    pushes: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not pushes or brief(pushes[-1]) != last:
            pushes.append(await talk.hear())
    return pushes


async def test_c26_every_change_is_pushed_once_and_in_order_on_every_node(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    async with AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(listening(cluster, node)) for node in NODES]
        for talk in talks:
            await subscribed(talk, service)
        everything = await stack.enter_async_context(listening(cluster, "n3", ALL_CHANGES))
        rust = await stack.enter_async_context(listening(cluster, "n3", "/ws"))
        assert (await rust.ask({"type": "subscribe", "service_id": service}))["type"] == "subscribed"

        expected = []
        for number in range(30):
            node = NODES[number % 3]
            succeeded(await calls.register(node, service, [f"i{number}"]))
            succeeded(await calls.register(node, f"{service}-other", [f"i{number}"]))
            expected.append(("new", service, f"i{number}"))
            if number % 3 == 0:
                succeeded(await calls.unregister("n1", service, [f"i{number}"]))
                expected.append(("delete", service, f"i{number}"))
        items = [instance(service, f"short{number}", ttl_ms=SHORT_TTL_MS) for number in range(3)]
        succeeded(await calls.request("n1", "POST", REGISTER, instances_body(items)))
        expected += [("new", service, f"short{number}") for number in range(3)]
        expected += [("delete", service, f"short{number}") for number in range(3)]

        streams = await asyncio.gather(*(heard_until(talk, expected[-1]) for talk in talks))
        for node, pushes in zip(NODES, streams, strict=True):
            assert [brief(push) for push in pushes] == expected, f"on {node}"
        versions = [[push["version"] for push in pushes] for pushes in streams]
        assert versions[0] == versions[1] == versions[2] == sorted(set(versions[0]))

        of_service = [
            push for push in await heard_until(everything, expected[-1]) if push["instance"]["serviceId"] == service
        ]
        assert of_service == streams[2]
        changes: list[tuple[str, str, str]] = []
        while len(changes) < len(expected):
            for change in (await rust.hear())["changes"]:
                changes.append((change["changeType"], service, change["instance"]["instanceId"]))
        assert changes == expected


async def test_pushes_come_within_a_second(cluster: Cluster, calls: Calls, service: str) -> None:
    async with listening(cluster, "n3") as talk:
        await subscribed(talk, service)
        for number in range(20):
            for change in (calls.register, calls.unregister):
                succeeded(await change("n1", service, [f"i{number}"]))
                acknowledged = time.monotonic()
                assert brief(await talk.hear())[2] == f"i{number}"
                assert time.monotonic() - acknowledged < PUSH_S


async def test_no_push_is_lost_or_repeated_when_the_leader_is_killed(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    for attempt in range(3):
        try:
            await _push_over_a_killed_leader(cluster, calls, f"{service}-{attempt}")
            return
        except ConnectionClosed as closed:
            # A machine so busy that no leader is heard of for five seconds: the node sends its listeners away.
            if closed.rcvd is None or closed.rcvd.code != AWAY:
                raise
            cluster.heal()
    pytest.fail("in three attempts no leader was elected within five seconds")


async def _push_over_a_killed_leader(cluster: Cluster, calls: Calls, service: str) -> None:
    leader = cluster.leader()
    watched, writer = cluster.followers()
    async with listening(cluster, watched) as talk:
        await subscribed(talk, service)
        for number in range(10):
            succeeded(await calls.register(writer, service, [f"i{number}"]))
        cluster.kill(leader)

        async def write_last() -> None:
            succeeded(await calls.register(writer, service, ["last"]))

        await eventually(write_last, "the rest accepts a write")
        pushes = await heard_until(talk, ("new", service, "last"))
        # A register that was refused and is tried again may have been done both times; each change is pushed once.
        assert [brief(push)[2] for push in pushes[:10]] == [f"i{number}" for number in range(10)]
        assert {brief(push) for push in pushes[10:]} == {("new", service, "last")}
        versions = [push["version"] for push in pushes]
        assert versions == sorted(set(versions))


async def test_a_node_that_was_stopped_pushes_what_it_missed(cluster: Cluster, calls: Calls, service: str) -> None:
    leader = cluster.leader()
    stopped, writer = cluster.followers()
    async with listening(cluster, stopped) as talk:
        await subscribed(talk, service)
        cluster.pause(stopped)
        for number in range(50):
            succeeded(await calls.register(leader if number % 2 else writer, service, [f"i{number}"]))
        cluster.resume(stopped)
        pushes = await heard_until(talk, ("new", service, "i49"))
        assert [brief(push) for push in pushes] == [("new", service, f"i{number}") for number in range(50)]


async def test_a_client_whose_node_died_subscribes_elsewhere_and_misses_nothing(
    cluster: Cluster, calls: Calls, service: str
) -> None:
    """It is told to look up again, the look-up holds what changed while it was away, and pushes go on from there."""
    died, writer, refuge = NODES
    async with listening(cluster, died) as talk:
        await subscribed(talk, service)
    cluster.kill(died)

    async def write_meanwhile() -> None:
        succeeded(await calls.register(writer, service, ["meanwhile"]))

    await eventually(write_meanwhile, "the rest accepts a write")
    async with listening(cluster, refuge) as talk:
        await subscribed(talk, service)
        assert await calls.ids(refuge, service) == {"meanwhile"}
        succeeded(await calls.register(writer, service, ["afterwards"]))
        assert brief(await talk.hear()) == ("new", service, "afterwards")
