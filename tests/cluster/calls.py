"""Registry calls on the nodes of a cluster, as the tests speak of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Answer, Connection, Lost, NotSent
from jepsen_lite.registry import (
    HEARTBEAT,
    REGISTER,
    SERVICE,
    UNREGISTER,
    Consistency,
    Evidence,
    evidence_of,
    instance,
    instances_body,
    instances_in,
    number,
    outcome_of,
    service_body,
)

TIMEOUT_S = 10.0
SETTLE_S = 20.0
"""How long a cluster that has a majority again may take to answer: an election and replay on a busy machine."""
HOUR_MS = 3_600_000
NODES = ("n1", "n2", "n3")
DELTA = "/artemis/api/discovery/services-delta.json"
SERVICES = "/artemis/api/discovery/services.json"
UP_NODES = "/artemis/api/cluster/up-registry-nodes.json"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a delta: ``new``, ``change`` or ``delete``, and the instance as the answer has it."""

    type: str
    instance: Mapping[str, object]


@dataclass(slots=True)
class Calls:
    """Connections are kept per node and reused; a call never retries. Close it by leaving ``calls_on``."""

    cluster: Cluster
    _idle: dict[str, list[Connection]] = field(default_factory=dict)

    async def request(
        self, node: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises ``NotSent`` or ``Lost``."""
        idle = self._idle.setdefault(node, [])
        connection = idle.pop() if idle else Connection(HOST, self.cluster.addresses[node].http_port)
        try:
            return await connection.request(method, path, body, headers, timeout_s=TIMEOUT_S)
        finally:
            idle.append(connection)

    async def register(
        self,
        node: str,
        service: str,
        ids: Sequence[str],
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        ttl_ms: int = HOUR_MS,
    ) -> Answer:
        """Register instances, with a lease that outlives the test unless ``ttl_ms`` is given."""
        items = [instance(service, one, metadata, ttl_ms=ttl_ms) for one in ids]
        return await self.request(node, "POST", REGISTER, instances_body(items), headers)

    async def heartbeat(self, node: str, service: str, ids: Sequence[str]) -> Answer:
        return await self.request(node, "POST", HEARTBEAT, instances_body([instance(service, one) for one in ids]))

    async def unregister(
        self, node: str, service: str, ids: Sequence[str], headers: Mapping[str, str] | None = None
    ) -> Answer:
        items = [instance(service, one) for one in ids]
        return await self.request(node, "POST", UNREGISTER, instances_body(items), headers)

    async def lookup(
        self, node: str, service: str, level: Consistency = "linearizable", *, min_revision: int | None = None
    ) -> Answer:
        headers: dict[str, str] = {"x-artemis-consistency": level}
        if min_revision is not None:
            headers["x-artemis-min-revision"] = str(min_revision)
        return await self.request(node, "POST", SERVICE, service_body(service), headers)

    async def ids(self, node: str, service: str, level: Consistency = "linearizable") -> set[str]:
        """The instance ids of a service. Raises ``AssertionError`` when the node does not answer it or repeats one."""
        answer = await self.lookup(node, service, level)
        found = instances_in(answer)
        assert found is not None, f"{node} answered {answer.status} {answer.body[:300]!r}"
        ids = [str(item["instanceId"]) for item in found]
        assert len(set(ids)) == len(ids), f"{node} repeats instances of {service}"
        return set(ids)

    async def delta(self, node: str, version: int) -> tuple[int, dict[str, list[Change]]]:
        """What changed after ``version``, per service and in order, and the version to go on from.

        Raises ``AssertionError`` when the node does not answer it.
        """
        answer = await self.request(node, "POST", DELTA, orjson.dumps({"version": version}))
        assert evidence_of(answer).code == "success", f"{node} answered {answer.status} {answer.body[:300]!r}"
        body = orjson.loads(answer.body)
        assert body["version"] == revision(answer)
        return body["version"], {
            service: [Change(item["changeType"], item["instance"]) for item in changes]
            for service, changes in body["delta"].items()
        }

    async def eventual_ids(self, node: str, service: str) -> set[str]:
        """The first successful linearizable read after a fault, within ``SETTLE_S``."""
        return await eventually(lambda: self.ids(node, service), f"{node} answers a linearizable read")


@contextlib.asynccontextmanager
async def calls_on(cluster: Cluster) -> AsyncIterator[Calls]:
    calls = Calls(cluster)
    try:
        yield calls
    finally:
        for connection in [one for idle in calls._idle.values() for one in idle]:
            await connection.aclose()


async def eventually(attempt: Callable[[], Awaitable[T]], what: str) -> T:
    """The first result of ``attempt`` that fails neither by an assertion nor by the connection."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        try:
            return await attempt()
        except (AssertionError, NotSent, Lost) as exc:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not within {SETTLE_S:g} s: {what}: {exc}") from exc
        await asyncio.sleep(0.05)


async def everybody_lists_everybody(calls: Calls) -> None:
    """Wait until clients are sent to all nodes: Java clients keep the list they get for five minutes."""

    async def attempt() -> None:
        for node in calls.cluster.ids:
            answer = await calls.request(node, "POST", UP_NODES, b"{}")
            assert len(orjson.loads(answer.body)["nodes"] or ()) == len(calls.cluster.ids), answer.body[:300]

    await eventually(attempt, "every node lists every node")


def succeeded(answer: Answer) -> Answer:
    """The answer itself. Raises ``AssertionError`` when it is not a success for every instance."""
    assert outcome_of(evidence_of(answer)) == "ok", f"{answer.status} {answer.body[:300]!r}"
    return answer


def revision(answer: Answer) -> int:
    found = number(answer, "x-artemis-revision")
    assert found is not None, f"no x-artemis-revision in {dict(answer.headers)}"
    return found


async def attempt(call: Awaitable[Answer]) -> Evidence:
    """What a write proves, whatever became of its connection."""
    try:
        return evidence_of(await call)
    except NotSent:
        return Evidence(sent=False)
    except Lost:
        return Evidence(sent=True)


async def in_parallel(work: Callable[[str], Awaitable[None]], items: Iterable[str], workers: int) -> None:
    """``work`` on every item, ``workers`` at a time. The first failure ends all."""
    queue = iter(items)

    async def drain() -> None:
        for item in queue:
            await work(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(drain())
