"""Versions mean the same on every node and after a restart (C25)."""

from __future__ import annotations

import asyncio
from functools import partial

import orjson
import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.registry import evidence_of
from tests.cluster.calls import DELTA, NODES, Calls, eventually, revision, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

RING = 10_000
"""Changes that are kept (docs/guarantees.md)."""


async def test_c25_a_version_is_good_on_every_node_and_after_its_restart(
    calls: Calls, cluster: Cluster, service: str
) -> None:
    version = revision(succeeded(await calls.register("n1", service, ["first"])))
    for node in NODES:
        assert await calls.delta(node, version) == (version, {}), "the current version has no later changes"
    succeeded(await calls.register("n1", service, ["second"]))
    succeeded(await calls.register("n2", service, ["first"], {"v": "again"}))
    last = revision(succeeded(await calls.unregister("n3", service, ["second"])))
    wanted = [("new", "second"), ("change", "first"), ("delete", "second")]

    async def told(node: str) -> list[tuple[str, str]]:
        now, changes = await calls.delta(node, version)
        assert (now, set(changes)) == (last, {service}), f"{node}: one revision per change, and no other service"
        return [(change.type, str(change.instance["instanceId"])) for change in changes[service]]

    for node in NODES:
        assert await told(node) == wanted, node
    leader = cluster.leader()
    for victim in (next(node for node in NODES if node != leader), leader):
        cluster.kill(victim)
        cluster.restart(victim)
        await asyncio.to_thread(cluster.wait_ready)
        assert await eventually(partial(told, victim), f"{victim} answers") == wanted


async def test_c25_a_version_that_is_too_old_is_told_so_on_every_node(calls: Calls, service: str) -> None:
    version = revision(succeeded(await calls.register("n1", service, ["first"])))
    for part in range(0, RING, 500):
        succeeded(await calls.register(NODES[part % 3], service, [f"i{number}" for number in range(part, part + 500)]))
    for node in NODES:
        answer = await calls.request(node, "POST", DELTA, orjson.dumps({"version": version - 1}))
        assert evidence_of(answer).code == "data-not-found", answer.body[:300]
        oldest = int(answer.headers["x-artemis-compacted"])
        assert version - 1 < oldest <= revision(answer)
        watch = await calls.request(node, "GET", f"/artemis/api/watch?since={version - 1}&wait=0")
        told = orjson.loads(watch.body)
        assert (told["compacted"], told["oldest"]) == (True, oldest), "a watch says the same"
        now, changes = await calls.delta(node, oldest)
        assert now - oldest == sum(len(of_service) for of_service in changes.values()), "the oldest one still works"
