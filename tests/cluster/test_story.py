"""The seven steps of the earlier servers' cluster script, strict: no waiting, and every step can fail.

register on one node; at once every node returns the instance with every field equal; a heartbeat through every node
finds it; every node's metrics have moved; unregister on one node; at once it is gone on every node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson
import pytest

from tests.cluster.calls import Calls

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

KEY_FIELDS = ("region_id", "zone_id", "service_id", "group_id", "instance_id")
INSTANCE: dict[str, object] = {
    "region_id": "local",
    "zone_id": "zone1",
    "service_id": "test-service",
    "group_id": "g1",
    "instance_id": "test-instance-1",
    "machine_name": "test-machine",
    "ip": "192.168.1.100",
    "port": 8080,
    "protocol": "http",
    "url": "http://192.168.1.100:8080",
    "health_check_url": "http://192.168.1.100:8080/health",
    "status": "up",
    "metadata": {"version": "1.0.0", "Weight": "5"},
}


@dataclass(frozen=True)
class Dialect:
    """How one family of clients spells the same requests."""

    prefix: str
    camel: bool
    suffix: str = ".json"

    def name(self, snake: str) -> str:
        return re.sub(r"_(\w)", lambda found: found[1].upper(), snake) if self.camel else snake

    def spelled(self, fields: dict[str, object]) -> dict[str, object]:
        return {self.name(name): value for name, value in fields.items()}

    def instances(self) -> dict[str, object]:
        return {"instances": [self.spelled(INSTANCE)]}

    def keys(self) -> dict[str, object]:
        """What heartbeat and unregister carry: Java clients send whole instances, Rust clients keys."""
        if self.camel:
            return self.instances()
        return {"instance_keys": [{name: INSTANCE[name] for name in KEY_FIELDS}]}

    def lookup(self) -> dict[str, object]:
        config = {self.name(name): INSTANCE[name] for name in ("service_id", "region_id", "zone_id")}
        request: dict[str, object] = {self.name("discovery_config"): config}
        if self.camel:
            request |= {"regionId": INSTANCE["region_id"], "zoneId": INSTANCE["zone_id"]}
        return request


DIALECTS = [
    pytest.param(Dialect("/api", camel=False), id="rust"),
    pytest.param(Dialect("/api", camel=False, suffix=""), id="rust-without-json"),
    pytest.param(Dialect("/artemis/api", camel=True), id="java"),
]


async def post(calls: Calls, node: str, dialect: Dialect, path: str, body: dict[str, object]) -> dict[str, object]:
    """The parsed body of a successful answer."""
    answer = await calls.request(node, "POST", f"{dialect.prefix}/{path}{dialect.suffix}", orjson.dumps(body))
    parsed = answer.json()
    assert isinstance(parsed, dict)
    status = parsed[dialect.name("response_status")]
    assert (answer.status, status[dialect.name("error_code")]) == (200, "success"), f"{node} {path}: {answer.body!r}"
    return parsed


async def found(calls: Calls, node: str, dialect: Dialect) -> list[dict[str, object]]:
    """The instances of the test's service on a node; none when the service is unknown."""
    path = f"{dialect.prefix}/discovery/service{dialect.suffix}"
    answer = await calls.request(node, "POST", path, orjson.dumps(dialect.lookup()))
    parsed = answer.json()
    assert answer.status == 200
    assert isinstance(parsed, dict)
    return (parsed.get("service") or {}).get("instances") or []


async def samples(calls: Calls, node: str) -> dict[str, float]:
    """Series of ``/metrics`` (Prometheus text format) by name with labels."""
    answer = await calls.request(node, "GET", "/metrics")
    assert answer.status == 200
    lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_seven_steps(calls: Calls, dialect: Dialect) -> None:
    nodes = calls.cluster.ids
    for node in nodes:
        health = await calls.request(node, "GET", "/health")
        assert (health.status, health.body) == (200, b"OK")
    before = {node: await samples(calls, node) for node in nodes}

    await post(calls, "n1", dialect, "registry/register", dialect.instances())
    for node in nodes:
        assert await found(calls, node, dialect) == [dialect.spelled(INSTANCE)], f"{node}, right after the register"

    for node in nodes:
        await post(calls, node, dialect, "registry/heartbeat", dialect.keys())
    for node in nodes:
        after = await samples(calls, node)
        moved = [name for name, value in after.items() if value > before[node].get(name, 0.0)]
        counters = [name for name in moved if re.match(r"artemis_\w+_total\b", name)]
        assert len(moved) >= 4, f"{node}: only {moved} moved"
        assert counters, f"{node}: no counter moved"

    await post(calls, "n1", dialect, "registry/unregister", dialect.keys())
    for node in nodes:
        assert await found(calls, node, dialect) == [], f"{node}, right after the unregister"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_heartbeat_of_an_unknown_instance_is_told_so_by_every_node(calls: Calls, dialect: Dialect) -> None:
    for node in calls.cluster.ids:
        path = f"{dialect.prefix}/registry/heartbeat{dialect.suffix}"
        answer = await calls.request(node, "POST", path, orjson.dumps(dialect.keys()))
        parsed = answer.json()
        assert isinstance(parsed, dict)
        failed = parsed["failedInstances" if dialect.camel else "failed_instance_keys"]
        assert len(failed) == 1
