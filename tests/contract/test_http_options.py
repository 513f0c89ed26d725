"""What a caller may ask of an answer, and what the answer's headers say: consistency, revision, request id."""

from __future__ import annotations

from typing import Any

import pytest

from artemis.api.settings import HttpSettings
from artemis.consensus.freshness import UNKNOWN_MS
from tests.support.http import Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster

REGISTER = "/artemis/api/registry/register.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
SERVICE = "/artemis/api/discovery/service.json"
DELTA = "/artemis/api/discovery/services-delta.json"
ASKED = {"discoveryConfig": {"serviceId": "svc1"}}


def code(answer: Any) -> str:
    value: str = answer.json()["responseStatus"]["errorCode"]
    return value


def ids(answer: Any) -> list[str]:
    assert code(answer) == "success"
    return [instance["instanceId"] for instance in answer.json()["service"]["instances"] or []]


def test_every_answer_names_its_state_and_who_gave_it() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    cluster["n2"].apply_lag_ms = 7
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    api = Api(cluster["n2"])
    requests = [
        ("/artemis/api/registry/heartbeat.json", {"instances": [camel_instance()]}, "linearizable"),
        ("/artemis/api/discovery/service.json", ASKED, "linearizable"),
        ("/artemis/api/discovery/lookup.json", {"discoveryConfigs": [{"serviceId": "svc1"}]}, "linearizable"),
        ("/artemis/api/discovery/services.json", {}, "linearizable"),
        ("/artemis/api/discovery/services-delta.json", {"version": 1}, "linearizable"),
        ("/artemis/api/cluster/up-registry-nodes.json", {}, "stale"),
        ("/artemis/api/registry/register.json", {}, "none"),
        ("/artemis/api/discovery/lookup.json", {}, "none"),
        ("/artemis/api/discovery/lookup.json", [], "none"),
    ]
    for path, body, consistency in requests:
        headers = api.post(path, body).headers
        artemis = {name: value for name, value in headers.items() if name.startswith("x-artemis-")}
        artemis.pop("x-artemis-outcome", None)
        assert artemis == {
            "x-artemis-revision": "1",
            "x-artemis-term": "3",
            "x-artemis-node": "n2",
            "x-artemis-leader": "n1",
            "x-artemis-known-leader": "true",
            "x-artemis-apply-lag-ms": "7",
            "x-artemis-consistency": consistency,
        }, path
        assert headers["content-type"] == "application/json"
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-expose-headers"] == "*"
        assert headers["access-control-allow-credentials"] == "true"


def test_headers_follow_the_leader() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n2"])
    seen = []
    for leader_id in ("n1", None, "n2"):
        cluster.leader_id = leader_id
        cluster.term += 1
        headers = api.post(SERVICE, ASKED).headers
        seen.append(tuple(headers[f"x-artemis-{name}"] for name in ("term", "leader", "known-leader")))
    assert seen == [("4", "n1", "true"), ("5", "", "false"), ("6", "n2", "true")]


def test_reads_are_linearizable_unless_asked_otherwise() -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    api = Api(cluster["n2"])
    stale = api.post(SERVICE, ASKED, x_artemis_consistency="stale")
    assert (ids(stale), stale.headers["x-artemis-consistency"]) == ([], "stale")
    assert stale.headers["x-artemis-revision"] == "0"
    assert cluster["n2"].barriers == 0
    fresh = api.post(SERVICE, ASKED)
    assert (ids(fresh), fresh.headers["x-artemis-consistency"]) == (["i1"], "linearizable")
    assert fresh.headers["x-artemis-revision"] == "1"
    assert cluster["n2"].barriers == 1


def test_the_default_consistency_is_a_setting() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"], HttpSettings(reads_default="stale"))
    assert api.post(SERVICE, ASKED).headers["x-artemis-consistency"] == "stale"
    assert api.post(SERVICE, ASKED, x_artemis_consistency="linearizable").headers["x-artemis-consistency"] == (
        "linearizable"
    )


