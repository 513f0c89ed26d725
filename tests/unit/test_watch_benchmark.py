"""The light WebSocket client of ``python -m benchmarks watchers``: it must see what a real one sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from artemis.registry import StateLimits
from benchmarks.watch_sockets import Watcher, open_watcher
from benchmarks.wrk import BenchmarkError
from tests.support.loopback import LoopbackCluster
from tests.support.replica import instance, register
from tests.support.sockets import play, serving, until


@pytest.mark.parametrize("pad_bytes", [0, 100, 70_000], ids=["small", "16-bit length", "64-bit length"])
def test_it_counts_changes_in_frames_of_every_length(pad_bytes: int) -> None:
    async def story() -> None:
        node = LoopbackCluster(limits=StateLimits(changes_max=100))["n1"]
        heard: list[int] = []
        told: Callable[[Watcher, int], None] = lambda watcher, changes: heard.append(changes)  # noqa: E731
        async with serving(node) as site:
            watcher = await open_watcher(site.port, "a,b", told)
            for service_id in ("a", "other", "b"):
                await node.propose(register(instance(service_id, metadata={"pad": "x" * pad_bytes})), timeout_ms=1_000)
            await until(lambda: heard == [1, 2])
            assert (watcher.changes, watcher.closed) == (2, False)
            watcher.abort()
            await until(lambda: site.metric("artemis_sockets", kind="watch") == 0)

    play(story)


def test_a_stalled_one_hears_nothing_and_a_refused_one_says_why() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        heard: list[int] = []
        async with serving(node) as site:
            stalled = await open_watcher(site.port, "a", lambda _, changes: heard.append(changes), stalled=True)
            quick = await open_watcher(site.port, "a", lambda _, changes: heard.append(-changes))
            await node.propose(register(instance("a")), timeout_ms=1_000)
            await until(lambda: quick.changes == 1)
            assert (heard, stalled.changes) == ([-1], 0)
            with pytest.raises(BenchmarkError, match="services: each must be"):
                await open_watcher(site.port, "a,,b", lambda _, changes: None)
            for watcher in (stalled, quick):
                watcher.abort()
            await asyncio.sleep(0)

    play(story)
