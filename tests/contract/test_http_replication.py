"""The replication plane: ``java-http.md`` 1.2 and 8.4, ``rust-http.md`` 3.1 and C21."""

from __future__ import annotations

import pytest

from artemis.api.settings import HttpSettings
from tests.support.http import Api, camel_instance, snake_instance, snake_key
from tests.support.loopback import LoopbackCluster

JAVA = "/artemis/api/replication/registry/"
RUST = "/api/replication/registry/"
SUCCESS = {"errorCode": "success", "message": "", "status": "success"}


def test_what_comes_in_is_ordered_and_on_every_node() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"])
    body = {"instances": [camel_instance()]}
    for operation, count in (("register", 1), ("heartbeat", 1), ("unregister", 0)):
        answer = api.post(f"{JAVA}{operation}.json", body)
        assert answer.json() == {"failedInstances": None, "responseStatus": SUCCESS}
        assert [node.registry.instance_count for node in cluster.nodes.values()] == [count, count]


def test_rust_writes_need_their_header_with_any_value() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"])
    bodies = {
        "register": {"instances": [snake_instance()]},
        "heartbeat": {"instance_keys": [snake_key(snake_instance())]},
        "unregister": {"instance_keys": [snake_key(snake_instance())]},
    }
    for operation, body in bodies.items():
        refused = api.post(f"{RUST}{operation}.json", body)
        assert (refused.status_code, refused.content) == (400, b"")
        assert refused.headers["x-artemis-outcome"] == "not-applied"
        answer = api.post(f"{RUST}{operation}.json", body, x_artemis_replication="false")
        assert answer.json() == {"response_status": {"error_code": "success", "status": "success"}}
    assert cluster["n2"].registry.revision == 2


def test_a_broken_body_is_told_before_the_missing_header() -> None:
    answer = Api(LoopbackCluster()["n1"]).send("POST", RUST + "register.json", content=b"{")
    assert answer.status_code == 400
    assert "not valid JSON" in answer.json()["message"]


def test_a_replayed_registration_makes_no_two_nodes_differ() -> None:
    """The earlier server resurrected it on the one node that was told."""
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"])
    api.post("/api/registry/unregister.json", {"instance_keys": [snake_key(snake_instance())]})
    api.post(RUST + "register.json", {"instances": [snake_instance()]}, x_artemis_replication="1")
    config = {"discovery_config": {"service_id": "test-service"}}
    answers = [Api(node).post("/api/discovery/service.json", config).json() for node in cluster.nodes.values()]
    assert answers[0] == answers[1]
    assert answers[0]["service"]["instances"] == [snake_instance()]


def test_a_heartbeat_brings_nobody_back() -> None:
    answer = Api(LoopbackCluster()["n1"]).post(JAVA + "heartbeat.json", {"instances": [camel_instance()]}).json()
    assert answer["failedInstances"][0]["errorCode"] == "data-not-found"


def test_regions_are_checked_and_zones_are_not() -> None:
    settings = HttpSettings(region_id="lab", zone_id="zone1", any_region=False, any_zone=False)
    api = Api(LoopbackCluster()["n1"], settings)
    elsewhere = camel_instance(zoneId="zone9")
    assert api.post("/artemis/api/registry/register.json", {"instances": [elsewhere]}).json()["failedInstances"]
    assert api.post(JAVA + "register.json", {"instances": [elsewhere]}).json()["responseStatus"] == SUCCESS
    foreign = api.post(JAVA + "register.json", {"instances": [camel_instance(regionId="far")]}).json()
    assert foreign["failedInstances"][0]["errorCode"] == "no-permission"
    services = api.post(JAVA + "services.json", {"regionId": "far"}).json()
    assert services["services"] is None
    assert services["responseStatus"]["errorCode"] == "no-permission"
    assert api.get(JAVA + "services.json?regionId=LAB").json()["responseStatus"] == SUCCESS


def test_all_services_are_listed_without_a_version_and_without_filters() -> None:
    api = Api(LoopbackCluster()["n1"])
    down = camel_instance(status="down")
    api.post("/artemis/api/registry/register.json", {"instances": [down]})
    service = {"instances": [down], "logicInstances": None, "metadata": None, "routeRules": None, "serviceId": "svc1"}
    expected = {"responseStatus": SUCCESS, "services": [service]}
    assert api.post(JAVA + "services.json", {"regionId": "lab", "zoneId": "zone1"}).json() == expected
    assert api.get(JAVA + "services.json?regionId=lab").json() == expected
    snake = api.get(RUST + "services.json").json()
    assert [instance["status"] for instance in snake["services"][0]["instances"]] == ["down"]
    assert set(snake) == {"response_status", "services"}


def test_java_nodes_must_name_the_region_they_ask_for() -> None:
    answer = Api(LoopbackCluster()["n1"]).get(JAVA + "services.json")
    assert answer.status_code == 400
    assert "regionId" in answer.json()["message"]


def test_without_a_leader_it_refuses_like_every_other_door() -> None:
    cluster = LoopbackCluster()
    cluster.leader_id = None
    api = Api(cluster["n1"])
    answer = api.post(JAVA + "register.json", {"instances": [camel_instance()]})
    assert answer.json()["responseStatus"]["errorCode"] == "service-unavailable"
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert api.get(RUST + "services.json").json()["response_status"]["error_code"] == "service-unavailable"


@pytest.mark.parametrize("path", [RUST + "register", RUST + "services", JAVA + "register"])
def test_these_paths_exist_with_their_suffix_only(path: str) -> None:
    assert Api(LoopbackCluster()["n1"]).post(path, {}).status_code == 404


def test_the_doors_are_counted_and_limited_apart() -> None:
    settings = HttpSettings(rate_limits={"replication-register": 10_000_000, "register": 10_000_000})
    api = Api(LoopbackCluster()["n1"], settings)
    api.post(JAVA + "register.json", {"instances": [camel_instance()]})
    metrics = api.get("/metrics").text
    assert 'artemis_http_requests_total{operation="replication-register",outcome="success"} 1.0' in metrics
    assert "artemis_register_requests_total 0.0" in metrics