def test_a_session_read_is_not_older_than_the_revision_named() -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    written = Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    revision = written.headers["x-artemis-revision"]
    assert revision == "1"
    api = Api(cluster["n2"])
    read = api.post(SERVICE, ASKED, x_artemis_consistency="session", x_artemis_min_revision=revision)
    assert (ids(read), read.headers["x-artemis-consistency"]) == (["i1"], "session")
    beyond = api.post(SERVICE, ASKED, x_artemis_consistency="session", x_artemis_min_revision="2")
    assert code(beyond) == "service-unavailable"
    assert beyond.headers["x-artemis-consistency"] == "none"


@pytest.mark.parametrize("level", ["linearizable", "session", "stale"])
def test_a_revision_named_with_any_level_is_in_the_answer_or_it_is_refused(level: str) -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n2"].follows = False
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    api = Api(cluster["n2"])
    assert ids(api.post(SERVICE, ASKED, x_artemis_consistency=level, x_artemis_min_revision="1")) == ["i1"]
    beyond = api.post(SERVICE, ASKED, x_artemis_consistency=level, x_artemis_min_revision="2")
    assert code(beyond) == "service-unavailable"
    assert beyond.headers["x-artemis-consistency"] == "none"


def test_an_age_named_with_session_bounds_it_too() -> None:
    cluster = LoopbackCluster()
    cluster["n1"].apply_lag_ms = 900
    for allowed, expected in (("900", "success"), ("899", "service-unavailable")):
        asked = {"x_artemis_consistency": "session", "x_artemis_min_revision": "0", "x_artemis_max_stale_ms": allowed}
        assert code(Api(cluster["n1"]).post(SERVICE, ASKED, **asked)) == expected


def test_a_state_of_unknown_age_is_told_as_such() -> None:
    cluster = LoopbackCluster()
    cluster["n1"].apply_lag_ms = UNKNOWN_MS
    api = Api(cluster["n1"])
    answer = api.post(SERVICE, ASKED, x_artemis_consistency="stale", x_artemis_max_stale_ms="60000")
    assert "is of unknown age, x-artemis-max-stale-ms allows 60000" in answer.json()["responseStatus"]["message"]
    assert "artemis_raft_apply_lag_seconds +Inf" in api.get("/metrics").text


def test_a_session_read_names_the_revision_it_means() -> None:
    """Without one it would be an answer of any age that is called better than stale."""
    api = Api(LoopbackCluster()["n1"])
    for refused in (
        api.post(SERVICE, ASKED, x_artemis_consistency="session"),
        api.get("/artemis/api/discovery/services.json?consistency=session"),
    ):
        assert refused.status_code == 400
        assert refused.json()["message"].startswith("x-artemis-min-revision: required with session")
    # The version of a delta is one, and a default of the settings asks nothing of clients that know no levels.
    assert api.post(DELTA, {"version": 0}, x_artemis_consistency="session").status_code == 200
    default = Api(LoopbackCluster()["n1"], HttpSettings(reads_default="session"))
    assert code(default.post(SERVICE, ASKED)) == "success"


