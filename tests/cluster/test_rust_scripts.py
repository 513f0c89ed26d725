"""The shell scripts around the earlier Rust server (``rust-http.md`` 3.5, ``java-client-and-push.md`` 12.3).

The requests are the scripts' own. So are their checks, but stricter where a script printed a count or slept before it
looked: here every node is asked at once, and every step can fail. Two checks cannot be met as written. The text
``"status":"SUCCESS"``, in upper case, is sent by no known server; codes are compared instead. And test-get-query-params
asks in camelCase but looks for snake_case; here each question is answered as it was spelled.

Not here: the scripts of the management plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from jepsen_lite.http1 import Answer
from tests.cluster.calls import Calls

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

REGISTER = "/api/registry/register.json"
HEARTBEAT = "/api/registry/heartbeat.json"
UNREGISTER = "/api/registry/unregister.json"
SERVICE = "/api/discovery/service.json"
SERVICES = "/api/discovery/services.json"
LOOKUP = "/api/discovery/lookup.json"
STATUS = "/api/status/"

Fields = dict[str, Any]


async def post(calls: Calls, node: str, path: str, body: object) -> Answer:
    return await calls.request(node, "POST", path, orjson.dumps(body))


async def get(calls: Calls, node: str, path: str) -> Answer:
    return await calls.request(node, "GET", path)


def code_of(answer: Answer) -> str:
    """What ``jq .response_status.error_code`` prints, in either spelling."""
    assert answer.status == 200, answer.body
    parsed = orjson.loads(answer.body)
    status: Fields = parsed.get("response_status") or parsed["responseStatus"]
    code: str = status.get("error_code") or status["errorCode"]
    return code


def instance(service_id: str, instance_id: str, ip: str, region: str, zone: str, **more: object) -> Fields:
    return {
        "region_id": region,
        "zone_id": zone,
        "service_id": service_id,
        "instance_id": instance_id,
        "ip": ip,
        "port": 8080,
        "url": f"http://{ip}:8080",
        "status": "up",
        **more,
    }


def key(of: Fields, group_id: str) -> Fields:
    return {name: of[name] for name in ("region_id", "zone_id", "service_id", "instance_id")} | {"group_id": group_id}


def config(of: Fields) -> Fields:
    return {"discovery_config": {name: of[name] for name in ("service_id", "region_id", "zone_id")}}


async def register(calls: Calls, node: str, instances: Iterable[Fields]) -> None:
    for one in instances:
        assert code_of(await post(calls, node, REGISTER, {"instances": [one]})) == "success"


async def unregister(calls: Calls, node: str, instances: Iterable[Fields]) -> None:
    """As the clean-up of most scripts does it: with whole instances instead of keys."""
    for one in instances:
        assert code_of(await post(calls, node, UNREGISTER, {"instances": [one]})) == "success"


async def metrics(calls: Calls, node: str) -> dict[str, float]:
    answer = await get(calls, node, "/metrics")
    assert answer.status == 200
    lines = [line for line in answer.body.decode().splitlines() if line.startswith("artemis_") and "{" not in line]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_cluster_api(calls: Calls) -> None:
    first, *_ = nodes = calls.cluster.ids
    one = instance("test-service", "test-instance-1", "192.168.1.100", "local", "zone1")
    for node in nodes:
        health = await get(calls, node, "/health")
        assert (health.status, health.body) == (200, b"OK")
    before = await metrics(calls, first)
    assert code_of(await post(calls, first, REGISTER, {"instances": [one]})) == "success"
    for node in nodes:
        found = await post(calls, node, SERVICE, config(one))
        assert code_of(found) == "success"
        assert orjson.loads(found.body)["service"]["instances"] == [one]
    keys = {"instance_keys": [key(one, "")]}
    for node in nodes:
        assert code_of(await post(calls, node, HEARTBEAT, keys)) == "success"
    after = await metrics(calls, first)
    moved = {name.removeprefix("artemis_"): after[name] - before[name] for name in after if name in before}
    assert moved["register_requests_total"] == 1
    assert moved["heartbeat_requests_total"] == 1
    assert moved["discovery_requests_total"] == 1
    assert moved["active_instances"] == 1
    assert code_of(await post(calls, first, UNREGISTER, keys)) == "success"
    for node in nodes:
        gone = await post(calls, node, SERVICE, config(one))
        assert orjson.loads(gone.body).get("service") is None


async def test_batch_replication(calls: Calls) -> None:
    """Registered without a group, unregistered with the group ``default``: the same instances."""
    first, *others = calls.cluster.ids
    instances = [
        instance("batch-test-service", f"batch-inst-{number}", f"192.168.1.{100 + number}", "default", "zone-1")
        for number in range(1, 11)
    ]
    await register(calls, first, instances)
    for node in others:
        found = await post(calls, node, SERVICE, config(instances[0]))
        assert found.body.count(b'"instance_id"') == 10
    for one in instances:
        keys = {"instance_keys": [key(one, "default")]}
        assert code_of(await post(calls, first, UNREGISTER, keys)) == "success"
    for node in others:
        gone = await post(calls, node, SERVICE, config(instances[0]))
        assert gone.body.count(b'"instance_id"') == 0


async def test_discovery_lookup(calls: Calls) -> None:
    first, second, third = calls.cluster.ids
    instances = [
        instance("test-lookup-service", f"inst-{number}", f"192.168.1.{number}", "us-east", "zone-1")
        for number in (1, 2, 3)
    ]
    await register(calls, first, instances)
    found = await post(calls, second, SERVICE, config(instances[0]))
    assert found.body.count(b'"instance_id"') == 3
    for strategy in ({"strategy": "random"}, {}):
        picked = await post(calls, third, LOOKUP, config(instances[0]) | strategy)
        assert b'"success":true' in picked.body
        assert b'"instance_id":"inst-' in picked.body
    turns = [await post(calls, third, LOOKUP, config(instances[0]) | {"strategy": "round-robin"}) for _ in range(6)]
    assert len({turn.body for turn in turns}) == 3
    nobody = {"discovery_config": {**config(instances[0])["discovery_config"], "service_id": "non-existent-service"}}
    missing = await post(calls, first, LOOKUP, nobody | {"strategy": "random"})
    assert missing.status == 404
    assert b'"success":false' in missing.body
    await unregister(calls, first, instances)


async def test_get_query_params(calls: Calls) -> None:
    first, second, _ = calls.cluster.ids
    instances = [
        instance("test-get-service", f"inst-{number}", f"192.168.1.{number}", "us-east", "zone-1") for number in (1, 2)
    ]
    await register(calls, first, instances)
    full = await get(calls, second, f"{SERVICE}?service_id=test-get-service&region_id=us-east&zone_id=zone-1")
    assert code_of(full) == "success"
    assert b'"service_id":"test-get-service"' in full.body
    posted = await post(calls, second, SERVICE, config(instances[0]))
    assert full.body.count(b'"instance_id"') == posted.body.count(b'"instance_id"') == 2
    # The script's own spelling of the query is camelCase, and so is the answer to it.
    for query in ("?serviceId=test-get-service&regionId=us-east&zoneId=zone-1", "?serviceId=test-get-service"):
        camel = await get(calls, second, SERVICE + query)
        assert code_of(camel) == "success"
        assert camel.body.count(b'"instanceId"') == 2
    for path in (
        SERVICES + "?regionId=us-east&zoneId=zone-1",
        SERVICES,
        "/api/replication/registry/services.json?regionId=us-east",
    ):
        listed = await get(calls, second, path)
        assert code_of(listed) == "success"
        assert b'"services"' in listed.body
        assert b"test-get-service" in listed.body
    unknown = await get(calls, second, f"{SERVICE}?service_id=non-existent-service")
    assert code_of(unknown) == "bad-request"
    await unregister(calls, first, instances)


STATUS_TEXTS = {
    "node": ('"nodeStatus"', '"status":"up"', '"canServiceDiscovery":true', '"canServiceRegistry":true'),
    "cluster": ('"nodeCount"', '"nodesStatus"'),
    "leases": ('"leaseCount"', '"leasesStatus"', '"isSafe"', "test-status-service"),
    "leases?appIds=test-status-service": ('"leasesStatus"', "test-status-service"),
    "legacy-leases": ('"leaseCount"',),
    "config": ('"sources"', '"properties"', '"node_id"', '"region_id"'),
    "deployment": ('"regionId"', '"ip"', '"port"', '"machineName"', '"protocol"'),
}


async def test_status_api(calls: Calls) -> None:
    first, second, _ = calls.cluster.ids
    instances = [
        instance("test-status-service", f"inst-{number}", f"192.168.1.{number}", "us-east", "zone-1")
        for number in (1, 2, 3)
    ]
    await register(calls, first, instances)
    # Status is a node's own view: ask the one that acknowledged, then the others once they have what it acknowledged.
    assert code_of(await post(calls, second, SERVICE, config(instances[0]))) == "success"
    for node in (first, second):
        for name, texts in STATUS_TEXTS.items():
            kind, _, query = name.partition("?")
            answers = [await get(calls, node, f"{STATUS}{kind}.json" + (f"?{query}" if query else ""))]
            if not query:
                answers.append(await post(calls, node, f"{STATUS}{kind}.json", {}))
            for answer in answers:
                assert code_of(answer) == "success"
                assert [text for text in texts if text not in answer.body.decode()] == []
    await unregister(calls, first, instances)


async def test_web_console(calls: Calls) -> None:
    """The data of the web console's loader, an impossible address included, and what its API check expects of it."""
    first, second, _ = calls.cluster.ids
    of = {"user-service": 2, "order-service": 3, "payment-service": 1}
    instances = [
        instance(
            service_id,
            f"{service_id}-{number}",
            f"192.168.1.{300 if service_id[0] == 'p' else number}",
            "local",
            "zone1",
        )
        | {
            "metadata": {"version": "1.0.0"},
            "status": "starting" if (service_id, number) == ("order-service", 3) else "up",
        }
        for service_id, count in of.items()
        for number in range(1, count + 1)
    ]
    await register(calls, first, instances)
    listed = orjson.loads((await post(calls, second, SERVICES, {"region_id": "local", "zone_id": "zone1"})).body)
    services = {service["service_id"]: service["instances"] for service in listed["services"]}
    assert {service_id: len(services[service_id]) for service_id in of} == of
    shown = [one for service_id in of for one in services[service_id]]
    assert [one["status"] for one in shown].count("starting") == 1
    assert all(one["metadata"] for one in shown)
    up = orjson.loads((await post(calls, second, SERVICE, config(instances[0]))).body)
    assert len(up["service"]["instances"]) == 2
    cluster = orjson.loads((await get(calls, second, STATUS + "cluster.json")).body)
    assert cluster["nodeCount"] == len(cluster["nodesStatus"]) == 3
    assert cluster["nodesStatus"][0]["status"] == "up"
    unknown = {"discovery_config": {"service_id": "none", "region_id": "local", "zone_id": "zone1"}}
    assert code_of(await post(calls, second, SERVICE, unknown)) == "bad-request"
    assert (await get(calls, second, "/api/unknown")).status == 404
    await unregister(calls, first, instances)
