"""Two times that throughput does not show: how long a cluster is without a leader, and when a write is visible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Connection, Lost, NotSent
from jepsen_lite.registry import REGISTER, SERVICE, evidence_of, instance, instance_ids, instances_body, service_body

TIMEOUT_S = 10.0
FAILOVER_S = 30.0
RETRY_S = 0.005


@dataclass(frozen=True, slots=True)
class Times:
    """Sorted milliseconds."""

    ms: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float]) -> Times:
        return Times(tuple(sorted(values)))

    def percentile(self, percent: float) -> float:
        """The smallest value that is not below ``percent`` of them (nearest rank)."""
        rank = max(1, -(-len(self.ms) * percent // 100))
        return self.ms[int(rank) - 1]


def failover(cluster: Cluster, repeats: int) -> Times:
    """From the ``kill -9`` of the leader to the next acknowledged write through either survivor, ``repeats`` times."""
    found = []
    for attempt in range(repeats):
        leader = cluster.leader()
        survivors = [node for node in cluster.ids if node != leader]
        cluster.nodes[leader].strike()
        found.append(asyncio.run(_first_write(cluster, survivors, f"failover-{attempt}")))
        cluster.nodes[leader].reap()
        cluster.restart(leader)
        cluster.wait_ready()
    return Times.of(found)


async def _first_write(cluster: Cluster, nodes: Sequence[str], name: str) -> float:
    started = time.perf_counter()
    writers = [asyncio.create_task(_write_until_acknowledged(cluster, node, name)) for node in nodes]
    done, waiting = await asyncio.wait(writers, timeout=FAILOVER_S, return_when=asyncio.FIRST_COMPLETED)
    took_ms = (time.perf_counter() - started) * 1000
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    if not done:
        raise BenchmarkError(f"no write was acknowledged within {FAILOVER_S:g} s of the leader's death")
    for task in done:
        task.result()
    return took_ms


async def _write_until_acknowledged(cluster: Cluster, node: str, name: str) -> None:
    connection = Connection(HOST, cluster.addresses[node].http_port)
    body = instances_body([instance("bench-failover", f"{name}-{node}")])
    try:
        while True:
            try:
                answer = await connection.request("POST", REGISTER, body, timeout_s=TIMEOUT_S)
            except (NotSent, Lost):
                answer = None
            if answer is not None and evidence_of(answer).code == "success":
                return
            await asyncio.sleep(RETRY_S)
    finally:
        await connection.aclose()


def visibility(cluster: Cluster, repeats: int) -> Times:
    """From the acknowledgement of a write to the first stale read that has it, on each other node."""
    return Times.of(asyncio.run(_visibility(cluster, repeats)))


async def _visibility(cluster: Cluster, repeats: int) -> list[float]:
    connections = {node: Connection(HOST, address.http_port) for node, address in cluster.addresses.items()}
    found: list[float] = []
    try:
        for attempt in range(repeats):
            service = f"bench-visible-{attempt}"
            writer = cluster.ids[attempt % len(cluster.ids)]
            body = instances_body([instance(service, "i")])
            answer = await connections[writer].request("POST", REGISTER, body, timeout_s=TIMEOUT_S)
            acknowledged = time.perf_counter()
            if evidence_of(answer).code != "success":
                raise BenchmarkError(f"visibility: {answer.status} {answer.body[:300]!r}")
            others = [_seen(connection, service) for node, connection in connections.items() if node != writer]
            found += [(seen - acknowledged) * 1000 for seen in await asyncio.gather(*others)]
    finally:
        for connection in connections.values():
            await connection.aclose()
    return found


async def _seen(connection: Connection, service: str) -> float:
    deadline = time.perf_counter() + TIMEOUT_S
    while time.perf_counter() < deadline:
        headers = {"x-artemis-consistency": "stale"}
        answer = await connection.request("POST", SERVICE, service_body(service), headers, timeout_s=TIMEOUT_S)
        if instance_ids(answer):
            return time.perf_counter()
    raise BenchmarkError(f"a write was not visible on {connection.host}:{connection.port} after {TIMEOUT_S:g} s")