@pytest.mark.parametrize(
    ("path", "headers", "named"),
    [
        (f"{SERVICE}?consistency=stale&Consistency=linearizable", [], "x-artemis-consistency"),
        (f"{SERVICE}?min_revision=1&min-revision=2", [], "x-artemis-min-revision"),
        (SERVICE, [("x-artemis-min-revision", "1"), ("x-artemis-min-revision", "2")], "x-artemis-min-revision"),
        (REGISTER, [("x-artemis-request-id", "a"), ("x-artemis-request-id", "b")], "x-artemis-request-id"),
        (REGISTER, [("if-match", '"1"'), ("if-match", '"2"')], "if-match"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(path: str, headers: Any, named: str) -> None:
    cluster = LoopbackCluster()
    body = {**ASKED, "instances": [camel_instance()]}
    answer = Api(cluster["n1"]).send("POST", path, body=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["message"] == f"{named}: given twice, once is allowed"
    assert (cluster["n1"].proposed, cluster["n1"].barriers) == ([], 0)


def test_a_cut_off_node_refuses_linearizable_reads_and_serves_stale_ones() -> None:
    cluster = LoopbackCluster("n1", "n2")
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    cluster["n2"].cut_off = True
    cluster["n2"].apply_lag_ms = 900
    api = Api(cluster["n2"])
    refused = api.post(SERVICE, ASKED)
    assert (refused.status_code, code(refused)) == (200, "service-unavailable")
    assert refused.json()["service"] is None
    assert refused.json()["responseStatus"]["message"].startswith("Serivce discovery is not in up state.")
    assert "x-artemis-outcome" not in refused.headers
    stale = api.post(SERVICE, ASKED, x_artemis_consistency="stale")
    assert ids(stale) == ["i1"]
    assert stale.headers["x-artemis-apply-lag-ms"] == "900"
    for allowed, expected in (("900", "success"), ("899", "service-unavailable")):
        answer = api.post(SERVICE, ASKED, x_artemis_consistency="stale", x_artemis_max_stale_ms=allowed)
        assert code(answer) == expected


@pytest.mark.parametrize("level", ["stale", "session"])
def test_a_node_that_is_not_ready_gives_no_old_data(level: str) -> None:
    cluster = LoopbackCluster()
    cluster["n1"].ready = False
    cluster["n1"].reasons = ("its state differs from its peers'",)
    answer = Api(cluster["n1"]).post(SERVICE, ASKED, x_artemis_consistency=level, x_artemis_min_revision="0")
    assert code(answer) == "service-unavailable"
    assert "its state differs from its peers'" in answer.json()["responseStatus"]["message"]


@pytest.mark.parametrize(
    "query", ["consistency=stale", "x-artemis-consistency=STALE", "Consistency=stale&max_stale_ms=5&timeoutMs=100"]
)
def test_options_may_be_query_parameters(query: str) -> None:
    api = Api(LoopbackCluster()["n1"])
    answer = api.post(f"{SERVICE}?{query}", ASKED)
    assert answer.headers["x-artemis-consistency"] == "stale"
    # A header wins, and an option's underscore is no hint for the naming of the answer.
    answer = api.get(f"/artemis/api/discovery/services.json?{query}&min_revision=0", x_artemis_consistency="session")
    assert answer.headers["x-artemis-consistency"] == "session"
    assert "responseStatus" in answer.json()


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("x-artemis-consistency", "strong", "one of linearizable, session, stale is allowed, not 'strong'"),
        ("x-artemis-min-revision", "-1", "an integer from 0 to 9223372036854775807 is allowed, not '-1'"),
        ("x-artemis-min-revision", "9" * 30, "an integer from 0 to 9223372036854775807 is allowed"),
        ("x-artemis-max-stale-ms", "1.5", "an integer from 0 to 9223372036854775807 is allowed, not '1.5'"),
        ("x-artemis-timeout-ms", "0", "an integer from 1 to 30000 is allowed, not '0'"),
        ("x-artemis-timeout-ms", "30001", "an integer from 1 to 30000 is allowed, not '30001'"),
        ("x-artemis-timeout-ms", "", "an integer from 1 to 30000 is allowed, not ''"),
    ],
)
def test_a_bad_option_of_a_read_is_told(name: str, value: str, allowed: str) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).send("POST", SERVICE, body=ASKED, headers={name: value})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"{name}: {allowed}")
    assert cluster["n1"].barriers == 0


@pytest.mark.parametrize("path", [REGISTER, HEARTBEAT, UNREGISTER])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-artemis-timeout-ms", "soon"),
        ("x-artemis-request-id", ""),
        ("x-artemis-request-id", "a" * 129),
        ("x-artemis-request-id", "a b"),
        ("x-artemis-request-id", "caf\u00e9"),
    ],
)
def test_a_bad_option_of_a_write_is_told_and_nothing_is_written(path: str, name: str, value: str) -> None:
    cluster = LoopbackCluster()
    headers: Any = {name: value.encode("latin-1")}
    answer = Api(cluster["n1"]).send("POST", path, body={"instances": [camel_instance()]}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"{name}: ")
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].proposed == []


def test_a_retry_on_another_node_gets_the_first_result_and_changes_nothing() -> None:
    cluster = LoopbackCluster("n1", "n2")
    n1, n2 = Api(cluster["n1"]), Api(cluster["n2"])
    write = {"instances": [camel_instance(), camel_instance(instance_id="bad", url=None)]}
    cluster["n1"].loses_answers = 1
    lost = n1.post(REGISTER, write, x_artemis_request_id="write-1")
    assert (code(lost), lost.headers["x-artemis-outcome"]) == ("service-unavailable", "unknown")
    n1.post(REGISTER, {"instances": [camel_instance(port=9)]})
    retried = n2.post(REGISTER, write, x_artemis_request_id="write-1")
    assert code(retried) == "partial_fail"
    assert retried.headers["x-artemis-revision"] == "1"
    # The retry of the older write did not undo the newer one.
    (instance,) = n2.post(SERVICE, ASKED).json()["service"]["instances"]
    assert instance["port"] == 9


