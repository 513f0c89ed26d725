"""up-registry-nodes and up-discovery-nodes (``java-http.md`` 8.2), and the operations plane."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from artemis.api.settings import HttpSettings
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster

REGISTRY_NODES = "/artemis/api/cluster/up-registry-nodes.json"
DISCOVERY_NODES = "/artemis/api/cluster/up-discovery-nodes.json"


def urls(api: Api, path: str = REGISTRY_NODES, body: object = None) -> list[str]:
    return [node["url"] for node in api.post(path, body or {"regionId": "lab", "zoneId": "zone1"}).json()["nodes"]]


@pytest.mark.parametrize("path", [REGISTRY_NODES, DISCOVERY_NODES])
def test_nodes_are_listed_as_announced(path: str) -> None:
    cluster = LoopbackCluster("n1", "n2")
    expected = {
        "nodes": [
            {
                "url": "http://n1.test:8080",
                "zone": {"metadata": None, "regionId": "lab", "zoneId": "zone1"},
            },
            {
                "url": "http://n2.test:8080",
                "zone": {"metadata": None, "regionId": "lab", "zoneId": "zone2"},
            },
        ],
        "responseStatus": {"errorCode": "success", "message": "", "status": "success"},
    }
    api = Api(cluster["n1"])
    assert api.post(path, {"regionId": "lab", "zoneId": "zone1"}).json() == expected
    assert api.post(path, {}).json() == expected
    assert api.get(path).json() == expected
    assert api.get(path + "?regionId=lab&zoneId=zone1").json() == expected
    snake = api.get(path.replace("/artemis", "")).json()
    assert snake["nodes"][0] == {"url": "http://n1.test:8080", "zone": {"region_id": "lab", "zone_id": "zone1"}}


def test_own_zone_comes_first() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    api = Api(cluster["n3"], HttpSettings(region_id="lab", zone_id="zone2"))
    assert urls(api) == ["http://n2.test:8080", "http://n3.test:8080", "http://n1.test:8080"]


def test_only_nodes_in_reach_are_listed_without_asking_the_leader() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    cluster.leader_id = None
    cluster["n1"].disconnected = {"n3"}
    api = Api(cluster["n1"])
    assert urls(api) == ["http://n1.test:8080", "http://n2.test:8080"]
    cluster["n1"].ready = False
    assert urls(api) == ["http://n2.test:8080"]
    cluster["n1"].disconnected = {"n2", "n3"}
    assert api.post(REGISTRY_NODES, {}).json() == {
        "nodes": None,
        "responseStatus": {
            "errorCode": "data-not-found",
            "message": "No available service nodes.",
            "status": "fail",
        },
    }


def test_nodes_that_refuse_other_zones_are_named_to_their_own_only() -> None:
    api = Api(LoopbackCluster("n1", "n2")["n1"], HttpSettings(region_id="lab", zone_id="zone1", any_zone=False))
    assert urls(api, body={"regionId": "lab", "zoneId": "zone2"}) == ["http://n2.test:8080"]


@pytest.mark.parametrize("path", ["/health", "/livez"])
def test_health_says_that_the_process_answers_whatever_the_cluster_does(path: str) -> None:
    cluster = LoopbackCluster()
    cluster.leader_id = None
    cluster["n1"].ready = False
    answer = Api(cluster["n1"]).get(path)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_readyz_says_whether_the_node_should_be_given_work_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = LoopbackCluster("n1", "n2")
    node = cluster["n1"]
    api = Api(node)
    assert (api.get("/readyz").status_code, api.get("/readyz").text) == (200, "ok")
    assert "[+]leader known (n1, term 3)" in api.get("/readyz?verbose").text
    node.reasons = ("the disk answers slowly",)
    assert (api.get("/readyz").status_code, api.get("/readyz").text) == (503, "not ready")
    assert "[-]the disk answers slowly" in api.get("/readyz?verbose").text
    node.reasons = ()
    node.ready = False
    assert api.get("/readyz").status_code == 503
    assert "[-]caught up since start" in api.get("/readyz?verbose=true").text
    node.ready = True
    cluster.leader_id = None
    assert api.get("/readyz").status_code == 503
    assert "[-]leader known (none, term 3)" in api.get("/readyz?verbose=1").text
    cut_off = replace(node.status(), leader_id="n2", known_leader=False)
    monkeypatch.setattr(node, "status", lambda: cut_off)
    assert "[-]leader known (none; the last was n2, term 3)" in api.get("/readyz?verbose=1").text


def test_readyz_and_metrics_say_how_the_state_compares_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    node = LoopbackCluster("n1", "n2", "n3")["n1"]
    api, well = Api(node), node.status()
    said = "[+]state compared with the others' (not yet)"
    assert said in api.get("/readyz?verbose").text
    compared = replace(well, verified_index=7, differing=("n3",))
    monkeypatch.setattr(node, "status", lambda: compared)
    assert api.get("/readyz").status_code == 200
    said = "[+]state compared with the others' (equal to a majority's at entry 7); n3 differs from it"
    assert said in api.get("/readyz?verbose").text
    assert samples(api)["artemis_state_differing_peers", ()] == 1
    wrong = replace(well, quarantined=True, ready=False, reasons=("its state differs from that of a majority",))
    monkeypatch.setattr(node, "status", lambda: wrong)
    assert api.get("/readyz").status_code == 503
    text = api.get("/readyz?verbose").text
    assert "[-]state compared" in text
    assert "[-]its state differs from that of a majority" in text
    assert samples(api)["artemis_state_quarantined", ()] == 1


def samples(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_four_documented_metrics_move() -> None:
    api = Api(LoopbackCluster()["n1"])
    names = (
        "artemis_register_requests_total",
        "artemis_heartbeat_requests_total",
        "artemis_discovery_requests_total",
        "artemis_active_instances",
    )
    assert [samples(api)[name, ()] for name in names] == [0, 0, 0, 0]
    body = {"instances": [camel_instance(), camel_instance(instance_id="i2")]}
    api.post("/artemis/api/registry/register.json", body)
    for _ in range(2):
        api.post("/artemis/api/registry/heartbeat.json", body)
    for path in ("service?serviceId=svc1", "services", "service?serviceId=x"):
        api.get(f"/artemis/api/discovery/{path}")
    assert [samples(api)[name, ()] for name in names] == [1, 2, 3, 2]


def test_requests_are_counted_and_timed_by_operation_and_outcome() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"])
    register = "/artemis/api/registry/register.json"
    api.post(register, {"instances": [camel_instance()]})
    api.post(register, {"instances": [camel_instance(url=None)]})
    api.post(register, {})
    api.post(register, [])
    api.get(register)
    cluster.leader_id = None
    api.post(register, {"instances": [camel_instance()]})
    api.get("/artemis/api/discovery/services")
    seen = samples(api)
    counted = {labels: value for (name, labels), value in seen.items() if name == "artemis_http_requests_total"}
    assert counted == {
        (("operation", "register"), ("outcome", "success")): 1,
        (("operation", "register"), ("outcome", "partial_fail")): 1,
        (("operation", "register"), ("outcome", "bad-request")): 1,
        (("operation", "register"), ("outcome", "http-400")): 1,
        (("operation", "register"), ("outcome", "http-405")): 1,
        (("operation", "register"), ("outcome", "service-unavailable")): 1,
        (("operation", "services"), ("outcome", "service-unavailable")): 1,
    }
    for labels, value in counted.items():
        assert seen["artemis_http_request_duration_seconds_count", labels] == value
        assert seen["artemis_http_request_duration_seconds_bucket", tuple(sorted((*labels, ("le", "+Inf"))))] == value
        assert 0 < seen["artemis_http_request_duration_seconds_sum", labels] < 10


def test_the_state_of_the_node_is_exported() -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].apply_lag_ms = 1_500
    cluster["n2"].disconnected = {"n1"}
    Api(cluster["n1"]).post("/artemis/api/registry/register.json", {"instances": [camel_instance()]})
    seen = samples(Api(cluster["n2"]))
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("artemis_raft_term", ()): 3,
        ("artemis_raft_commit_index", ()): 3,
        ("artemis_raft_applied_index", ()): 3,
        ("artemis_raft_apply_lag_seconds", ()): 1.5,
        ("artemis_raft_known_leader", ()): 1,
        ("artemis_raft_is_leader", ()): 0,
        ("artemis_raft_role", (("role", "follower"),)): 1,
        ("artemis_raft_role", (("role", "leader"),)): 0,
        ("artemis_raft_peer_connected", (("peer", "n1"),)): 0,
        ("artemis_node_ready", ()): 1,
        ("artemis_registry_revision", ()): 1,
        ("artemis_registry_instances", ()): 1,
        ("artemis_registry_services", ()): 1,
        ("artemis_registry_leases", ()): 1,
        ("artemis_lease_clock_seconds", ()): 1,
    }
    assert {name: seen.get(name) for name in expected} == expected
