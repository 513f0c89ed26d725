"""Lenient reading (``java-http.md`` 2): names in any case and spelling, scalars as text, and no more than that."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.api.dialects import bodies
from artemis.api.dialects.shapes import SentInstance, SentKey
from tests.support.http import Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster

REGISTER = "/artemis/api/registry/register.json"


def registered(instance: dict[str, Any]) -> dict[str, Any]:
    """What a look-up shows of the instance after it was registered."""
    api = Api(LoopbackCluster()["n1"])
    answer = api.post(REGISTER, {"instances": [instance]})
    assert answer.json()["responseStatus"]["errorCode"] == "success", answer.text
    service: dict[str, Any] = api.get("/artemis/api/discovery/service.json?serviceId=svc1").json()["service"]
    (shown,) = service["instances"]
    result: dict[str, Any] = shown
    return result


@pytest.mark.parametrize(
    "respelled",
    [str.upper, str.lower, str.title, str.swapcase, lambda name: "_".join(name), lambda name: f"_{name}__"],
)
def test_names_match_in_any_case_and_with_or_without_underscores(respelled: Any) -> None:
    instance = camel_instance(metadata={"Key_One": "v", "keyone": "w"})
    content = orjson.dumps({respelled("instances"): [{respelled(name): value for name, value in instance.items()}]})
    api = Api(LoopbackCluster()["n1"])
    assert api.send("POST", REGISTER, content=content).status_code == 200
    answer = api.get("/artemis/api/discovery/service.json?serviceId=svc1").json()
    assert answer["service"]["instances"] == [instance]


@pytest.mark.parametrize(
    ("number", "port"), [("1.10", 1), ("1e3", 1000), ("1E+2", 100), ("-0.0", 0), ("12.50e1", 125), ("2.0", 2)]
)
def test_a_number_that_stands_for_a_text_keeps_its_spelling(number: str, port: int) -> None:
    api = Api(LoopbackCluster()["n1"])
    sent = b'{"instances":[{"serviceId":"svc1","instanceId":%b,"url":"u","port":%b,"metadata":{"v": %b}}]}'
    assert api.send("POST", REGISTER, content=sent % ((number.encode(),) * 3)).status_code == 200
    (shown,) = api.get("/artemis/api/discovery/service.json?serviceId=svc1").json()["service"]["instances"]
    assert (shown["instanceId"], shown["port"], shown["metadata"]) == (number, port, {"v": number})


def test_long_numbers_as_ids_are_not_taken_for_one_another() -> None:
    api = Api(LoopbackCluster()["n1"])
    ids = [10**30 + n for n in range(3)] + [10**18 + n for n in range(3)] + [-(2**63), 2**64 - 1, 2**64]
    listed = ",".join(f'{{"serviceId":"svc1","instanceId":{number},"url":"u"}}' for number in ids)
    assert api.send("POST", REGISTER, content=f'{{"instances":[{listed}]}}'.encode()).status_code == 200
    shown = api.get("/artemis/api/discovery/service.json?serviceId=svc1").json()["service"]["instances"]
    assert sorted(instance["instanceId"] for instance in shown) == sorted(map(str, ids))


def test_a_long_number_is_no_port_and_a_deep_body_is_refused() -> None:
    api = Api(LoopbackCluster()["n1"])
    for number in ("1" * 5_000, "1" * 25, "-" + "1" * 25):
        body = f'{{"instances":[{{"serviceId":"s","instanceId":"i","url":"u","port":{number}}}]}}'
        answer = api.send("POST", REGISTER, content=body.encode())
        assert answer.status_code == 400
    deep = b'{"instances":null,"x":%b%b}' % (b"[" * 5_000, b"]" * 5_000)
    answer = api.send("POST", REGISTER, content=deep)
    assert (answer.status_code, answer.json()["message"]) == (400, "body: not valid JSON: nested too deeply")


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"port": "8080"}, {"port": 8080}),
        ({"port": " +80 "}, {"port": 80}),
        ({"port": ""}, {"port": 0}),
        ({"port": None}, {"port": 0}),
        ({"port": 80.9}, {"port": 80}),
        ({"port": 70_000}, {"port": 70_000}),
        ({"port": -1}, {"port": -1}),
        ({"ip": 10}, {"ip": "10"}),
        ({"ip": 1.5}, {"ip": "1.5"}),
        ({"status": True}, {"status": "true"}),
        (
            {"metadata": {"a": 1, "b": False, "c": None, "d": ""}},
            {"metadata": {"a": "1", "b": "false", "c": None, "d": ""}},
        ),
        ({"metadata": {}}, {"metadata": {}}),
        ({"metadata": None}, {"metadata": None}),
        ({"status": "Any Text", "zoneId": None}, {"status": "Any Text", "zoneId": None}),
        ({"unknown": {"deep": [1]}, "another_one": 1}, {}),
        ({"ip": "\u0000 \u00e9 \U0001f600"}, {"ip": "\u0000 \u00e9 \U0001f600"}),
    ],
)
def test_scalars_are_read_leniently_and_stored_as_read(sent: dict[str, Any], stored: dict[str, Any]) -> None:
    assert registered(camel_instance(**sent)) == camel_instance(**stored)


def test_missing_fields_are_null_and_the_port_is_zero() -> None:
    bare = {"serviceId": "svc1", "instanceId": "i1", "url": "u"}
    shown = registered(bare)
    assert {name: value for name, value in shown.items() if value is not None} == {**bare, "port": 0}
    assert len(shown) == 13


def test_of_two_spellings_of_one_name_the_last_wins() -> None:
    assert registered({**camel_instance(ip="1"), "IP": "2"})["ip"] == "2"
    assert registered({"IP": "2", **camel_instance(ip="1")})["ip"] == "1"


def test_the_hint_is_the_first_known_name_that_shows_one() -> None:
    assert bodies.read_write(b'{"instances":[{"x_y":1,"port":1,"serviceId":"s","zone_id":"z"}]}').naming == "camel"
    assert bodies.read_write(b'{"instances":[{"xY":1,"port":1,"service_id":"s","zoneId":"z"}]}').naming == "snake"
    assert bodies.read_write(b'{"instances":[{"port":1,"metadata":{"serviceId":"a"}}]}').naming is None
    assert bodies.read_place(b'{"version":1}').naming is None
    assert bodies.read_lookup(b'{"discovery_configs":[{"serviceId":"s"}]}').naming == "snake"


texts = st.one_of(st.none(), st.text(max_size=8))
maps = st.one_of(st.none(), st.dictionaries(st.text(max_size=4), texts, max_size=3))
spellings = {
    "camel": camel_instance,
    "snake": snake_instance,
}
TEXT_FIELDS = {
    "camel": ("regionId", "zoneId", "groupId", "machineName", "ip", "protocol", "url", "healthCheckUrl", "status"),
    "snake": (
        "region_id",
        "zone_id",
        "group_id",
        "machine_name",
        "ip",
        "protocol",
        "url",
        "health_check_url",
        "status",
    ),
}
IDS = {"camel": ("serviceId", "instanceId"), "snake": ("service_id", "instance_id")}
TTL = {"camel": "leaseTtlMs", "snake": "lease_ttl_ms"}
namings = st.sampled_from(("camel", "snake"))


@st.composite
def well_formed_instances(draw: st.DrawFn, naming: str) -> dict[str, Any]:
    instance: dict[str, Any] = {name: draw(st.text(max_size=8)) for name in IDS[naming]}
    for name in draw(st.sets(st.sampled_from(TEXT_FIELDS[naming]))):
        instance[name] = draw(texts)
    if draw(st.booleans()):
        instance["port"] = draw(st.integers(-(2**31), 2**31 - 1))
    if draw(st.booleans()):
        instance["metadata"] = draw(maps)
    if draw(st.booleans()):
        instance[TTL[naming]] = draw(st.one_of(st.none(), st.integers(-5, 10**9)))
    return instance


def fields(sent: SentInstance | SentKey | None) -> dict[str, Any] | None:
    return None if sent is None else {name: getattr(sent, name) for name in sent.__struct_fields__}


@given(st.data(), namings)
def test_the_quick_reading_of_well_formed_writes_equals_the_lenient_one(data: st.DataObject, naming: str) -> None:
    content = orjson.dumps({"instances": data.draw(st.lists(well_formed_instances(naming), min_size=1, max_size=3))})
    quick, lenient = bodies.read_write(content), bodies._read_write_leniently(content)
    assert [fields(sent) for sent in quick.instances or ()] == [fields(sent) for sent in lenient.instances or ()]
    assert quick.keys is lenient.keys is None
    assert quick.naming == lenient.naming == naming


@given(st.lists(st.tuples(*[st.text(max_size=5)] * 5), min_size=1, max_size=3), namings)
def test_the_quick_reading_of_well_formed_keys_equals_the_lenient_one(rows: list[tuple[str, ...]], naming: str) -> None:
    names = {
        "snake": ("region_id", "service_id", "instance_id", "zone_id", "group_id"),
        "camel": ("regionId", "serviceId", "instanceId", "zoneId", "groupId"),
    }[naming]
    field = {"snake": "instance_keys", "camel": "instanceKeys"}[naming]
    content = orjson.dumps({field: [dict(zip(names, row, strict=True)) for row in rows]})
    quick, lenient = bodies.read_write(content), bodies._read_write_leniently(content)
    assert [fields(key) for key in quick.keys or ()] == [fields(key) for key in lenient.keys or ()]
    assert quick.naming == lenient.naming == naming


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
known_names = st.sampled_from(
    ("instances", "instanceKeys", "instance_keys", "serviceId", "service_id", "instanceId", "port", "metadata", "url")
)
odd_objects = st.dictionaries(known_names, st.one_of(json_values, st.lists(json_values, max_size=2)), max_size=4)
odd_bodies = st.one_of(
    json_values,
    odd_objects,
    st.builds(lambda items: {"instances": items}, st.lists(st.one_of(st.none(), odd_objects), max_size=3)),
)
PATHS = (
    "registry/register",
    "registry/heartbeat",
    "registry/unregister",
    "discovery/lookup",
    "discovery/service",
    "discovery/services",
    "discovery/services-delta",
    "cluster/up-registry-nodes",
)


@given(odd_bodies, st.sampled_from(PATHS))
def test_whatever_is_sent_is_answered_and_only_a_good_register_changes_anything(body: object, path: str) -> None:
    cluster = LoopbackCluster()
    try:
        content = orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits
        return
    answer = Api(cluster["n1"]).send("POST", f"/artemis/api/{path}", content=content)
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert ": " in answer.json()["message"]
    if path != "registry/register" or answer.status_code == 400:
        assert cluster["n1"].registry.revision == 0


@given(st.binary(max_size=40), st.sampled_from(PATHS))
def test_whatever_bytes_are_sent_are_answered(content: bytes, path: str) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).send("POST", f"/api/{path}", content=content or b"?")
    assert answer.status_code in (200, 400, 422)
    assert cluster["n1"].registry.revision == 0


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_whatever_query_is_sent_is_answered(query: str) -> None:
    raw = query.encode("latin-1")
    api = Api(LoopbackCluster()["n1"])
    path = "/artemis/api/discovery/service.json?" + "".join(
        f"%{byte:02x}" if byte <= 32 or byte >= 127 else chr(byte) for byte in raw
    )
    assert api.get(path.replace("#", "%23")).status_code in (200, 400)
