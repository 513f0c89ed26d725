"""lookup, service, services and services-delta in both dialects: ``java-http.md`` 4.5 and 6, ``rust-http.md`` 1.2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from artemis.api import discovery_routes
from artemis.api.settings import HttpSettings
from artemis.commands import Proposal, Unregister
from artemis.model import InstanceKey
from artemis.registry import StateLimits
from tests.support.http import NOW_MS, Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster

CAMEL = "/artemis/api/discovery/"
SNAKE = "/api/discovery/"
REGISTER = "/artemis/api/registry/register.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
SUCCESS = {"errorCode": "success", "message": "", "status": "success"}


def registered(*instances: dict[str, Any], settings: HttpSettings | None = None) -> tuple[LoopbackCluster, Api]:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"], settings)
    for instance in instances:
        assert api.post(REGISTER, {"instances": [instance]}).json()["responseStatus"] == SUCCESS
    return cluster, api


def config(service_id: str | None) -> dict[str, Any]:
    return {"discoveryData": {"appid": "1001"}, "regionId": None, "serviceId": service_id, "zoneId": None}


def test_lookup_answers_in_the_order_asked_and_with_every_null_written() -> None:
    _, api = registered(camel_instance(), camel_instance("svc2"))
    body = {"discoveryConfigs": [config("none"), config("SVC2"), config("svc1")], "regionId": "lab", "zoneId": "zone1"}
    answer = api.post(CAMEL + "lookup.json", body)
    empty = {"logicInstances": None, "metadata": None, "routeRules": None}
    assert answer.json() == {
        "responseStatus": SUCCESS,
        "services": [
            {"instances": None, "serviceId": "none", **empty},
            {"instances": [camel_instance("svc2")], "serviceId": "svc2", **empty},
            {"instances": [camel_instance()], "serviceId": "svc1", **empty},
        ],
    }


def test_camel_case_answers_have_sorted_keys() -> None:
    _, api = registered(camel_instance(metadata=None))
    answer = api.post(CAMEL + "lookup.json", {"discoveryConfigs": [config("svc1")]})
    assert answer.content == (
        b'{"responseStatus":{"errorCode":"success","message":"","status":"success"},"services":['
        b'{"instances":[{"groupId":"g1","healthCheckUrl":"http://10.0.0.1:8090/health","instanceId":"i1",'
        b'"ip":"10.0.0.1","machineName":"host-a","metadata":null,"port":8090,"protocol":"http","regionId":"lab",'
        b'"serviceId":"svc1","status":"up","url":"http://10.0.0.1:8090/svc","zoneId":"zone1"}],'
        b'"logicInstances":null,"metadata":null,"routeRules":null,"serviceId":"svc1"}]}'
    )


def test_lookup_answers_a_service_as_often_as_it_is_named_while_that_is_not_the_whole_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, api = registered(camel_instance(), camel_instance("svc2"))
    once = len(api.post(CAMEL + "lookup.json", {"discoveryConfigs": [config("svc1")]}).content)
    monkeypatch.setattr(discovery_routes, "REPEATED_BYTES_MAX", 3 * once)
    body = {"discoveryConfigs": [config("svc1"), config("svc2"), config("SVC1"), config("svc2")]}
    services = [service["serviceId"] for service in api.post(CAMEL + "lookup.json", body).json()["services"]]
    assert services == ["svc1", "svc2", "svc1", "svc2"]
    answer = api.post(CAMEL + "lookup.json", {"discoveryConfigs": [config("svc1")] * 6}).json()
    assert answer["responseStatus"]["errorCode"] == "bad-request"
    assert "name each once" in answer["responseStatus"]["message"]
    many = {"discoveryConfigs": [config(f"unknown-{number}") for number in range(1_000)]}
    assert len(api.post(CAMEL + "lookup.json", many).json()["services"]) == 1_000


def test_lookup_skips_null_and_blank_configs() -> None:
    _, api = registered(camel_instance())
    configs = [None, config(None), config(" "), {}, config("svc1")]
    services = api.post(CAMEL + "lookup.json", {"discoveryConfigs": configs}).json()["services"]
    assert [service["serviceId"] for service in services] == ["svc1"]


@pytest.mark.parametrize("body", [{}, {"discoveryConfigs": None}, {"discoveryConfigs": []}])
def test_lookup_of_nothing_is_a_bad_request(body: object) -> None:
    _, api = registered()
    assert api.post(CAMEL + "lookup.json", body).json() == {
        "responseStatus": {
            "errorCode": "bad-request",
            "message": "Request is null or request.discoveryConfigs is empty.",
            "status": "fail",
        },
        "services": None,
    }


def test_service_of_an_unknown_id_is_an_empty_service_in_camel_case() -> None:
    _, api = registered()
    assert api.post(CAMEL + "service.json", {"discoveryConfig": config("None")}).json() == {
        "responseStatus": SUCCESS,
        "service": {
            "instances": None,
            "logicInstances": None,
            "metadata": None,
            "routeRules": None,
            "serviceId": "None",
        },
    }


def test_service_of_an_unknown_id_is_a_bad_request_in_snake_case() -> None:
    _, api = registered()
    assert api.post(SNAKE + "service", {"discovery_config": {"service_id": "NoNe"}}).json() == {
        "response_status": {
            "status": "fail",
            "error_code": "bad-request",
            "error_message": "Service not found: none",
        }
    }


@pytest.mark.parametrize("body", [{}, {"discoveryConfig": None}, {"discoveryConfig": config(" ")}])
def test_service_without_an_id_is_a_bad_request(body: object) -> None:
    _, api = registered()
    answer = api.post(CAMEL + "service.json", body).json()
    assert answer["service"] is None
    assert answer["responseStatus"]["errorCode"] == "bad-request"
    assert answer["responseStatus"]["message"] == "Request is null or request.discoveryConfig is null."


def test_get_service_takes_its_id_from_the_query_in_either_spelling() -> None:
    _, api = registered(camel_instance())
    camel = api.get(CAMEL + "service.json?serviceId=SVC1&regionId=lab&zoneId=zone1").json()
    assert camel["service"]["instances"] == [camel_instance()]
    snake = api.get(CAMEL + "service?service_id=svc1").json()
    assert snake["service"]["instances"][0]["instance_id"] == "i1"
    missing = api.get(CAMEL + "service.json?regionId=lab")
    assert missing.status_code == 400
    assert "serviceId" in missing.json()["message"]


def test_camel_case_shows_instances_of_every_status_and_snake_case_those_that_are_up() -> None:
    statuses = ["up", "down", "starting", "unhealthy", "unknown", None, "odd"]
    _, api = registered(*(camel_instance(instance_id=f"i{n}", status=s) for n, s in enumerate(statuses)))
    camel = api.post(CAMEL + "service.json", {"discoveryConfig": config("svc1")}).json()
    assert [instance["status"] for instance in camel["service"]["instances"]] == statuses
    snake = api.post(SNAKE + "service", {"discovery_config": {"service_id": "svc1"}}).json()
    assert [instance["instance_id"] for instance in snake["service"]["instances"]] == ["i0", "i5"]
    looked_up = api.post(SNAKE + "lookup", {"discovery_configs": [{"service_id": "svc1"}, {"service_id": "x"}]}).json()
    assert [len(service["instances"]) for service in looked_up["services"]] == [2, 0]
    listed = api.get(SNAKE + "services").json()
    assert len(listed["services"][0]["instances"]) == len(statuses)


def test_a_service_whose_instances_are_all_down_is_an_empty_success_in_snake_case() -> None:
    _, api = registered(camel_instance(status="down"))
    answer = api.post(SNAKE + "service", {"discovery_config": {"service_id": "svc1"}}).json()
    assert answer["response_status"]["error_code"] == "success"
    assert answer["service"] == {"service_id": "svc1", "instances": []}


@pytest.mark.parametrize("path", ["lookup.json", "service.json"])
def test_another_region_is_refused_where_the_node_says_so(path: str) -> None:
    _, api = registered(
        camel_instance(), settings=HttpSettings(region_id="lab", zone_id="z", any_region=False, any_zone=True)
    )
    asked = {"discoveryConfigs": [config("svc1")], "discoveryConfig": config("svc1")}
    for region_id, code in (("LAB", "success"), ("other", "no-permission"), (None, "no-permission")):
        answer = api.post(CAMEL + path, {**asked, "regionId": region_id, "zoneId": "zone9"}).json()
        assert answer["responseStatus"]["errorCode"] == code
    assert answer["responseStatus"]["message"] == (
        "regionId is not the same as the registry node. regionId: null, registry node.regionId: lab"
    )
    assert api.post(CAMEL + "services.json", {"regionId": "other"}).json()["responseStatus"] == SUCCESS


def test_bad_request_comes_before_unavailable_and_unavailable_before_the_region() -> None:
    cluster, api = registered(settings=HttpSettings(region_id="lab", any_region=False))
    cluster.leader_id = None
    bodies: list[dict[str, Any]] = [{"discoveryConfigs": []}, {"discoveryConfigs": [config("svc1")], "regionId": "x"}]
    codes = [api.post(CAMEL + "lookup.json", body).json()["responseStatus"]["errorCode"] for body in bodies]
    assert codes == ["bad-request", "service-unavailable"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_services_lists_everything_with_the_cluster_revision_as_version(method: str) -> None:
    cluster, api = registered(camel_instance("b"), camel_instance("a", "i1"), camel_instance("a", "i2", status="down"))
    body: dict[str, str] | None = {"regionId": "lab", "zoneId": "zone1"} if method == "POST" else None
    answer = api.send(method, CAMEL + "services.json", body=body).json()
    assert answer["responseStatus"] == SUCCESS
    assert answer["version"] == cluster["n1"].registry.revision == 3
    assert {
        service["serviceId"]: [instance["instanceId"] for instance in service["instances"]]
        for service in answer["services"]
    } == {"b": ["i1"], "a": ["i1", "i2"]}
    snake = api.send(method, SNAKE + "services", body=None if body is None else {}).json()
    assert snake["version"] == 3
    assert snake["response_status"] == {"status": "success", "error_code": "success"}


def test_a_long_list_is_of_one_revision_although_it_takes_several_turns() -> None:
    cluster, api = registered()
    instances = [camel_instance(f"svc{n % 50}", f"i{n}") for n in range(5_000)]
    api.post(REGISTER, {"instances": instances})
    node = cluster["n1"]
    revision = node.registry.revision
    keys = tuple(InstanceKey("lab", instance["serviceId"], instance["instanceId"]) for instance in instances)
    seen_counts: list[int] = []

    def unregister_all() -> None:
        cluster.order(Proposal("n1", 1, 99, None, cluster.clock_ms, Unregister(keys)))
        node.catch_up()
        seen_counts.append(node.registry.instance_count)

    async def barrier(*, timeout_ms: int) -> None:
        # Runs at the first turn the handler gives up after this.
        asyncio.get_running_loop().call_soon(unregister_all)

    node.barrier = barrier  # type: ignore[method-assign]
    answer = api.get(CAMEL + "services.json").json()
    assert seen_counts == [0]
    assert answer["version"] == revision
    assert sum(len(service["instances"]) for service in answer["services"]) == 5_000


def delta(api: Api, version: object, **headers: str) -> Any:
    return api.post(
        CAMEL + "services-delta.json", {"regionId": "lab", "zoneId": "zone1", "version": version}, **headers
    )


def test_delta_lists_every_later_change_of_each_service_in_order() -> None:
    cluster, api = registered(camel_instance("gone"), camel_instance("Svc1"))
    cluster.advance(1_000)
    api.post(REGISTER, {"instances": [camel_instance("Svc1", port=1), camel_instance("svc1", "i2")]})
    cluster.advance(500)
    api.post(UNREGISTER, {"instances": [camel_instance("gone"), camel_instance("svc1", "i2")]})
    cluster.advance(250)
    answer = delta(api, 2).json()
    assert answer == {
        "delta": {
            "Svc1": [
                {"changeTime": NOW_MS - 750, "changeType": "change", "instance": camel_instance("Svc1", port=1)},
                {"changeTime": NOW_MS - 750, "changeType": "new", "instance": camel_instance("svc1", "i2")},
                {"changeTime": NOW_MS - 250, "changeType": "delete", "instance": camel_instance("svc1", "i2")},
            ],
            "gone": [{"changeTime": NOW_MS - 250, "changeType": "delete", "instance": camel_instance("gone")}],
        },
        "responseStatus": SUCCESS,
        "version": 6,
    }
    assert delta(api, answer["version"]).json() == {"delta": {}, "responseStatus": SUCCESS, "version": 6}
    snake = api.post(SNAKE + "services-delta", {"region_id": "lab", "version": 5}).json()
    ((service_id, (change,)),) = snake["delta"].items()
    assert (service_id, change["change_type"], change["change_time"]) == ("svc1", "delete", NOW_MS - 250)
    assert snake["version"] == 6


def test_delta_of_a_version_no_longer_kept_is_not_found_and_names_the_oldest() -> None:
    cluster = LoopbackCluster(limits=StateLimits(changes_max=3))
    api = Api(cluster["n1"])
    for number in range(10):
        api.post(REGISTER, {"instances": [camel_instance(instance_id=f"i{number}")]})
    not_found = {
        "delta": None,
        "responseStatus": {"errorCode": "data-not-found", "message": "Delta is not found.", "status": "fail"},
        "version": 0,
    }
    for version in (0, None, -5, 6):
        answer = delta(api, version)
        assert answer.json() == not_found
        assert answer.headers["x-artemis-compacted"] == "7"
    assert len(delta(api, 7).json()["delta"]["svc1"]) == 3
    snake = api.post(SNAKE + "services-delta", {"version": 1})
    assert snake.json() == {
        "response_status": {"status": "fail", "error_code": "bad-request", "error_message": "Delta is not found."},
        "version": 0,
    }


def test_delta_of_version_zero_is_not_found_even_if_everything_is_kept() -> None:
    _, api = registered(camel_instance())
    answer = delta(api, 0)
    assert answer.json()["responseStatus"]["errorCode"] == "data-not-found"
    assert answer.headers["x-artemis-compacted"] == "0"


def test_delta_of_a_version_the_cluster_has_not_reached() -> None:
    cluster, api = registered(camel_instance())
    # The earlier servers' versions were times: whoever has one of theirs reads everything, as they told it to.
    for version in (2, 1_795_454_141_868, 2**63 - 1):
        answer = delta(api, version)
        assert answer.json() == {
            "delta": None,
            "responseStatus": {"errorCode": "data-not-found", "message": "Delta is not found.", "status": "fail"},
            "version": 0,
        }
        assert "x-artemis-compacted" not in answer.headers
    # A stale read may just be behind, a session one waits: neither may say that nothing changed.
    for level in ("stale", "session"):
        behind = delta(api, 2, x_artemis_consistency=level).json()
        assert behind["responseStatus"]["errorCode"] == "service-unavailable"
    assert cluster["n1"].registry.revision == 1


def test_delta_sees_evictions() -> None:
    cluster, api = registered(camel_instance(leaseTtlMs=5_000))
    cluster.advance(6_000)
    (change,) = delta(api, 1).json()["delta"]["svc1"]
    assert change["changeType"] == "delete"


def test_a_cache_too_small_for_anything_changes_no_answer() -> None:
    instances = [camel_instance(f"svc{n}") for n in range(4)]
    _, plain = registered(*instances)
    for bytes_max in (1, 800, 1_600):
        _, bounded = registered(*instances, settings=HttpSettings(cache_bytes_max=bytes_max))
        for _ in range(2):
            for path in ("services.json", "service.json?serviceId=svc1", "service?service_id=svc1"):
                assert bounded.get(CAMEL + path).json() == plain.get(CAMEL + path).json()


def test_answers_follow_every_change_of_a_service() -> None:
    _, api = registered(camel_instance())
    body = {"discoveryConfigs": [config("svc1")]}
    for port in range(5):
        api.post(REGISTER, {"instances": [camel_instance(port=port)]})
        assert api.post(CAMEL + "lookup.json", body).json()["services"][0]["instances"][0]["port"] == port
    api.post(UNREGISTER, {"instances": [camel_instance()]})
    assert api.post(CAMEL + "lookup.json", body).json()["services"][0]["instances"] is None
    api.post(REGISTER, {"instances": [snake_instance("svc1")]})
    assert len(api.post(CAMEL + "lookup.json", body).json()["services"][0]["instances"]) == 1
