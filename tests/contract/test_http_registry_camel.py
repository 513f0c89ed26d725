"""register, heartbeat and unregister as Java clients know them: ``java-http.md`` 4.1, 4.2, 4.4, 5.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from artemis.api.settings import HttpSettings
from artemis.commands import Register, Renew
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster

REGISTER = "/artemis/api/registry/register.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
LOOKUP = "/artemis/api/discovery/lookup.json"
OPERATIONS = (REGISTER, HEARTBEAT, UNREGISTER)

SUCCESS = b'{"failedInstances":null,"responseStatus":{"errorCode":"success","message":"","status":"success"}}'
PARTIAL_FAIL = {"errorCode": "partial_fail", "message": "", "status": "partial_fail"}


def found(api: Api, service_id: str = "svc1") -> list[dict[str, Any]] | None:
    answer = api.post(LOOKUP, {"discoveryConfigs": [{"serviceId": service_id}]}).json()
    assert answer["responseStatus"]["status"] == "success"
    instances: list[dict[str, Any]] | None = answer["services"][0]["instances"]
    return instances


def test_a_registered_instance_is_found_with_every_field_and_gone_after_unregister() -> None:
    api = Api(LoopbackCluster()["n1"])
    for operation, seen in ((REGISTER, [camel_instance()]), (HEARTBEAT, [camel_instance()]), (UNREGISTER, None)):
        answer = api.post(operation, {"instances": [camel_instance()]})
        assert answer.status_code == 200
        assert answer.content == SUCCESS
        assert found(api) == seen


def test_what_one_node_acknowledged_every_node_shows_at_once() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    for node in cluster.nodes.values():
        node.follows = False
    assert Api(cluster["n2"]).post(REGISTER, {"instances": [camel_instance()]}).content == SUCCESS
    for node in cluster.nodes.values():
        assert found(Api(node)) == [camel_instance()]


def test_the_accepted_instances_of_a_request_are_one_command() -> None:
    cluster = LoopbackCluster()
    instances = [camel_instance(instance_id=f"i{number}") for number in range(20)]
    assert Api(cluster["n1"]).post(REGISTER, {"instances": instances}).content == SUCCESS
    (command,) = cluster["n1"].proposed
    assert isinstance(command, Register)
    assert len(command.items) == 20


def test_registering_again_replaces_everything() -> None:
    api = Api(LoopbackCluster()["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    other = camel_instance(metadata=None, port=1, zoneId="zone9", url="http://other")
    api.post(REGISTER, {"instances": [other]})
    assert found(api) == [other]


def test_of_two_copies_in_one_request_the_last_wins() -> None:
    api = Api(LoopbackCluster()["n1"])
    api.post(REGISTER, {"instances": [camel_instance(port=1), camel_instance(instanceId="I1", port=2)]})
    assert found(api) == [camel_instance(instanceId="I1", port=2)]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("body", [{}, {"instances": None}, {"instances": []}])
def test_no_instances_is_a_bad_request(operation: str, body: object) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).post(operation, body)
    assert answer.status_code == 200
    assert answer.json() == {
        "failedInstances": None,
        "responseStatus": {
            "errorCode": "bad-request",
            "message": "request.instances is null or empty.",
            "status": "fail",
        },
    }
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].proposed == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_null_element_is_skipped_and_counts_as_success(operation: str) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).post(operation, {"instances": [None]})
    assert answer.content == SUCCESS
    assert cluster["n1"].proposed == []


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"serviceId": " "}, "lab/zone1/ /g1/i1: Exception: instance.serviceId is blank"),
        ({"serviceId": None, "instanceId": None}, "lab/zone1/null/g1/null: Exception: instance.serviceId is blank"),
        ({"instanceId": ""}, "lab/zone1/svc1/g1/: Exception: instance.instanceId is blank"),
        ({"instanceId": "", "url": ""}, "lab/zone1/svc1/g1/: Exception: instance.instanceId is blank"),
        ({"url": "\t"}, "lab/zone1/svc1/g1/i1: Exception: instance.url is blank"),
        ({"url": None, "groupId": None}, "lab/zone1/svc1/i1: Exception: instance.url is blank"),
    ],
)
def test_a_broken_rule_is_told_per_instance_and_the_others_are_done(
    operation: str, changed: dict[str, Any], text: str
) -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    good = camel_instance(instance_id="good")
    api.post(REGISTER, {"instances": [good]})
    bad = camel_instance(**changed)
    answer = api.post(operation, {"instances": [bad, good]})
    assert answer.json() == {
        "failedInstances": [{"errorCode": "internal-service-error", "errorMessage": text, "instance": bad}],
        "responseStatus": PARTIAL_FAIL,
    }
    assert "x-artemis-outcome" not in answer.headers
    assert found(api) == (None if operation == UNREGISTER else [good])


def test_a_heartbeat_of_an_unknown_instance_echoes_it_whole_and_creates_nothing() -> None:
    api = Api(LoopbackCluster()["n1"])
    unknown = camel_instance(instance_id="nope", metadata={"a": None, "B_c": "x"})
    answer = api.post(HEARTBEAT, {"instances": [unknown]})
    assert answer.json() == {
        "failedInstances": [
            {
                "errorCode": "data-not-found",
                "errorMessage": "lab/zone1/svc1/g1/nope: Instance is not exising! Need re-register.",
                "instance": unknown,
            }
        ],
        "responseStatus": PARTIAL_FAIL,
    }
    assert found(api) is None


def test_a_heartbeat_renews_the_known_and_names_the_unknown_in_the_order_sent() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance(instance_id="b"), camel_instance(instance_id="d")]})
    cluster.advance(15_000)
    names = ["a", "b", "c", "D", "e"]
    answer = api.post(HEARTBEAT, {"instances": [camel_instance(instance_id=name) for name in names]})
    assert [failed["instance"]["instanceId"] for failed in answer.json()["failedInstances"]] == ["a", "c", "e"]
    renewal = cluster["n1"].proposed[-1]
    assert isinstance(renewal, Renew)
    assert len(renewal.lease_ids) == 2
    cluster.advance(15_000)
    assert [instance["instanceId"] for instance in found(api) or []] == ["b", "d"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_write_of_which_nothing_was_done_says_so(operation: str) -> None:
    api = Api(LoopbackCluster()["n1"])
    broken = camel_instance(url=None)
    assert api.post(operation, {"instances": [broken]}).headers["x-artemis-outcome"] == "not-applied"
    missing = api.post(HEARTBEAT, {"instances": [camel_instance(), broken]})
    assert missing.headers["x-artemis-outcome"] == "not-applied"
    api.post(REGISTER, {"instances": [camel_instance()]})
    partly = api.post(operation, {"instances": [camel_instance(), broken]})
    assert partly.json()["responseStatus"] == PARTIAL_FAIL
    assert "x-artemis-outcome" not in partly.headers


def test_a_heartbeat_changes_no_data() -> None:
    api = Api(LoopbackCluster()["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    api.post(HEARTBEAT, {"instances": [camel_instance(port=1, status="down")]})
    assert found(api) == [camel_instance()]


def test_an_expired_instance_must_register_again() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    cluster.advance(21_000)
    assert found(api) is None
    answer = api.post(HEARTBEAT, {"instances": [camel_instance()]})
    assert answer.json()["failedInstances"][0]["errorCode"] == "data-not-found"
    assert found(api) is None


def test_a_heartbeat_on_a_node_that_is_behind_is_not_refused() -> None:
    """Registered on n1, renewed at once on n2, which has not applied the registration."""
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    assert cluster["n2"].registry.instance_count == 0
    assert Api(cluster["n2"]).post(HEARTBEAT, {"instances": [camel_instance()]}).content == SUCCESS


def test_a_heartbeat_on_a_node_that_knows_an_older_lease_is_not_refused() -> None:
    """n2 has the first registration; the second one, on n1, drew a new lease."""
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    api = Api(cluster["n1"])
    kept, gone = camel_instance(instance_id="kept"), camel_instance(instance_id="gone")
    api.post(REGISTER, {"instances": [kept, gone]})
    cluster["n2"].catch_up()
    api.post(REGISTER, {"instances": [kept]})
    api.post(UNREGISTER, {"instances": [gone]})
    answer = Api(cluster["n2"]).post(HEARTBEAT, {"instances": [gone, kept]})
    assert [failed["instance"] for failed in answer.json()["failedInstances"]] == [gone]
    first, second = cluster["n2"].proposed
    assert isinstance(first, Renew)
    assert isinstance(second, Renew)
    assert (len(first.lease_ids), len(first.keys)) == (2, 0)
    assert (len(second.lease_ids), len(second.keys)) == (0, 2)


def test_unregister_of_an_unknown_instance_succeeds() -> None:
    """It is the first call of every Java registration."""
    assert Api(LoopbackCluster()["n1"]).post(UNREGISTER, {"instances": [camel_instance()]}).content == SUCCESS


def test_identity_ignores_case_and_names_are_echoed_as_registered() -> None:
    api = Api(LoopbackCluster()["n1"])
    registered = camel_instance("MySvc", "Inst-1", regionId="LAB")
    api.post(REGISTER, {"instances": [registered]})
    assert found(api, "mysvc") == [registered]
    other_case = camel_instance("MYSVC", "INST-1", regionId="lab")
    assert api.post(HEARTBEAT, {"instances": [other_case]}).content == SUCCESS
    assert api.post(UNREGISTER, {"instances": [other_case]}).content == SUCCESS
    assert found(api, "MySvc") is None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_region_is_refused_per_instance_where_the_node_says_so(operation: str) -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(region_id="lab", zone_id="zone1", any_region=False))
    # Place comes before rules: this one has no url either.
    other = camel_instance(instance_id="w", regionId="other", url=None)
    answer = api.post(operation, {"instances": [other, camel_instance(regionId="LAB", zoneId="zone2")]}).json()
    assert answer["failedInstances"][0] == {
        "errorCode": "no-permission",
        "errorMessage": "other/zone1/svc1/g1/w: regionId is not the same as the registry node. "
        "regionId: other, registry node.regionId: lab",
        "instance": other,
    }


def test_another_zone_is_refused_where_the_node_says_so() -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(region_id="lab", zone_id="zone1", any_zone=False))
    answer = api.post(REGISTER, {"instances": [camel_instance(zoneId=None)]}).json()
    assert answer["failedInstances"][0]["errorMessage"] == (
        "lab/null/svc1/g1/i1: zoneId is not the same as the registry node. zoneId: null, registry node.zoneId: zone1"
    )


def test_any_region_is_served_by_default() -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(region_id="lab", zone_id="zone1"))
    assert api.post(REGISTER, {"instances": [camel_instance(regionId="far", zoneId="off")]}).content == SUCCESS


@pytest.mark.parametrize(
    ("changed", "ttl_ms"),
    [
        ({}, 20_000),
        ({"leaseTtlMs": 1_000}, 1_000),
        ({"lease_ttl_ms": "604800000"}, 604_800_000),
        ({"metadata": {"lease_ttl_ms": "5000"}}, 5_000),
        ({"metadata": {"lease_ttl_ms": "5000", "java_registry": "1"}}, 5_000),
        ({"metadata": {"java_registry": "1"}}, 90_000),
        ({"metadata": {"java_registry": " "}}, 20_000),
        ({"leaseTtlMs": 7_000, "metadata": {"java_registry": "1"}}, 7_000),
    ],
)
def test_the_lease_of_a_registration(changed: dict[str, Any], ttl_ms: int) -> None:
    cluster = LoopbackCluster()
    assert Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance(**changed)]}).content == SUCCESS
    (command,) = cluster["n1"].proposed
    assert isinstance(command, Register)
    assert [item.ttl_ms for item in command.items] == [ttl_ms]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"leaseTtlMs": 999}, "instance.leaseTtlMs: 1000 to 604800000 milliseconds are allowed, not 999"),
        ({"leaseTtlMs": 604_800_001}, "instance.leaseTtlMs: 1000 to 604800000 milliseconds are allowed, not 604800001"),
        ({"leaseTtlMs": -1}, "instance.leaseTtlMs: 1000 to 604800000 milliseconds are allowed, not -1"),
        (
            {"metadata": {"lease_ttl_ms": "soon"}},
            "instance.metadata.lease_ttl_ms: 1000 to 604800000 milliseconds are allowed, not 'soon'",
        ),
    ],
)
def test_a_lease_out_of_bounds_is_told_per_instance(changed: dict[str, Any], text: str) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance(**changed)]}).json()
    (failed,) = answer["failedInstances"]
    assert failed["errorCode"] == "bad-request"
    assert failed["errorMessage"] == f"lab/zone1/svc1/g1/i1: {text}"
    assert cluster["n1"].proposed == []


def _no_leader(cluster: LoopbackCluster) -> None:
    cluster.leader_id = None


def _cut_off(cluster: LoopbackCluster) -> None:
    cluster["n1"].cut_off = True


def _answer_lost(cluster: LoopbackCluster) -> None:
    cluster["n1"].loses_answers = 1


def _late(cluster: LoopbackCluster) -> None:
    cluster.order_delay_ms = 10_000


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [(_no_leader, "not-applied"), (_late, "not-applied"), (_cut_off, "unknown"), (_answer_lost, "unknown")],
)
def test_a_node_that_cannot_write_says_so_and_whether_it_may_still_happen(
    operation: str, trouble: Callable[[LoopbackCluster], None], outcome: str
) -> None:
    cluster = LoopbackCluster("n1", "n2")
    trouble(cluster)
    answer = Api(cluster["n1"]).post(operation, {"instances": [camel_instance(url=None), camel_instance()]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["failedInstances"] is None
    status = body["responseStatus"]
    assert (status["status"], status["errorCode"]) == ("fail", "service-unavailable")
    assert status["message"].startswith("Serivce registry is not in up state. Current status: { node: ")
    assert answer.headers["x-artemis-outcome"] == outcome
    assert answer.headers["x-artemis-consistency"] == "none"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty_comes_before_unavailable_and_unavailable_before_the_rules(operation: str) -> None:
    cluster = LoopbackCluster()
    cluster.leader_id = None
    api = Api(cluster["n1"])
    assert api.post(operation, {"instances": []}).json()["responseStatus"]["errorCode"] == "bad-request"
    broken = api.post(operation, {"instances": [camel_instance(url=None)]})
    assert broken.json()["responseStatus"]["errorCode"] == "service-unavailable"
    assert broken.headers["x-artemis-outcome"] == "not-applied"


def test_a_heartbeat_whose_second_half_fails_is_of_unknown_outcome() -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    cluster["n2"].catch_up()
    api.post(REGISTER, {"instances": [camel_instance()]})

    def lose_the_leader(_index: int) -> None:
        cluster.leader_id = None

    cluster["n2"].on_applied(lose_the_leader)
    answer = Api(cluster["n2"]).post(HEARTBEAT, {"instances": [camel_instance()]})
    assert answer.json()["responseStatus"]["errorCode"] == "service-unavailable"
    assert answer.headers["x-artemis-outcome"] == "unknown"


def test_keys_are_accepted_in_camel_case_and_failures_are_keys() -> None:
    api = Api(LoopbackCluster()["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    known = {"regionId": "lab", "zoneId": "zone1", "serviceId": "SVC1", "groupId": "", "instanceId": "i1"}
    unknown = {**known, "instanceId": "i2"}
    assert api.post(HEARTBEAT, {"instanceKeys": [known]}).json()["responseStatus"]["errorCode"] == "success"
    answer = api.post(HEARTBEAT, {"instanceKeys": [known, unknown]}).json()
    assert answer["failedInstanceKeys"] == [unknown]
    # Whoever sends keys knows only the closed set of codes of that contract.
    assert answer["responseStatus"]["errorCode"] == "bad-request"
    assert api.post(UNREGISTER, {"instanceKeys": [known]}).json()["responseStatus"]["errorCode"] == "success"
    assert found(api) is None
