"""What is written to and read from clients of the earlier servers, without a socket."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.api.dialects import FailedInstance
from artemis.api.dialects.shapes import CamelInstance, CamelKey
from artemis.api.heartbeats import RE_REGISTER, Failures
from artemis.api.push import rust_messages
from artemis.api.push.java_messages import change_message, heartbeat_answers, read_subscription, reload_message
from artemis.api.push.pace import Pace
from artemis.api.push.settings import PushSettings
from artemis.errors import InvalidInput
from artemis.model import Change, ChangeType, Instance
from tests.support.http import NOW_MS

BYTES_MAX = 7_680


def failed(number: int, size: int = 300) -> FailedInstance:
    instance = CamelInstance(
        service_id="svc1",
        instance_id=f"i{number}",
        region_id="lab",
        zone_id="zone1",
        url="http://10.0.0.1:8080/",
        metadata={"padding": "x" * size},
    )
    return FailedInstance(instance, "data-not-found", RE_REGISTER)


def failures(instances: list[FailedInstance], keys: list[CamelKey] | None = None) -> Failures:
    made = Failures()
    for one in instances:
        made.add(*one)
    for key in keys or ():
        made.add(key, "data-not-found", RE_REGISTER)
    return made


def answers(made: Failures, *, by_key: bool = False, bytes_max: int = BYTES_MAX) -> list[dict[str, Any]]:
    texts = list(heartbeat_answers(made, by_key=by_key, bytes_max=bytes_max))
    return [orjson.loads(text) for text in texts]


def change(change_type: ChangeType = "new", **fields: Any) -> Change:
    named: dict[str, Any] = {"service_id": "Orders", "instance_id": "I1", "region_id": "lab", "port": 80, **fields}
    return Change(7, change_type, Instance(**named), 1_500)


# -- Java: answers to heartbeats --


def test_nothing_failed_is_one_answer_with_nulls() -> None:
    assert answers(failures([])) == [
        {"failedInstances": None, "responseStatus": {"status": "success", "errorCode": "success", "message": ""}}
    ]


def test_a_failed_instance_is_echoed_with_every_field() -> None:
    [answer] = answers(failures([failed(1, size=3)]))
    assert answer["responseStatus"] == {"status": "partial_fail", "errorCode": "partial_fail", "message": ""}
    assert answer["failedInstances"] == [
        {
            "errorCode": "data-not-found",
            "errorMessage": "lab/zone1/svc1/i1: Instance is not exising! Need re-register.",
            "instance": {
                "groupId": None,
                "healthCheckUrl": None,
                "instanceId": "i1",
                "ip": None,
                "machineName": None,
                "metadata": {"padding": "xxx"},
                "port": 0,
                "protocol": None,
                "regionId": "lab",
                "serviceId": "svc1",
                "status": None,
                "url": "http://10.0.0.1:8080/",
                "zoneId": "zone1",
            },
        }
    ]


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=60), st.integers(1_200, 9_000))
def test_every_failure_is_in_one_answer_and_no_answer_is_too_long(sizes: list[int], bytes_max: int) -> None:
    made = failures([failed(number, size) for number, size in enumerate(sizes)])
    texts = list(heartbeat_answers(made, by_key=False, bytes_max=bytes_max))
    heard: list[str] = []
    for text in texts:
        answer = orjson.loads(text)
        assert answer["responseStatus"]["status"] == "partial_fail"
        ids = [one["instance"]["instanceId"] for one in answer["failedInstances"]]
        assert len(text) <= bytes_max or len(ids) == 1
        heard += ids
    assert sorted(heard) == sorted(f"i{number}" for number in range(len(sizes)))


def test_answers_are_as_full_as_their_limit_allows() -> None:
    texts = list(heartbeat_answers(failures([failed(n) for n in range(100)]), by_key=False, bytes_max=BYTES_MAX))
    one = len(next(iter(heartbeat_answers(failures([failed(10)]), by_key=False, bytes_max=BYTES_MAX))))
    assert all(BYTES_MAX - one < len(text) <= BYTES_MAX for text in texts[:-1])


def test_an_instance_too_long_for_one_answer_comes_last_and_alone() -> None:
    told = answers(failures([failed(1, 9_000), failed(2), failed(3)]))
    assert [[one["instance"]["instanceId"] for one in answer["failedInstances"]] for answer in told] == [
        ["i2", "i3"],
        ["i1"],
    ]


def test_failed_keys_are_split_as_well() -> None:
    keys = [CamelKey(region_id="lab", service_id="svc1", instance_id=f"i{number}") for number in range(200)]
    told = answers(failures([], keys), by_key=True)
    assert len(told) > 1
    assert [key["instanceId"] for answer in told for key in answer["failedInstanceKeys"]] == [
        f"i{number}" for number in range(200)
    ]


# -- Java: pushes --


@pytest.mark.parametrize(("made", "told"), [("new", "new"), ("change", "new"), ("delete", "delete")])
def test_a_push_has_the_lower_case_service_and_an_integer_time(made: ChangeType, told: str) -> None:
    push = change_message(change(made), NOW_MS, BYTES_MAX)
    assert push is not None
    message = orjson.loads(push)
    assert (message["changeType"], message["changeTime"], message["version"]) == (told, NOW_MS + 1_500, 7)
    assert message["instance"]["serviceId"] == "orders"
    assert message["instance"]["instanceId"] == "I1"
    assert message["instance"]["metadata"] is None
    assert len(message["instance"]) == 13


def test_an_instance_too_long_for_a_push_is_not_one() -> None:
    assert change_message(change(metadata={"big": "x" * 8_000}), NOW_MS, BYTES_MAX) is None


def test_a_reload_is_spelled_as_the_earlier_servers_did() -> None:
    assert orjson.loads(reload_message("orders", 5, 7)) == {
        "changeTime": 5,
        "changeType": "reload",
        "instance": {
            "groupId": None,
            "healthCheckUrl": None,
            "instanceId": "reload",
            "ip": "0.0.0.0",
            "machineName": None,
            "metadata": None,
            "port": 0,
            "protocol": None,
            "regionId": None,
            "serviceId": "orders",
            "status": None,
            "url": "http://serviceId/reload",
            "zoneId": None,
        },
        "version": 7,
    }


@pytest.mark.parametrize(
    ("text", "service_id"),
    [
        ('{"serviceId":"Orders","regionId":null,"zoneId":null,"discoveryData":null}', "orders"),
        ('{"SERVICEID":"orders","extra":[1]}', "orders"),
        ('{"service_id":7}', "7"),
        ('{"serviceId":"  "}', None),
        ('{"serviceId":{"a":1}}', None),
        ("{}", None),
        ("null", None),
        ("[1]", None),
        ("not json", None),
        ("", None),
    ],
)
def test_subscriptions_are_read_leniently(text: str, service_id: str | None) -> None:
    assert read_subscription(text) == service_id


# -- Rust --


@pytest.mark.parametrize(
    ("text", "request_or_fault"),
    [
        ('{"type":"subscribe","service_id":"S"}', ("subscribe", "S")),
        ('{"type":"unsubscribe","serviceId":"s"}', ("unsubscribe", "s")),
        ('{"type":"ping"}', ("ping", "")),
        ('{"type":"subscribe"}', "service_id: required, a text"),
        ('{"type":"subscribe","service_id":["s"]}', "service_id: a text is allowed, not a list"),
        ('{"type":"listen"}', "type: one of subscribe, unsubscribe, ping is allowed, not 'listen'"),
        ("{}", "type: one of subscribe, unsubscribe, ping is allowed, not null"),
        ("[]", "body: an object is allowed, not a list"),
    ],
)
def test_rust_requests(text: str, request_or_fault: tuple[str, str] | str) -> None:
    assert rust_messages.read_request(text) == request_or_fault


def test_a_rust_change_is_readable_in_both_spellings_and_for_strict_readers() -> None:
    fragment = rust_messages.change_fragment(change(port=70_000, status="UP"), NOW_MS)
    message = orjson.loads(rust_messages.service_change("Orders", [fragment]))
    assert (message["type"], message["service_id"]) == ("service_change", "Orders")
    [told] = message["changes"]
    assert told["changeTime"] == told["change_time"] == "2023-11-14T22:13:21.500Z"
    assert told["changeType"] == told["change_type"] == "new"
    instance = told["instance"]
    assert instance["serviceId"] == instance["service_id"] == "Orders"
    assert instance["zoneId"] == instance["zone_id"] == ""
    assert (instance["port"], instance["status"], instance["ip"]) == (0, "up", "")
    assert None not in instance.values()


def test_a_rust_reload_is_an_instance_strict_readers_accept() -> None:
    told = orjson.loads(rust_messages.reload_fragment("orders", NOW_MS, 7))
    assert told["changeType"] == "reload"
    assert {"regionId", "zoneId", "serviceId", "instanceId", "ip", "port", "url", "status"} <= told["instance"].keys()


# -- the rest --


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session_ms", 999),
        ("subscriptions_max", 0),
        ("heartbeat_timeout_ms", 0),
        ("message_bytes_max", 1_023),
        ("discovery_denied", ("nobody",)),
    ],
)
def test_settings_that_cannot_work_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"push_{field}: "):
        PushSettings(**{field: value})


def test_pushes_share_each_turn_of_the_loop_with_everything_else() -> None:
    """Ten senders that never wait for their clients: what else wants to run gets its turn between their messages."""

    async def story() -> list[int]:
        pace = Pace(messages_per_turn=4)
        sent = 0
        seen: list[int] = []

        async def sender() -> None:
            nonlocal sent
            for _ in range(20):
                await pace.turn()
                sent += 1

        tasks = [asyncio.ensure_future(sender()) for _ in range(10)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            seen.append(sent)
        return seen

    seen = asyncio.run(story())
    assert seen[-1] == 200
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 8