def test_a_retry_may_be_spelled_differently_and_reach_a_node_with_other_settings() -> None:
    cluster = LoopbackCluster("n1", "n2")
    instance = {
        "service_id": "s",
        "instance_id": "i",
        "url": "http://u",
        "region_id": "lab",
        "metadata": {"a": "1", "b": "2"},
    }
    Api(cluster["n1"]).post("/api/registry/register", {"instances": [instance]}, x_artemis_request_id="w")
    same = {
        "metadata": {"b": "2", "a": "1"},
        "URL": "http://u",
        "regionId": "lab",
        "serviceId": "s",
        "instanceId": "i",
        "port": "0",
    }
    other = Api(cluster["n2"], HttpSettings(default_ttl_ms=50_000))
    retried = other.post(REGISTER, {"instances": [same]}, x_artemis_request_id="w")
    assert code(retried) == "success"
    assert cluster["n2"].registry.revision == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (REGISTER, {"instances": [camel_instance(port=1)]}),
        (REGISTER, {"instances": [camel_instance(leaseTtlMs=5_000)]}),
        (REGISTER, {"instances": [camel_instance(), camel_instance(instance_id="i2")]}),
        (UNREGISTER, {"instances": [camel_instance()]}),
    ],
)
def test_a_request_id_is_not_good_for_another_request(path: str, body: object) -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]}, x_artemis_request_id="once")
    answer = api.post(path, body, x_artemis_request_id="once")
    assert code(answer) == "request-id-reused"
    assert "x-artemis-request-id" in answer.json()["responseStatus"]["message"]
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].registry.revision == 1


def test_a_heartbeat_with_a_request_id_renews_every_time() -> None:
    """A remembered answer would acknowledge a renewal that restarted no lease."""
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    for _ in range(3):
        cluster.advance(15_000)
        beat = api.post(HEARTBEAT, {"instances": [camel_instance()]}, x_artemis_request_id="beat")
        assert code(beat) == "success"
    assert ids(api.post(SERVICE, ASKED)) == ["i1"]


def test_the_time_budget_reaches_the_log() -> None:
    cluster = LoopbackCluster()
    cluster.order_delay_ms = 2_000
    api = Api(cluster["n1"])
    body = {"instances": [camel_instance()]}
    late = api.post(REGISTER, body)
    assert (code(late), late.headers["x-artemis-outcome"]) == ("service-unavailable", "not-applied")
    assert code(api.post(REGISTER, body, x_artemis_timeout_ms="2000")) == "success"


@pytest.mark.parametrize(
    ("prefix", "snake"),
    [("/artemis", False), ("/ctx", False), ("", True)],
)
def test_without_a_hint_the_path_decides_the_naming_and_a_hint_wins(prefix: str, snake: bool) -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"], HttpSettings(contexts=("/ctx",)))
    bare = api.get(f"{prefix}/api/discovery/services").json()
    assert ("response_status" in bare) is snake
    hints: list[tuple[object, str]] = [
        ({"instances": [camel_instance()]}, "responseStatus"),
        ({"instances": [snake_instance()]}, "response_status"),
    ]
    for body, expected in hints:
        for suffix in ("", ".json"):
            assert expected in api.post(f"{prefix}/api/registry/register{suffix}", body).json()


def test_the_naming_without_a_hint_under_api_is_a_setting() -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(snake_default=False))
    assert "responseStatus" in api.get("/api/discovery/services").json()


def test_a_write_that_orders_nothing_claims_no_consistency() -> None:
    """Its revision is only what this node has applied, which may be behind."""
    api = Api(LoopbackCluster("n1")["n1"])
    body = {"instances": [{"serviceId": "s", "instanceId": "", "url": "http://a/"}]}
    answer = api.post("/artemis/api/registry/register.json", body)
    assert answer.json()["responseStatus"]["errorCode"] == "partial_fail"
    assert answer.headers["x-artemis-consistency"] == "none"
