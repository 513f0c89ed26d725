"""A registry of 100,000 instances in 10,000 services: filled, emptied to a hundredth, renewed at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from benchmarks.registry_load import HOUR_MS
from benchmarks.wrk import BenchmarkError, Workload
from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Connection, Lost, NotSent
from jepsen_lite.registry import (
    HEARTBEAT,
    REGISTER,
    SERVICE,
    UNREGISTER,
    Consistency,
    evidence_of,
    instance,
    instances_body,
    service_body,
)

BATCH = 100
INSTANCES_PER_SERVICE = 10
SMALL = 1_000
"""Instances of the small registry; they are among those of the large one."""
TIMEOUT_S = 10.0
WRITES_AT_A_TIME = 4
BEATS_AT_A_TIME = 32
BEHIND_S_MAX = 5.0
"""Beats that are sent later than that are not the load that was asked for."""

Item = dict[str, object]


def items(first: int, end: int, ttl_ms: int = HOUR_MS) -> list[Item]:
    """Instances number ``first`` to ``end``, ten after one another in each service."""
    return [
        instance(
            f"scale-{number // INSTANCES_PER_SERVICE}",
            f"i{number % INSTANCES_PER_SERVICE}",
            {"Weight": "5"},
            ttl_ms=ttl_ms,
        )
        for number in range(first, end)
    ]


def batches(found: Sequence[Item]) -> list[bytes]:
    return [instances_body(found[at : at + BATCH]) for at in range(0, len(found), BATCH)]


def register_one(instances: int, bodies: int) -> Workload:
    """One instance per request, in turn ``bodies`` of them spread evenly over the first ``instances``, all of which
    exist. For a small registry the same come again: the generator's work does not depend on the registry's size."""
    step = max(1, instances // bodies)
    every = [instances_body(items(number, number + 1)) for number in range(0, instances, step)]
    return Workload(name="register", path=REGISTER, bodies=[every[at % len(every)] for at in range(bodies)])


def look_up(level: Consistency, services: int) -> Workload:
    return Workload(
        name=f"lookup {level}",
        path=SERVICE,
        bodies=[service_body(f"scale-{number}") for number in range(services)],
        headers={"x-artemis-consistency": level},
    )


async def write_all(cluster: Cluster, node: str, path: str, bodies: Sequence[bytes]) -> float:
    """Send each body once, a few at a time; the seconds it took. Raises ``BenchmarkError`` when one fails."""
    waiting = list(reversed(bodies))
    began = time.monotonic()

    async def sender() -> None:
        connection = Connection(HOST, cluster.addresses[node].http_port)
        try:
            while waiting:
                body = waiting.pop()
                answer = await connection.request("POST", path, body, timeout_s=TIMEOUT_S)
                if evidence_of(answer).code != "success":
                    raise BenchmarkError(f"{path}: {answer.status} {answer.body[:300]!r}")
        except (NotSent, Lost) as exc:
            raise BenchmarkError(f"{path}: {exc}") from exc
        finally:
            await connection.aclose()

    await asyncio.gather(*(sender() for _ in range(WRITES_AT_A_TIME)))
    return time.monotonic() - began


def grow(cluster: Cluster, node: str, first: int, end: int, ttl_ms: int = HOUR_MS) -> float:
    return asyncio.run(write_all(cluster, node, REGISTER, batches(items(first, end, ttl_ms))))


def shrink(cluster: Cluster, node: str, first: int, end: int) -> float:
    return asyncio.run(write_all(cluster, node, UNREGISTER, batches(items(first, end))))


@dataclass(slots=True)
class Beats:
    """What became of heartbeats. Times are from when a beat was due, not from when there was time to send it."""

    sent: int = 0
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    behind_s: float = 0.0
    """How late the latest beat was sent."""


async def renew(cluster: Cluster, instances: int, per_second: int, seconds: float) -> Beats:
    """Renew ``instances`` in turn, ``per_second`` of them in batches as clients send them, over all nodes alike."""
    bodies = batches(items(0, instances))
    interval_s = BATCH / per_second
    nodes = cluster.ids
    beats = Beats()
    began = time.perf_counter()
    count = round(seconds / interval_s)
    due = iter(range(count))

    async def sender(number: int) -> None:
        connection = Connection(HOST, cluster.addresses[nodes[number % len(nodes)]].http_port)
        try:
            for turn in due:
                due_at = began + turn * interval_s
                await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
                beats.behind_s = max(beats.behind_s, time.perf_counter() - due_at)
                if beats.behind_s > BEHIND_S_MAX:
                    raise BenchmarkError(f"beats are {BEHIND_S_MAX:g} s late: {per_second} renewals/s are too many")
                await _beat(connection, bodies[turn % len(bodies)], beats)
                beats.seconds.append(time.perf_counter() - due_at)
        finally:
            await connection.aclose()

    await asyncio.gather(*(sender(number) for number in range(BEATS_AT_A_TIME)))
    return beats


async def _beat(connection: Connection, body: bytes, beats: Beats) -> None:
    beats.sent += 1
    try:
        answer = await connection.request("POST", HEARTBEAT, body, timeout_s=TIMEOUT_S)
    except (NotSent, Lost) as exc:
        beats.failed.append(str(exc))
        return
    status = orjson.loads(answer.body).get("responseStatus", {})
    if status.get("errorCode") != "success":
        beats.failed.append(f"{answer.status} {status}")
