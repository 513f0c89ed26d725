"""Writes on condition over HTTP: how each dialect asks, what a refusal says, and where revisions are shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.http import Api, camel_instance, snake_instance, snake_key
from tests.support.loopback import LoopbackCluster

REGISTER = "/artemis/api/registry/register.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
SNAKE_REGISTER = "/api/registry/register.json"
SNAKE_HEARTBEAT = "/api/registry/heartbeat.json"
SNAKE_UNREGISTER = "/api/registry/unregister.json"
SERVICE = "/artemis/api/discovery/service.json"


def status(answer: httpx.Response) -> str:
    body = answer.json()
    found: str = (body.get("responseStatus") or body.get("response_status"))["status"]
    return found


def registered(api: Api, **changed: Any) -> tuple[int, int]:
    """Register one instance; its revision and epoch as the answer says them."""
    answer = api.post(REGISTER, {"instances": [camel_instance(**changed)]})
    assert status(answer) == "success"
    return int(answer.headers["etag"].strip('"')), int(answer.headers["x-artemis-lease-epoch"])


def with_history() -> tuple[LoopbackCluster, Api]:
    """Revisions and epochs that differ."""
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance(instance_id="gone")]})
    api.post(UNREGISTER, {"instances": [camel_instance(instance_id="gone")]})
    return cluster, api


def test_a_registration_says_its_revision_and_epoch_and_the_next_may_expect_them() -> None:
    _, api = with_history()
    revision, epoch = registered(api)
    assert (revision, epoch) == (3, 2)
    for field, value in (("expectedRevision", revision), ("expectedEpoch", epoch + 1)):
        answer = api.post(REGISTER, {"instances": [{**camel_instance(port=value), field: value}]})
        assert status(answer) == "success", field
        assert "x-artemis-outcome" not in answer.headers


def test_a_refused_registration_changes_nothing_and_names_the_present_revision_and_epoch() -> None:
    cluster, api = with_history()
    revision, epoch = registered(api)
    answer = api.post(REGISTER, {"instances": [camel_instance(port=1, expectedRevision=revision - 1)]})
    assert answer.status_code == 200
    assert status(answer) == "partial_fail"
    (failed,) = answer.json()["failedInstances"]
    assert failed["errorCode"] == "condition-failed"
    assert f"revision {revision} and epoch {epoch}" in failed["errorMessage"]
    assert (failed["currentRevision"], failed["currentEpoch"]) == (revision, epoch)
    assert failed["instance"] == camel_instance(port=1)
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert (answer.headers["etag"], answer.headers["x-artemis-lease-epoch"]) == (f'"{revision}"', str(epoch))
    assert cluster["n1"].registry.revision == revision


def test_in_snake_case_it_reads_the_same() -> None:
    _, api = with_history()
    instance = snake_instance()
    assert status(api.post(SNAKE_REGISTER, {"instances": [{**instance, "expected_revision": 0}]})) == "success"
    taken = api.post(SNAKE_REGISTER, {"instances": [{**instance, "expected_revision": 0}]})
    assert taken.json()["response_status"]["error_code"] == "bad-request"
    (failed,) = taken.json()["failed_instances"]
    assert (failed["error_code"], failed["current_revision"], failed["current_epoch"]) == ("condition-failed", 3, 2)
    for path in (SNAKE_HEARTBEAT, SNAKE_UNREGISTER):
        refused = api.post(path, {"instance_keys": [{**snake_key(instance), "expected_epoch": 9}]})
        (key,) = refused.json()["failed_instance_keys"]
        assert (key["error_code"], key["current_revision"], key["current_epoch"]) == ("condition-failed", 3, 2)
        assert refused.headers["x-artemis-outcome"] == "not-applied"
    done = api.post(SNAKE_UNREGISTER, {"instance_keys": [{**snake_key(instance), "expected_epoch": 2}]})
    assert status(done) == "success"


def test_keys_in_camel_case_take_conditions_too() -> None:
    _, api = with_history()
    registered(api)
    key = {"regionId": "lab", "serviceId": "svc1", "instanceId": "i1"}
    refused = api.post(UNREGISTER, {"instanceKeys": [{**key, "expectedRevision": 1}]})
    assert refused.json()["responseStatus"]["message"] == "Some unregistrations failed"
    (failed,) = refused.json()["failedInstanceKeys"]
    assert (failed["errorCode"], failed["currentRevision"], failed["currentEpoch"]) == ("condition-failed", 3, 2)
    assert status(api.post(UNREGISTER, {"instanceKeys": [{**key, "expectedRevision": 3}]})) == "success"


def test_each_instance_of_a_request_is_decided_for_itself() -> None:
    cluster, api = with_history()
    registered(api, instance_id="taken")
    asked = [camel_instance(instance_id=name, expectedRevision=0) for name in ("free", "taken", "other")]
    answer = api.post(REGISTER, {"instances": asked})
    assert [failed["instance"]["instanceId"] for failed in answer.json()["failedInstances"]] == ["taken"]
    # Something was done, so nothing is said of the outcome; and with several instances no one revision is named.
    assert "x-artemis-outcome" not in answer.headers
    assert "etag" not in answer.headers
    assert cluster["n1"].registry.revision == 5


def test_a_condition_names_the_right_instance_when_another_was_not_acceptable() -> None:
    _, api = with_history()
    registered(api)
    asked = [camel_instance(instance_id=" "), camel_instance(expectedRevision=9), camel_instance(instance_id="i2")]
    answer = api.post(REGISTER, {"instances": asked})
    codes = {failed["instance"]["instanceId"]: failed["errorCode"] for failed in answer.json()["failedInstances"]}
    assert codes == {" ": "internal-service-error", "i1": "condition-failed"}


def test_if_match_and_if_none_match_say_it_for_one_instance() -> None:
    _, api = with_history()
    one = {"instances": [camel_instance()]}
    assert status(api.post(REGISTER, one, if_none_match="*")) == "success"
    assert status(api.post(REGISTER, one, if_none_match="*")) == "partial_fail"
    assert status(api.post(REGISTER, one, if_match='"2"')) == "partial_fail"
    renewed = api.post(REGISTER, one, if_match='"3"')
    assert (status(renewed), renewed.headers["etag"]) == ("success", '"4"')
    assert status(api.post(HEARTBEAT, one, if_match='"3"')) == "partial_fail"
    assert status(api.post(HEARTBEAT, one, if_match='"4"')) == "success"
    assert status(api.post(UNREGISTER, one, if_match='"3"')) == "partial_fail"
    assert status(api.post(UNREGISTER, one, if_match="4")) == "success"
    absent = api.post(UNREGISTER, one, if_match='"4"')
    assert status(absent) == "partial_fail"
    assert "there is no such instance" in absent.json()["failedInstances"][0]["errorMessage"]
    assert "etag" not in absent.headers


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"if-match": "*"}, "If-Match"),
        ({"if-match": '"0"'}, "If-Match"),
        ({"if-match": 'W/"1"'}, "If-Match"),
        ({"if-match": '"1", "2"'}, "If-Match"),
        ({"if-match": '"1'}, "If-Match"),
        ({"if-match": '""1""'}, "If-Match"),
        ({"if-match": f'"{2**63}"'}, "If-Match"),
        ({"if-none-match": '"1"'}, "If-None-Match"),
        ({"if-match": '"1"', "if-none-match": "*"}, "If-None-Match"),
    ],
)
def test_a_header_that_is_not_understood_is_refused_by_name(headers: dict[str, str], named: str) -> None:
    cluster, api = with_history()
    for path in (REGISTER, HEARTBEAT, UNREGISTER):
        answer = api.send("POST", path, body={"instances": [camel_instance()]}, headers=headers)
        assert answer.status_code == 400
        assert named in answer.json()["message"]
        assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].registry.revision == 2


@pytest.mark.parametrize(
    "instances",
    [
        [camel_instance(), camel_instance(instance_id="i2")],
        [camel_instance(), camel_instance(instance_id=" ")],
        [camel_instance(expectedRevision=0)],
    ],
)
def test_a_header_goes_with_exactly_one_instance_that_says_nothing_itself(instances: list[Any]) -> None:
    cluster, api = with_history()
    answer = api.post(REGISTER, {"instances": instances}, if_none_match="*")
    assert answer.status_code == 400
    assert "If-Match" in answer.json()["message"]
    assert cluster["n1"].registry.revision == 2


@pytest.mark.parametrize("value", [-1, 2**63, "x", {}, "", " ", 1.5, True])
def test_an_expectation_that_is_no_revision_is_refused_by_name(value: object) -> None:
    _, api = with_history()
    for field in ("expectedRevision", "expected_epoch"):
        answer = api.post(REGISTER, {"instances": [{**camel_instance(), field: value}]})
        assert answer.status_code in (400, 422)
        assert field in answer.json()["message"]


@pytest.mark.parametrize("field", ["expectedRevision", "expected_epoch"])
@pytest.mark.parametrize("path", [REGISTER, HEARTBEAT, UNREGISTER])
def test_an_expectation_beside_the_instances_is_not_passed_over(path: str, field: str) -> None:
    cluster, api = with_history()
    answer = api.post(path, {"instances": [camel_instance()], field: 9})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"{field}: ")
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].registry.revision == 2


def test_a_heartbeat_under_an_earlier_epoch_is_refused_on_every_node() -> None:
    cluster, api = with_history()
    _, first = registered(api)
    _, second = registered(api)
    cluster["n2"].follows = False
    for node in ("n1", "n2"):
        late = Api(cluster[node]).post(HEARTBEAT, {"instances": [camel_instance(expectedEpoch=first)]})
        assert [failed["errorCode"] for failed in late.json()["failedInstances"]] == ["condition-failed"]
        assert late.headers["x-artemis-outcome"] == "not-applied"
    both = [camel_instance(expectedEpoch=second), camel_instance(instance_id="unknown")]
    answer = api.post(HEARTBEAT, {"instances": both})
    assert [failed["errorCode"] for failed in answer.json()["failedInstances"]] == ["data-not-found"]


def test_a_retry_under_the_request_id_gets_the_first_answer_also_when_it_was_a_refusal() -> None:
    cluster, api = with_history()
    body = {"instances": [camel_instance(expectedRevision=0)]}
    first = api.post(REGISTER, body, x_artemis_request_id="one")
    again = Api(cluster["n2"]).post(REGISTER, body, x_artemis_request_id="one")
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    refused = api.post(REGISTER, body, x_artemis_request_id="two")
    api.post(UNREGISTER, {"instances": [camel_instance()]})
    assert api.post(REGISTER, body, x_artemis_request_id="two").content == refused.content


@pytest.mark.parametrize(
    ("first", "second"),
    [({}, {"if-none-match": "*"}), ({"if-match": '"1"'}, {"if-match": '"2"'})],
)
def test_another_condition_is_another_request(first: dict[str, str], second: dict[str, str]) -> None:
    _, api = with_history()
    body = {"instances": [camel_instance()]}
    api.send("POST", REGISTER, body=body, headers={**first, "x-artemis-request-id": "r"})
    again = api.send("POST", REGISTER, body=body, headers={**second, "x-artemis-request-id": "r"})
    assert again.json()["responseStatus"]["errorCode"] == "request-id-reused"


@pytest.mark.parametrize(
    ("path", "body", "form"),
    [
        (SERVICE, {"discoveryConfig": {"serviceId": "svc1"}}, "camel"),
        ("/artemis/api/discovery/lookup.json", {"discoveryConfigs": [{"serviceId": "svc1"}]}, "camel"),
        ("/artemis/api/discovery/services.json", {}, "camel"),
        ("/api/discovery/service.json", {"discovery_config": {"service_id": "svc1"}}, "snake"),
        ("/api/discovery/lookup.json", {"discovery_configs": [{"service_id": "svc1"}]}, "snake"),
        ("/api/discovery/services.json", {}, "snake"),
    ],
)
def test_look_ups_show_revisions_and_epochs_to_those_who_ask(path: str, body: object, form: str) -> None:
    _, api = with_history()
    registered(api, metadata={}, status="up")
    epoch = "leaseEpoch" if form == "camel" else "lease_epoch"

    def instance(answer: httpx.Response) -> dict[str, Any]:
        found = answer.json()
        service = found["service"] if "service" in found else found["services"][0]
        (only,) = service["instances"]
        assert isinstance(only, dict)
        return only

    plain = instance(api.post(path, body))
    assert not {"revision", epoch} & plain.keys()
    shown = instance(api.post(path, body, x_artemis_instance_revisions="true"))
    assert shown == {**plain, "revision": 3, epoch: 2}
    assert instance(api.post(f"{path}?instanceRevisions=1", body)) == shown
    # The cached answers of those who do not ask are not touched.
    assert instance(api.post(path, body)) == plain
    assert api.post(path, body, x_artemis_instance_revisions="maybe").status_code == 400
