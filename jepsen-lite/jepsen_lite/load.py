"""Plain load for the instruments that need writes and know what became of each, without a recorded history."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Connection, Lost, NotSent
from jepsen_lite.registry import (
    REGISTER,
    SERVICE,
    Evidence,
    OutcomeType,
    evidence_of,
    instance,
    instance_ids,
    instances_body,
    outcome_of,
    read_headers,
    service_body,
)

TTL_MS = 24 * 3600 * 1000
TIMEOUT_S = 10.0
LOAD_S = 60.0
READ_S = 30.0


@dataclass(slots=True)
class Writes:
    """All writes so far, by outcome. ``distinct`` elements are written in turn; each is a new one if None."""

    service: str
    distinct: int | None = None
    acknowledged_count: int = 0
    by_outcome: dict[OutcomeType, set[str]] = field(default_factory=lambda: {"ok": set(), "fail": set(), "info": set()})
    stopped: bool = False
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _wanted: int = 0
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def acknowledged(self) -> set[str]:
        return self.by_outcome["ok"]

    @property
    def all(self) -> set[str]:
        return set().union(*self.by_outcome.values())

    async def more(self, count: int) -> None:
        """Wait until ``count`` more writes are acknowledged. Raises ``TimeoutError``."""
        self._wanted, self._enough = self.acknowledged_count + count, asyncio.Event()
        async with asyncio.timeout(LOAD_S):
            await self._enough.wait()

    def next_element(self) -> str:
        number = next(self._numbers)
        return f"i{number if self.distinct is None else number % self.distinct}"

    def add(self, element: str, outcome: OutcomeType) -> None:
        self.by_outcome[outcome].add(element)
        self.acknowledged_count += outcome == "ok"
        if self.acknowledged_count >= self._wanted:
            self._enough.set()


@contextlib.asynccontextmanager
async def writing(
    cluster: Cluster, writes: Writes, nodes: Sequence[str], *, pause_s: float = 0.0
) -> AsyncIterator[None]:
    """One writer per item of ``nodes`` while the context is open. Nothing is retried."""
    writes.stopped = False
    writers = [asyncio.create_task(_write(cluster, node, writes, pause_s)) for node in nodes]
    try:
        yield
    finally:
        writes.stopped = True
        await asyncio.gather(*writers)


async def _write(cluster: Cluster, node: str, writes: Writes, pause_s: float) -> None:
    connection = Connection(HOST, cluster.addresses[node].http_port)
    try:
        while not writes.stopped:
            element = writes.next_element()
            body = instances_body([instance(writes.service, element, ttl_ms=TTL_MS)])
            try:
                evidence = evidence_of(await connection.request("POST", REGISTER, body, timeout_s=TIMEOUT_S))
            except NotSent:
                evidence = Evidence(sent=False)
                await asyncio.sleep(0.01)
            except Lost:
                evidence = Evidence(sent=True)
            writes.add(element, outcome_of(evidence))
            if pause_s:
                await asyncio.sleep(pause_s)
    finally:
        await connection.aclose()


async def read_all(cluster: Cluster, node: str, service: str) -> set[str] | None:
    """A linearizable read of ``service`` from ``node``. None when it answers none within ``READ_S``."""
    connection = Connection(HOST, cluster.addresses[node].http_port)
    deadline = asyncio.get_running_loop().time() + READ_S
    body, headers = service_body(service), read_headers("linearizable")
    try:
        while asyncio.get_running_loop().time() < deadline:
            try:
                ids = instance_ids(await connection.request("POST", SERVICE, body, headers, timeout_s=TIMEOUT_S))
            except (NotSent, Lost):
                ids = None
            if ids is not None:
                return set(ids)
            await asyncio.sleep(0.05)
    finally:
        await connection.aclose()
    return None
