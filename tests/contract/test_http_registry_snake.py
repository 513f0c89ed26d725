"""register, heartbeat and unregister as the earlier snake_case server had them: ``rust-http.md`` 1.1, 1.2."""

from __future__ import annotations

from typing import Any

import pytest

from artemis.api.settings import HttpSettings
from artemis.commands import Register
from tests.support.http import Api, camel_instance, snake_instance, snake_key
from tests.support.loopback import LoopbackCluster

REGISTER = "/api/registry/register"
HEARTBEAT = "/api/registry/heartbeat"
UNREGISTER = "/api/registry/unregister"
SERVICE = "/api/discovery/service"

SUCCESS = {"response_status": {"status": "success", "error_code": "success"}}


def found(api: Api, service_id: str = "test-service") -> list[dict[str, Any]] | None:
    config = {"service_id": service_id, "region_id": "local", "zone_id": "zone1"}
    answer = api.post(SERVICE, {"discovery_config": config}).json()
    if answer["response_status"]["error_code"] == "bad-request":
        assert answer["response_status"]["error_message"] == f"Service not found: {service_id.lower()}"
        return None
    instances: list[dict[str, Any]] = answer["service"]["instances"]
    return instances


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_the_steps_of_the_earlier_cluster_script(suffix: str) -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    apis = [Api(node) for node in cluster.nodes.values()]
    instance = snake_instance()
    keys = {"instance_keys": [snake_key(instance)]}
    assert apis[0].post(REGISTER + suffix, {"instances": [instance]}).json() == SUCCESS
    assert [found(api) for api in apis] == [[instance]] * 3
    assert [api.post(HEARTBEAT + suffix, keys).json() for api in apis] == [SUCCESS] * 3
    assert apis[0].post(UNREGISTER + suffix, keys).json() == SUCCESS
    assert [found(api) for api in apis] == [None] * 3


def test_all_fields_come_back_and_absent_ones_are_omitted() -> None:
    api = Api(LoopbackCluster()["n1"])
    full = snake_instance(
        instance_id="full",
        group_id="g",
        machine_name="m",
        protocol="http",
        health_check_url="http://h",
        metadata={"Key_A": "v"},
    )
    bare = snake_instance(instance_id="bare", group_id=None, metadata=None)
    api.post(REGISTER, {"instances": [full, bare]})
    assert found(api) == [full, snake_instance(instance_id="bare")]


def test_unknown_keys_are_listed_as_sent_and_the_known_renewed() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    known = snake_instance("MySvc")
    api.post(REGISTER, {"instances": [known]})
    unknown = snake_key(snake_instance("MySvc", "Nope"))
    cluster.advance(15_000)
    answer = api.post(HEARTBEAT, {"instance_keys": [unknown, snake_key(known)]})
    assert answer.status_code == 200
    assert answer.json() == {
        "response_status": {
            "status": "partial_fail",
            "error_code": "bad-request",
            "error_message": "Some heartbeats failed",
        },
        "failed_instance_keys": [unknown],
    }
    cluster.advance(15_000)
    assert found(api, "mysvc") == [known]


def test_a_key_in_another_case_names_the_same_instance() -> None:
    """The earlier server answered success to such an unregister and removed nothing."""
    api = Api(LoopbackCluster()["n1"])
    api.post(REGISTER, {"instances": [snake_instance("MySvc")]})
    key = snake_key(snake_instance("mySVC", region_id="LOCAL"))
    assert api.post(HEARTBEAT, {"instance_keys": [key]}).json() == SUCCESS
    assert api.post(UNREGISTER, {"instance_keys": [key]}).json() == SUCCESS
    assert found(api, "MySvc") is None


def test_unregister_of_unknown_keys_succeeds() -> None:
    api = Api(LoopbackCluster()["n1"])
    assert api.post(UNREGISTER, {"instance_keys": [snake_key(snake_instance())]}).json() == SUCCESS


@pytest.mark.parametrize(
    ("path", "body"),
    [(REGISTER, {"instances": []}), (HEARTBEAT, {"instance_keys": []}), (UNREGISTER, {"instance_keys": []})],
)
def test_an_empty_list_succeeds(path: str, body: object) -> None:
    cluster = LoopbackCluster()
    assert Api(cluster["n1"]).post(path, body).json() == SUCCESS
    assert cluster["n1"].proposed == []


@pytest.mark.parametrize("path", [REGISTER, HEARTBEAT, UNREGISTER])
def test_no_list_at_all_is_a_bad_request(path: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).post(path, {})
    assert answer.json() == {
        "response_status": {
            "status": "fail",
            "error_code": "bad-request",
            "error_message": "request.instances is null or empty.",
        }
    }
    assert answer.headers["x-artemis-outcome"] == "not-applied"


