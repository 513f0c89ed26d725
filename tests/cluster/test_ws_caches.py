"""Caches of Java clients under churn and faults: whatever was lost on the way, they end as the registry stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.registry import REGION, ZONE
from tests.cluster.calls import Calls, attempt, calls_on, eventually, succeeded
from tests.support.java_client import DiscoveryClient, Observed, java2

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.anyio]

IDS = [f"i{number}" for number in range(12)]
CHURN_S = 0.7
"""Between two faults."""
PAUSE_S = 1.5
"""Longer than a Java client waits for a pong."""


@asynccontextmanager
async def churning(cluster: Cluster, services: list[str]) -> AsyncIterator[None]:
    """Somebody registers and unregisters on every node, and does not care about refusals."""

    async def churn(node: str, rng: random.Random) -> None:
        async with calls_on(cluster) as calls:
            while True:
                write = calls.register if rng.random() < 0.6 else calls.unregister
                await attempt(write(node, rng.choice(services), [rng.choice(IDS)]))
                await asyncio.sleep(0.01)

    tasks = [asyncio.ensure_future(churn(node, random.Random(node))) for node in cluster.ids]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_caches_end_as_the_registry_stands(cluster: Cluster, calls: Calls, service: str) -> None:
    services = [f"{service}-{letter}" for letter in "abc"]
    observed = Observed()
    # Polls as often as failed look-ups need here; a service that is cached and not empty is not polled.
    settings = replace(java2(REGION, ZONE), check_s=0.25, reload_poll_s=2.0, reconnects_window_s=5.0)
    urls = [address.url for address in cluster.addresses.values()]
    watchers = [DiscoveryClient(url, settings, observed, random.Random(url)) for url in urls]
    for watcher in watchers:
        await watcher.start()
    try:
        for watcher in watchers:
            for one in services:
                await watcher.get_service(one)
        async with churning(cluster, services):
            for _ in range(2):
                await asyncio.sleep(CHURN_S)
                cluster.kill(cluster.leader())
                await asyncio.sleep(CHURN_S)
                await asyncio.to_thread(cluster.heal)
                follower = cluster.followers()[0]
                cluster.pause(follower)
                await asyncio.sleep(PAUSE_S)
                cluster.resume(follower)
                await asyncio.to_thread(cluster.heal)
        for one in services:
            # An empty service is polled, and would show nothing of pushes.
            succeeded(await calls.register(cluster.ids[0], one, ["last"]))
        for one in services:

            async def caches_agree(one: str = one) -> None:
                # Read anew each time: a write whose client has gone may still happen within its time budget.
                truth = await calls.ids(cluster.ids[0], one)
                assert "last" in truth
                assert [watcher.ids(one) for watcher in watchers] == [truth] * len(watchers)

            await eventually(caches_agree, f"every cache of {one} is the registry's state")
    finally:
        for watcher in watchers:
            await watcher.stop()
    assert observed.counts["push for nobody"] == 0
    pushed = [event for watcher in watchers for event in watcher.events if event.change_type != "reload"]
    assert len(pushed) > 100
