"""Protection against mass eviction as clients and operators see it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from artemis.commands import Configure
from artemis.protection import CHECK_MS, ProtectionSettings
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster

REGISTER = "/artemis/api/registry/register.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
LOOKUP = "/artemis/api/discovery/lookup.json"
DUE_MS = 20_200


def silent(*services: tuple[str, int]) -> tuple[LoopbackCluster, Api, list[dict[str, object]]]:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    instances = [
        camel_instance(service_id, instance_id=f"{service_id}-{number}")
        for service_id, size in services
        for number in range(size)
    ]
    api.post(REGISTER, {"instances": instances})
    cluster.advance(DUE_MS)
    return cluster, api, instances


def sample(api: Api, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(api.get("/metrics").text)
    (value,) = [
        each.value for family in families for each in family.samples if (each.name, each.labels) == (name, labels)
    ]
    return value


@pytest.mark.parametrize(
    ("services", "said"),
    [((("svc1", 49),), None), ((("svc1", 60),), "services"), ((("svc1", 40), ("svc2", 40)), "registry")],
)
def test_every_answer_says_what_is_protected(services: tuple[tuple[str, int], ...], said: str | None) -> None:
    _, api, _ = silent(*services)
    assert api.post(LOOKUP, {"discoveryConfigs": [{"serviceId": "svc1"}]}).headers.get("x-artemis-protection") == said


def test_held_instances_are_listed_renewed_and_unregistered_as_ever() -> None:
    cluster, api, instances = silent(("svc1", 60))
    found = api.post(LOOKUP, {"discoveryConfigs": [{"serviceId": "svc1"}]}).json()
    assert len(found["services"][0]["instances"]) == 60
    answer = api.post(HEARTBEAT, {"instances": instances[:30]}).json()
    assert answer["responseStatus"]["status"] == "success"
    answer = api.post(UNREGISTER, {"instances": instances[30:]}).json()
    assert answer["responseStatus"]["status"] == "success"
    cluster.advance(CHECK_MS)
    answer = api.post(LOOKUP, {"discoveryConfigs": [{"serviceId": "svc1"}]})
    assert len(answer.json()["services"][0]["instances"]) == 30
    assert "x-artemis-protection" not in answer.headers


def test_metrics_tell_of_leases_and_of_what_is_held() -> None:
    cluster, api, instances = silent(("svc1", 60))
    api.post(HEARTBEAT, {"instances": instances[:50]})
    assert sample(api, "artemis_lease_registrations_total") == 60
    assert sample(api, "artemis_lease_renewals_total") == 50
    assert sample(api, "artemis_lease_held_total") == 60
    assert sample(api, "artemis_lease_evictions_total") == 0
    assert sample(api, "artemis_protection_enabled") == 1
    assert sample(api, "artemis_protection_active") == 0
    assert sample(api, "artemis_protection_services") == 1
    assert sample(api, "artemis_protection_held_leases") == 10
    cluster.advance(300_000)
    assert sample(api, "artemis_protection_held_leases") == 50, "ten ended, and fifty more are due"
    assert sample(api, "artemis_lease_evictions_total") == 10
    assert sample(api, "artemis_lease_expiry_lateness_seconds_bucket", le="300.0") == 10
    assert sample(api, "artemis_lease_expiry_lateness_seconds_bucket", le="60.0") == 0
    assert sample(api, "artemis_lease_expiry_lateness_seconds_sum") == 3_000


def test_the_lateness_of_an_ordinary_end_is_what_the_clock_had_passed_the_deadline() -> None:
    cluster, api, _ = silent()
    api.post(REGISTER, {"instances": [camel_instance()]})
    cluster.advance(DUE_MS + 120)
    assert sample(api, "artemis_lease_expiry_lateness_seconds_bucket", le="0.1") == 0
    assert sample(api, "artemis_lease_expiry_lateness_seconds_bucket", le="0.15") == 1
    assert sample(api, "artemis_lease_expiry_lateness_seconds_sum") == pytest.approx(0.12)


def test_it_can_be_switched_off() -> None:
    cluster, api, _ = silent()
    node = cluster["n1"]
    asyncio.run(node.propose(Configure(ProtectionSettings(enabled=False)), timeout_ms=1_000))
    api.post(REGISTER, {"instances": [camel_instance(instance_id=f"i{number}") for number in range(60)]})
    cluster.advance(DUE_MS)
    assert node.registry.instance_count == 0
    assert sample(api, "artemis_protection_enabled") == 0
