"""A client that keeps leases alive, and sees to it that none of them ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Lost, NotSent
from jepsen_lite.registry import HEARTBEAT, REGISTER, instance, instances_body, instances_in, outcome_of
from tests.cluster.calls import Calls, attempt, calls_on, succeeded

BEAT_S = 0.4


class Living:
    """A client that keeps the leases of ``ids`` alive, over whichever of ``nodes`` answers, and of nothing else."""

    def __init__(self, cluster: Cluster, service: str, nodes: tuple[str, ...], ttl_s: float) -> None:
        self.ids = [f"i{number}" for number in range(20)]
        self.beats = 0
        self._cluster = cluster
        self._service = service
        self._nodes = nodes
        self._ttl_s = ttl_s

    async def register(self, calls: Calls) -> None:
        ttl_ms = int(self._ttl_s * 1000)
        items = [instance(self._service, one, ttl_ms=ttl_ms) for one in [*self.ids, "silent"]]
        succeeded(await calls.request(self._nodes[0], "POST", REGISTER, instances_body(items)))

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        beating = asyncio.create_task(self._beat())
        try:
            yield
            assert not beating.done(), "the heartbeats ended"
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        body = instances_body([instance(self._service, one) for one in self.ids])
        async with calls_on(self._cluster) as calls:
            while True:
                for node in self._nodes:
                    sent = await attempt(calls.request(node, "POST", HEARTBEAT, body))
                    assert not sent.failed, f"a living instance was refused: {sent}"
                    if outcome_of(sent) == "ok":
                        self.beats += 1
                        break
                await asyncio.sleep(BEAT_S)

    async def outlive(self, calls: Calls, readers: tuple[str, ...], seconds: float) -> None:
        """Read until ``seconds`` have passed and the silent instance has ended: the living ones are always there."""
        end = asyncio.get_running_loop().time() + seconds
        silent = True
        seen = 0
        while asyncio.get_running_loop().time() < end or silent:
            for node in readers:
                with contextlib.suppress(NotSent, Lost):
                    found = instances_in(await calls.lookup(node, self._service))
                    if found is not None:
                        ids = {str(item["instanceId"]) for item in found}
                        assert ids >= set(self.ids), f"{node} lost {set(self.ids) - ids}"
                        silent = "silent" in ids
                        seen += 1
            assert asyncio.get_running_loop().time() < end + 20, "the silent instance never ended"
            await asyncio.sleep(0.1)
        assert seen >= 5
        assert self.beats >= 2