def test_instances_are_accepted_in_place_of_keys_and_failures_are_bare_instances_with_a_reason() -> None:
    api = Api(LoopbackCluster()["n1"])
    instance = snake_instance()
    api.post(REGISTER, {"instances": [instance]})
    unknown = snake_instance(instance_id="i2")
    answer = api.post(HEARTBEAT, {"instances": [instance, unknown]}).json()
    assert answer["response_status"]["error_code"] == "bad-request"
    assert answer["failed_instances"] == [
        {**unknown, "error_code": "data-not-found", "error_message": "Instance is not exising! Need re-register."}
    ]
    assert api.post(UNREGISTER, {"instances": [instance]}).json() == SUCCESS
    assert found(api) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"service_id": ""}, "Exception: instance.serviceId is blank"),
        ({"instance_id": ""}, "Exception: instance.instanceId is blank"),
        ({"port": 70_000}, "Exception: instance.port: 0 to 65535 is allowed, not 70000"),
        ({"port": -1}, "Exception: instance.port: 0 to 65535 is allowed, not -1"),
        ({"lease_ttl_ms": 5}, "instance.lease_ttl_ms: 1000 to 604800000 milliseconds are allowed, not 5"),
    ],
)
def test_a_broken_rule_fails_that_instance(changed: dict[str, Any], message: str) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).post(REGISTER, {"instances": [snake_instance(**changed)]}).json()
    assert answer["response_status"] == {
        "status": "partial_fail",
        "error_code": "bad-request",
        "error_message": "Some registrations failed",
    }
    assert [failed["error_message"] for failed in answer["failed_instances"]] == [message]
    assert cluster["n1"].registry.instance_count == 0


def test_an_empty_url_is_allowed() -> None:
    api = Api(LoopbackCluster()["n1"])
    assert api.post(REGISTER, {"instances": [snake_instance(url="")]}).json() == SUCCESS
    assert found(api) == [snake_instance(url="")]


@pytest.mark.parametrize("missing", ["region_id", "service_id", "instance_id"])
def test_a_key_without_a_part_of_its_identity_is_refused_whole(missing: str) -> None:
    """Otherwise an unregister would answer success and remove nothing."""
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [snake_instance()]})
    key = {name: value for name, value in snake_key(snake_instance()).items() if name != missing}
    answer = api.post(UNREGISTER, {"instance_keys": [snake_key(snake_instance()), key]})
    assert answer.status_code == 422
    assert answer.json()["message"] == f"instance_keys[1].{missing}: required, a text"
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert found(api) == [snake_instance()]


def test_no_leader_is_service_unavailable() -> None:
    cluster = LoopbackCluster()
    cluster.leader_id = None
    answer = Api(cluster["n1"]).post(REGISTER, {"instances": [snake_instance()]})
    assert answer.status_code == 200
    status = answer.json()["response_status"]
    assert (status["status"], status["error_code"]) == ("fail", "service-unavailable")
    assert "no leader is known" in status["error_message"]
    assert answer.headers["x-artemis-outcome"] == "not-applied"


@pytest.mark.parametrize(("settings", "ttl_ms"), [(HttpSettings(), 90_000), (HttpSettings(snake_ttl_ms=7_000), 7_000)])
def test_the_default_lease_of_snake_case_clients_is_three_of_their_beats(settings: HttpSettings, ttl_ms: int) -> None:
    """They renew every 30 s unless told otherwise: ``java-client-and-push.md`` 6."""
    cluster = LoopbackCluster()
    Api(cluster["n1"], settings).post(REGISTER, {"instances": [snake_instance()]})
    (command,) = cluster["n1"].proposed
    assert isinstance(command, Register)
    assert command.items[0].ttl_ms == ttl_ms


def test_what_camel_case_registered_fits_a_strict_snake_case_reader() -> None:
    """A missing mandatory text, a port beyond 16 bits or a foreign status would spoil the whole answer for it."""
    api = Api(LoopbackCluster()["n1"])
    api.post(
        "/artemis/api/registry/register.json",
        {
            "instances": [
                {"serviceId": "svc1", "instanceId": "bare", "url": "http://u", "port": 70_000},
                camel_instance(instance_id="odd", status="Weird", metadata={"a": None}),
                camel_instance(instance_id="loud", status="UP"),
            ]
        },
    )
    shown = {instance["instance_id"]: instance for instance in found(api, "svc1") or []}
    assert set(shown) == {"bare", "loud"}
    assert shown["bare"] == {
        "region_id": "",
        "zone_id": "",
        "service_id": "svc1",
        "instance_id": "bare",
        "ip": "",
        "port": 0,
        "url": "http://u",
        "status": "up",
    }
    assert shown["loud"]["status"] == "up"
    listed = api.get("/api/discovery/services").json()["services"][0]["instances"]
    odd = next(instance for instance in listed if instance["instance_id"] == "odd")
    assert (odd["status"], odd["metadata"]) == ("unknown", {"a": ""})
