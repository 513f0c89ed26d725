"""What is asked of Artemis: 1,000 services of 10 instances, registered again and again, renewed and looked up."""

from __future__ import annotations

import asyncio

import orjson

from benchmarks.wrk import BenchmarkError, Sample, Workload
from jepsen_lite.cluster import HOST, Cluster
from jepsen_lite.http1 import Answer, Connection
from jepsen_lite.registry import (
    HEARTBEAT,
    REGION,
    REGISTER,
    SERVICE,
    Consistency,
    evidence_of,
    instance,
    instances_body,
    instances_in,
    number,
    service_body,
)

SERVICES = 1_000
INSTANCES_PER_SERVICE = 10
BATCH = 100
HOUR_MS = 3_600_000
TIMEOUT_S = 10.0
SNAKE_HEARTBEAT = "/api/registry/heartbeat.json"


def service_id(number: int) -> str:
    return f"bench-{number}"


def instance_of(service: int, position: int) -> dict[str, object]:
    """Leases outlive the run, so that what is measured does not depend on who renews."""
    return instance(service_id(service), f"i{position}", {"Weight": "5"}, ttl_ms=HOUR_MS)


def everything() -> list[dict[str, object]]:
    return [instance_of(service, position) for service in range(SERVICES) for position in range(INSTANCES_PER_SERVICE)]


def register() -> Workload:
    """One instance per request, each an effective change of a registry that stays 10,000 instances large."""
    stride = [
        instance_of(service, position) for position in range(INSTANCES_PER_SERVICE) for service in range(SERVICES)
    ]
    return Workload(name="register", path=REGISTER, bodies=[instances_body([one]) for one in stride])


def lookup(level: Consistency) -> Workload:
    return Workload(
        name=f"lookup {level}",
        path=SERVICE,
        bodies=[service_body(service_id(service)) for service in range(SERVICES)],
        headers={"x-artemis-consistency": level},
    )


def heartbeat_instances() -> Workload:
    """As Java clients send them: whole instances."""
    items = everything()
    bodies = [instances_body(items[at : at + BATCH]) for at in range(0, len(items), BATCH)]
    return Workload(
        name="heartbeat x100, instances", path=HEARTBEAT, bodies=bodies, units_per_request=BATCH, unit="renewals"
    )


def heartbeat_keys() -> Workload:
    """As Rust clients send them: keys."""
    keys = [
        {
            "region_id": REGION,
            "zone_id": "",
            "service_id": item["serviceId"],
            "group_id": "",
            "instance_id": item["instanceId"],
        }
        for item in everything()
    ]
    bodies = [orjson.dumps({"instance_keys": keys[at : at + BATCH]}) for at in range(0, len(keys), BATCH)]
    return Workload(
        name="heartbeat x100, keys", path=SNAKE_HEARTBEAT, bodies=bodies, units_per_request=BATCH, unit="renewals"
    )


def preload(cluster: Cluster, node: str) -> None:
    """Register everything through ``node``, a batch per request."""
    asyncio.run(_preload(cluster, node))


async def _preload(cluster: Cluster, node: str) -> None:
    items = everything()
    for at in range(0, len(items), BATCH):
        answer = await ask(cluster, node, REGISTER, instances_body(items[at : at + BATCH]))
        if evidence_of(answer).code != "success":
            raise BenchmarkError(f"preload: {answer.status} {answer.body[:300]!r}")


async def ask(cluster: Cluster, node: str, path: str, body: bytes, level: Consistency = "linearizable") -> Answer:
    """One request on a connection of its own."""
    connection = Connection(HOST, cluster.addresses[node].http_port)
    try:
        return await connection.request("POST", path, body, {"x-artemis-consistency": level}, timeout_s=TIMEOUT_S)
    finally:
        await connection.aclose()


class Check:
    """wrk counts answers, not successes: an application error is HTTP 200 here. Taken before a sample, compared after.

    - register: the revision has grown by at least the number of answers;
    - the others: an answer is at least as long as a correct one, and the answer itself is correct.
    """

    def __init__(self, cluster: Cluster, node: str, workload: Workload) -> None:
        self._cluster = cluster
        self._node = node
        self._workload = workload
        self._revision, self._length = asyncio.run(self._probe())

    def confirm(self, sample: Sample) -> None:
        """Raises ``BenchmarkError`` when the sample measured something else than the workload."""
        revision, _ = asyncio.run(self._probe())
        if self._workload.path == REGISTER and revision - self._revision < sample.requests:
            raise BenchmarkError(f"{sample.requests} registers answered, {revision - self._revision} changes made")
        if abs(sample.bytes_per_answer - self._length) > 0.25 * self._length:
            found = f"{sample.bytes_per_answer:.0f} bytes per answer, a correct one has {self._length}"
            raise BenchmarkError(f"{self._workload.name}: {found}")

    async def _probe(self) -> tuple[int, int]:
        """The revision and the bytes on the wire of one correct answer."""
        workload = self._workload
        connection = Connection(HOST, self._cluster.addresses[self._node].http_port)
        try:
            answer = await connection.request(
                "POST", workload.path, workload.bodies[0], workload.headers, timeout_s=TIMEOUT_S
            )
        finally:
            await connection.aclose()
        body = answer.body.replace(b"error_code", b"errorCode")
        if answer.status != 200 or b'"errorCode":"success"' not in body:
            raise BenchmarkError(f"{workload.name}: {answer.status} {answer.body[:300]!r}")
        if workload.path == SERVICE and len(instances_in(answer) or []) != INSTANCES_PER_SERVICE:
            raise BenchmarkError(f"{workload.name}: not {INSTANCES_PER_SERVICE} instances: {answer.body[:300]!r}")
        head = sum(len(name) + len(value) + 4 for name, value in answer.headers.items()) + len(
            "HTTP/1.1 200 OK\r\n\r\n"
        )
        return number(answer, "x-artemis-revision") or 0, head + len(answer.body)
