"""The earlier Rust server's later clients: camelCase, paths without a suffix (``java-client-and-push.md`` 10, 11)."""

from __future__ import annotations

from typing import Any

import pytest

from artemis.api.settings import HttpSettings
from artemis.commands import Register
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster

SUCCESS = {"responseStatus": {"status": "success", "errorCode": "success"}}


def key(instance: dict[str, Any]) -> dict[str, Any]:
    return {name: instance[name] for name in ("regionId", "zoneId", "serviceId", "instanceId")} | {"groupId": ""}


def config(service_id: str) -> dict[str, Any]:
    return {"serviceId": service_id, "regionId": "lab", "zoneId": "zone1"}


def test_the_calls_of_a_client_in_its_order() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api, other = Api(cluster["n1"]), Api(cluster["n2"])
    instance = camel_instance(groupId=None, metadata=None, healthCheckUrl=None)
    shown = {name: value for name, value in instance.items() if value is not None}
    assert api.post("/api/registry/register", {"instances": [instance]}).json() == SUCCESS
    keys = {"instanceKeys": [key(instance)]}
    assert other.post("/api/registry/heartbeat", keys).json() == SUCCESS
    found = other.post("/api/discovery/service", {"discoveryConfig": config("svc1")}).json()
    assert found == {**SUCCESS, "service": {"serviceId": "svc1", "instances": [shown]}}
    listed = api.get("/api/discovery/services?regionId=lab&zoneId=zone1").json()
    assert listed == {**SUCCESS, "services": [found["service"]], "version": 1}
    looked_up = api.post("/api/discovery/lookup", {"discoveryConfigs": [config("svc1"), config("none")]}).json()
    assert looked_up["services"] == [found["service"], {"serviceId": "none", "instances": []}]
    assert api.post("/api/registry/unregister", keys).json() == SUCCESS
    assert other.post("/api/discovery/service", {"discoveryConfig": config("svc1")}).json() == {
        "responseStatus": {"status": "fail", "errorCode": "bad-request", "errorMessage": "Service not found: svc1"}
    }


def test_what_is_unknown_comes_back_as_the_keys_that_were_sent() -> None:
    sent = key(camel_instance(instanceId="gone"))
    answer = Api(LoopbackCluster()["n1"]).post("/api/registry/heartbeat", {"instanceKeys": [sent]}).json()
    assert answer["failedInstanceKeys"] == [sent]
    assert answer["responseStatus"]["errorCode"] == "bad-request"


def test_failed_registrations_are_bare_instances_with_a_reason() -> None:
    sent = camel_instance(instanceId=" ")
    answer = Api(LoopbackCluster()["n1"]).post("/api/registry/register", {"instances": [sent]}).json()
    assert answer["responseStatus"] == {
        "status": "partial_fail",
        "errorCode": "bad-request",
        "errorMessage": "Some registrations failed",
    }
    reason = {"errorCode": "internal-service-error", "errorMessage": "Exception: instance.instanceId is blank"}
    assert answer["failedInstances"] == [sent | reason]


def test_its_default_lease_is_three_of_its_beats() -> None:
    cluster = LoopbackCluster()
    Api(cluster["n1"]).post("/api/registry/register", {"instances": [camel_instance()]})
    (command,) = cluster["n1"].proposed
    assert isinstance(command, Register)
    assert command.items[0].ttl_ms == 90_000


@pytest.mark.parametrize(
    "path", ["/api/discovery/service.json", "/artemis/api/discovery/service", "/ctx/api/discovery/service"]
)
def test_elsewhere_camel_case_is_answered_as_java_clients_expect(path: str) -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(contexts=("/ctx",)))
    answer = api.post(path, {"discoveryConfig": config("none")}).json()
    assert answer["responseStatus"] == {"errorCode": "success", "message": "", "status": "success"}
    assert answer["service"]["instances"] is None


def test_snake_case_is_answered_in_snake_case_on_every_path() -> None:
    api = Api(LoopbackCluster()["n1"])
    for path in ("/api/discovery/services", "/api/discovery/services.json", "/artemis/api/discovery/services.json"):
        assert "response_status" in api.post(path, {"region_id": "lab"}).json()


def test_without_a_hint_the_setting_decides() -> None:
    seed, later = (Api(LoopbackCluster()["n1"], HttpSettings(snake_default=value)) for value in (True, False))
    assert "response_status" in seed.get("/api/discovery/services").json()
    assert later.get("/api/discovery/services").json()["responseStatus"] == SUCCESS["responseStatus"]
    assert "message" in later.get("/api/discovery/services.json").json()["responseStatus"]


LOOKUP = "/api/discovery/lookup.json"


def picks(api: Api, times: int = 1, **body: object) -> list[str]:
    answers = [api.post(LOOKUP, {"discovery_config": {"service_id": "Svc1"}, **body}) for _ in range(times)]
    assert {answer.status_code for answer in answers} == {200}
    assert all(b'{"success":true,"instance":{' in answer.content for answer in answers)
    return [answer.json()["instance"]["instance_id"] for answer in answers]


def test_a_look_up_by_one_config_picks_an_instance_that_is_up() -> None:
    api = Api(LoopbackCluster()["n1"])
    instances = [camel_instance(instance_id=name) for name in "abc"] + [camel_instance(instance_id="x", status="down")]
    api.post("/api/registry/register", {"instances": instances})
    turns = picks(api, 6, strategy="round-robin")
    assert turns[:3] == turns[3:]
    assert sorted(turns[:3]) == ["a", "b", "c"]
    assert set(picks(api, 60, strategy="random")) == {"a", "b", "c"}
    assert set(picks(api, 60)) == {"a", "b", "c"}
    camel = api.post(LOOKUP, {"discoveryConfig": config("svc1")}).json()
    assert camel["instance"]["serviceId"] == "svc1"


def test_a_look_up_by_one_config_finds_nothing() -> None:
    api = Api(LoopbackCluster()["n1"])
    api.post("/api/registry/register", {"instances": [camel_instance(status="starting")]})
    for service_id, message in (("X", "Service not found: x"), ("svc1", "No instances found for service: svc1")):
        answer = api.post(LOOKUP, {"discovery_config": {"service_id": service_id}, "strategy": "random"})
        assert (answer.status_code, answer.json()) == (404, {"success": False, "message": message})


def test_a_look_up_by_one_config_of_a_node_cut_off_is_refused() -> None:
    cluster = LoopbackCluster()
    cluster["n1"].cut_off = True
    answer = Api(cluster["n1"]).post(LOOKUP, {"discovery_config": {"service_id": "svc1"}})
    assert (answer.status_code, answer.json()["success"]) == (503, False)


def test_a_look_up_by_a_list_stays_what_it_was() -> None:
    both = {"discoveryConfig": config("a"), "discoveryConfigs": [config("b")]}
    answer = Api(LoopbackCluster()["n1"]).post(LOOKUP, both).json()
    assert [service["serviceId"] for service in answer["services"]] == ["b"]
