"""Nodes that are killed, stopped and restarted: nothing acknowledged is lost (C6, C10), and without a majority nothing
is acknowledged (C11)."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Answer
from jepsen_lite.registry import evidence_of, outcome_of
from tests.cluster.calls import Calls, attempt, calls_on, eventually, in_parallel, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

REFUSAL_S = 2.0 + 0.5
"""A node without a majority answers within 2 s; the rest is for this process on a busy machine."""
NODES = ("n1", "n2", "n3")


@pytest.mark.parametrize(("role", "count"), [("leader", 2000), ("follower", 500)])
async def test_c6_acknowledged_writes_survive_the_node_that_acknowledged_them(
    calls: Calls, cluster: Cluster, service: str, role: str, count: int
) -> None:
    """Single registers, all acknowledged by one node, which is killed with the last answer: the others have all."""
    leader = cluster.leader()
    victim = leader if role == "leader" else next(node for node in NODES if node != leader)
    wanted = {f"i{number}" for number in range(count)}

    async def register(one: str) -> None:
        succeeded(await calls.register(victim, service, [one]))

    await in_parallel(register, sorted(wanted), workers=16)
    cluster.kill(victim)
    for node in NODES:
        if node != victim:
            missing = wanted - await calls.eventual_ids(node, service)
            assert not missing, f"{node} lacks {len(missing)} of {count} acknowledged by {victim}"


async def test_c10_every_acknowledged_write_survives_kill_9_of_all_nodes_under_load(
    calls: Calls, cluster: Cluster, service: str
) -> None:
    acknowledged: set[str] = set()
    refused: set[str] = set()
    numbers = itertools.count()
    enough = asyncio.Event()
    stopped = False

    async def load(node: str) -> None:
        async with calls_on(cluster) as own:
            while not stopped:
                one = f"i{next(numbers)}"
                outcome = outcome_of(await attempt(own.register(node, service, [one])))
                {"ok": acknowledged, "fail": refused}.get(outcome, set()).add(one)
                if len(acknowledged) >= 500:
                    enough.set()

    async with asyncio.TaskGroup() as tasks:
        for node in NODES * 4:
            tasks.create_task(load(node))
        async with asyncio.timeout(60):
            await enough.wait()
        cluster.kill(*NODES)
        stopped = True
    await asyncio.to_thread(cluster.heal)
    for node in NODES:
        found = await calls.ids(node, service)
        assert acknowledged <= found, f"{node} lost {len(acknowledged - found)} of {len(acknowledged)}"
        assert not found & refused, f"{node} has what was refused for certain"
        assert len(found) <= next(numbers)


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_c11_without_a_majority_nothing_is_acknowledged(
    calls: Calls, cluster: Cluster, service: str, role: str
) -> None:
    """Two nodes stop; the third answers in time, says whether the write may still happen, and keeps to it."""
    leader = cluster.leader()
    alone = leader if role == "leader" else next(node for node in NODES if node != leader)
    succeeded(await calls.register(alone, service, ["before"]))
    for node in NODES:
        if node != alone:
            cluster.pause(node)

    started = time.monotonic()
    writes = [f"w{number}" for number in range(5)]
    *answers, read = await asyncio.gather(
        *(calls.register(alone, service, [one]) for one in writes), calls.lookup(alone, service)
    )
    assert time.monotonic() - started < REFUSAL_S
    assert evidence_of(read).code == "service-unavailable"
    refused: set[str] = set()
    for one, answer in zip(writes, answers, strict=True):
        evidence = evidence_of(answer)
        assert evidence.code == "service-unavailable", f"{one}: {answer.status} {answer.body[:300]!r}"
        assert evidence.outcome in ("not-applied", "unknown")
        if evidence.outcome == "not-applied":
            refused.add(one)

    await asyncio.to_thread(cluster.heal)
    succeeded(await eventually_registered(calls, alone, service, "after"))

    async def agreed() -> set[str]:
        first, *others = await asyncio.gather(*(calls.ids(node, service) for node in NODES))
        assert all(other == first for other in others), "nodes differ"
        return first

    found = await eventually(agreed, "all nodes return the same instances")
    assert {"before", "after"} <= found
    assert not found & refused, "a write that was refused for certain has happened"


async def eventually_registered(calls: Calls, node: str, service: str, one: str) -> Answer:
    async def register() -> Answer:
        return succeeded(await calls.register(node, service, [one]))

    return await eventually(register, f"{node} accepts a write")


async def test_a_restarted_node_has_caught_up_before_it_is_ready(calls: Calls, cluster: Cluster, service: str) -> None:
    """Its own stale reads, the weakest there are, hold what was acknowledged while it was down."""
    (victim, *_) = cluster.followers()
    cluster.kill(victim)
    writer = next(node for node in NODES if node != victim)
    wanted = {f"i{number}" for number in range(400)}

    async def register(one: str) -> None:
        succeeded(await calls.register(writer, service, [one]))

    await in_parallel(register, sorted(wanted), workers=8)
    cluster.restart(victim)
    await asyncio.to_thread(cluster.wait_ready, [victim])
    missing = wanted - await calls.ids(victim, service, "stale")
    assert not missing, f"{victim} was ready without {len(missing)} of {len(wanted)}"


async def test_c27_sigterm_ends_a_node_cleanly_and_loses_nothing(calls: Calls, cluster: Cluster, service: str) -> None:
    leader = cluster.leader()
    wanted = {f"i{number}" for number in range(200)}

    async def register(one: str) -> None:
        succeeded(await calls.register(leader, service, [one]))

    await in_parallel(register, sorted(wanted), workers=8)
    assert await asyncio.to_thread(cluster.nodes[leader].terminate, 15.0) == 0
    for node in NODES:
        if node != leader:
            assert await calls.eventual_ids(node, service) == wanted
