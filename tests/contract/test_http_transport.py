"""Bodies, encodings, methods and paths: ``java-http.md`` 1.3 and 2, ``java-client-and-push.md`` 2."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from artemis.api.settings import HttpSettings
from tests.support.http import NOW_MS, Api, camel_instance
from tests.support.loopback import LoopbackCluster, LoopbackNode

REGISTER = "/artemis/api/registry/register.json"
LOOKUP = "/artemis/api/discovery/lookup.json"
LEASES = "/artemis/api/status/leases.json"
BODY = orjson.dumps({"instances": [camel_instance()]})


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
def test_compressed_bodies_are_inflated(encoding: str, content: bytes) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).send("POST", REGISTER, content=content, headers={"content-encoding": encoding})
    assert answer.json()["responseStatus"]["status"] == "success"
    assert cluster["n1"].registry.instance_count == 1


class Exchange:
    """One request, part by part, on the bare ASGI interface."""

    def __init__(self, node: LoopbackNode, settings: HttpSettings | None = None) -> None:
        self.api = Api(node, settings)
        self.parts_read = 0
        self.sent: list[dict[str, Any]] = []

    def run(self, parts: Iterable[bytes | None], **headers: str) -> None:
        """``None`` is the client going away."""
        waiting = list(parts)
        scope = {
            "type": "http",
            "method": "POST",
            "path": REGISTER,
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
            ],
        }

        async def receive() -> dict[str, Any]:
            self.parts_read += 1
            part = waiting.pop(0)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(self.api.app(scope, receive, send))  # type: ignore[arg-type]

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


def test_a_body_in_chunks_is_put_together() -> None:
    cluster = LoopbackCluster()
    exchange = Exchange(cluster["n1"])
    exchange.run([BODY[:10], b"", BODY[10:100], BODY[100:], b""])
    assert exchange.status == 200
    assert cluster["n1"].registry.instance_count == 1


def test_a_body_declared_too_large_is_refused_unread() -> None:
    exchange = Exchange(LoopbackCluster()["n1"], HttpSettings(body_bytes_max=100))
    exchange.run([b"x" * 101], content_length="101")
    assert (exchange.status, exchange.parts_read) == (413, 0)
    assert b"connection" not in exchange.headers
    assert exchange.headers[b"x-artemis-outcome"] == b"not-applied"
    assert b"at most 100 bytes" in exchange.sent[1]["body"]


def test_an_undeclared_body_is_read_no_further_than_its_bound() -> None:
    exchange = Exchange(LoopbackCluster()["n1"], HttpSettings(body_bytes_max=100))
    exchange.run([b"x" * 40] * 50)
    assert (exchange.status, exchange.parts_read) == (413, 3)


def test_the_largest_body_allowed_is_accepted() -> None:
    for content, headers in ((BODY, {}), (gzip.compress(BODY), {"content_encoding": "gzip"})):
        cluster = LoopbackCluster()
        exchange = Exchange(cluster["n1"], HttpSettings(body_bytes_max=len(BODY)))
        exchange.run([content], **headers)
        assert exchange.status == 200
        smaller = Exchange(cluster["n1"], HttpSettings(body_bytes_max=len(BODY) - 1))
        smaller.run([content], **headers)
        assert smaller.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_small_body_that_inflates_beyond_the_bound_is_refused(encoding: str) -> None:
    bomb = b" " * 50_000_000
    content = gzip.compress(bomb) if encoding == "gzip" else zlib.compress(bomb)
    assert len(content) < 100_000
    answer = Api(LoopbackCluster()["n1"]).send(
        "POST", REGISTER, content=content, headers={"content-encoding": encoding}
    )
    assert answer.status_code == 413


def test_the_bound_holds_over_all_gzip_members_and_their_number_is_bounded() -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(body_bytes_max=1_000))
    half = gzip.compress(b" " * 600)
    assert api.send("POST", REGISTER, content=half * 2, headers={"content-encoding": "gzip"}).status_code == 413
    many = api.send("POST", REGISTER, content=gzip.compress(b" ") * 17, headers={"content-encoding": "gzip"})
    assert many.status_code == 400
    assert "16 gzip members" in many.json()["message"]


@pytest.mark.parametrize(
    ("encoding", "content", "status"),
    [
        ("gzip", BODY, 400),
        ("gzip", gzip.compress(BODY)[:-9], 400),
        ("gzip", b"", 400),
        ("deflate", zlib.compress(BODY)[:-9], 400),
        ("deflate", b"\xff\xff\xff", 400),
        ("br", BODY, 415),
        ("gzip, gzip", BODY, 415),
    ],
)
def test_a_body_that_does_not_inflate_is_refused(encoding: str, content: bytes, status: int) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).send("POST", REGISTER, content=content, headers={"content-encoding": encoding})
    assert answer.status_code == status
    assert cluster["n1"].proposed == []


def test_a_client_that_goes_away_is_not_answered() -> None:
    cluster = LoopbackCluster()
    for parts in ([None], [BODY[:10], None]):
        exchange = Exchange(cluster["n1"])
        exchange.run(parts)
        assert exchange.sent == []
    assert cluster["n1"].proposed == []


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8", "application/x+json"],
)
def test_json_content_types_are_accepted(content_type: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).send("POST", REGISTER, content=BODY, headers={"content-type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "named"),
    [
        ({"content-type": "text/plain"}, 415, "Content-Type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "Content-Type"),
        ({"content-type": ""}, 415, "Content-Type"),
        ({"accept": "text/html"}, 406, "Accept"),
        ({"accept": "application/json;q=0"}, 406, "Accept"),
    ],
)
def test_other_types_are_refused(headers: dict[str, str], status: int, named: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).send("POST", REGISTER, content=BODY, headers=headers)
    assert answer.status_code == status
    assert answer.json()["message"].startswith(f"{named}: ")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, application/*;q=0.5", ""])
def test_accept_that_includes_json_is_served(accept: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).send("POST", REGISTER, content=BODY, headers={"accept": accept})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "body: a JSON object is required, the body is empty"),
        (b"{", "body: not valid JSON: "),
        (b"{'instances': []}", "body: not valid JSON: "),
        (b'{"instances": [],}', "body: not valid JSON: "),
        (b'{"instances": []} {', "body: not valid JSON: "),
        (b'{"instances": [{"port": NaN}]}', "body: not valid JSON: "),
        (b'{"instances": [{"serviceId": "\\ud800"}]}', "body: not valid JSON: "),
        (b'{"instances": [{"serviceId": "\xff"}]}', "body: not valid JSON: "),
        (b"[" * 100_000, "body: not valid JSON: "),
        (b"null", "body: an object is allowed, not null"),
        (b"[]", "body: an object is allowed, not a list"),
        (b'"x"', "body: an object is allowed, not 'x'"),
        (b'{"instances": {}}', "instances: a list is allowed, not an object"),
        (b'{"instances": "x"}', "instances: a list is allowed, not 'x'"),
        (b'{"Instances": [1]}', "Instances[0]: an object is allowed, not 1"),
        (
            b'{"instances": [{"serviceId": "s", "PORT": "http"}]}',
            "instances[0].PORT: an integer from -2147483648 to 2147483647 is allowed, not 'http'",
        ),
        (
            b'{"instances": [{"port": 2147483648}]}',
            "instances[0].port: an integer from -2147483648 to 2147483647 is allowed, not 2147483648",
        ),
        (b'{"instances": [{"port": 1e300}]}', "instances[0].port: an integer from "),
        (b'{"instances": [{"port": true}]}', "instances[0].port: an integer from "),
        (b'{"instances": [{"port": []}]}', "instances[0].port: an integer from "),
        (b'{"instances": [{"leaseTtlMs": "soon"}]}', "instances[0].leaseTtlMs: an integer from "),
        (b'{"instances": [{"serviceId": {}}]}', "instances[0].serviceId: a text is allowed, not an object"),
        (b'{"instances": [{"service_id": []}]}', "instances[0].service_id: a text is allowed, not a list"),
        (b'{"instances": [{"metadata": []}]}', "instances[0].metadata: an object is allowed, not a list"),
        (b'{"instances": [{"metadata": {"a": {}}}]}', "instances[0].metadata.a: a text is allowed, not an object"),
        (b'{"instanceKeys": {}}', "instanceKeys: a list is allowed, not an object"),
        (b'{"instanceKeys": [null]}', "instanceKeys[0]: an object is allowed, not null"),
    ],
)
def test_a_malformed_write_names_the_field_and_what_is_allowed_and_changes_nothing(
    content: bytes, message: str
) -> None:
    cluster = LoopbackCluster()
    answer = Api(cluster["n1"]).send("POST", REGISTER, content=content)
    assert answer.status_code == 400
    body = answer.json()
    assert body["message"].startswith(message)
    assert {**body, "message": ""} == {
        "timestamp": NOW_MS,
        "status": 400,
        "error": "Bad Request",
        "message": "",
        "path": REGISTER,
    }
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    assert cluster["n1"].proposed == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("discovery/lookup", {"discoveryConfigs": {}}, "discoveryConfigs: a list is allowed, not an object"),
        ("discovery/lookup", {"discoveryConfigs": ["s"]}, "discoveryConfigs[0]: an object is allowed, not 's'"),
        (
            "discovery/lookup",
            {"discoveryConfigs": [{"discoveryData": {"a": []}}]},
            "discoveryConfigs[0].discoveryData.a: a text is allowed, not a list",
        ),
        ("discovery/service", {"discovery_config": []}, "discovery_config: an object is allowed, not a list"),
        ("discovery/services", {"regionId": []}, "regionId: a text is allowed, not a list"),
        ("discovery/services-delta", {"version": "x"}, "version: an integer from "),
        ("discovery/services-delta", {"version": 2**63}, "version: an integer from "),
        ("cluster/up-registry-nodes", {"zone_id": {}}, "zone_id: a text is allowed, not an object"),
    ],
)
def test_a_malformed_read_names_the_field(path: str, body: object, message: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).post(f"/api/{path}", body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(message)
    assert "x-artemis-outcome" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/artemis/api/registry",
        "/artemis/api/cluster/nodes.json",
        "/api/status/node/json",
        "/",
        "/api/registry/register/",
    ],
)
def test_an_unknown_path_is_404(path: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).post(path, {})
    assert answer.status_code == 404
    assert answer.json() == {
        "timestamp": NOW_MS,
        "status": 404,
        "error": "Not Found",
        "message": f"{path}: there is no such path; the API is under /artemis/api/ and /api/",
        "path": path,
    }
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", REGISTER, "POST, OPTIONS"),
        ("DELETE", "/api/discovery/services", "GET, HEAD, POST, OPTIONS"),
        ("GET", LOOKUP, "POST, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405(method: str, path: str, allowed: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).send(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["message"] == f"method: {allowed} are allowed here, not {method}"


@pytest.mark.parametrize(
    "path",
    [
        "/artemis/api/discovery/services.json",
        "/api/discovery/service?service_id=svc1",
        "/artemis/api/discovery/service.json",
        "/artemis/api/cluster/up-registry-nodes.json",
        "/artemis/api/status/node.json",
        "/artemis/api/status/leases.json?appIds=svc1",
        "/artemis/api/status/websocket/connection.json",
    ],
)
def test_head_is_answered_with_the_head_of_get(path: str) -> None:
    api = Api(LoopbackCluster()["n1"])
    assert api.post(REGISTER, {"instances": [camel_instance()]}).status_code == 200
    head, get = api.send("HEAD", path), api.get(path)
    assert head.status_code == get.status_code
    assert head.headers == get.headers


def test_head_of_what_is_not_got_is_405() -> None:
    answer = Api(LoopbackCluster()["n1"]).send("HEAD", LOOKUP)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


def test_a_wrong_method_of_an_operation_is_405() -> None:
    answer = Api(LoopbackCluster()["n1"]).send("DELETE", "/health")
    assert answer.status_code == 405
    assert answer.json()["status"] == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", [REGISTER, "/anything"])
def test_every_preflight_is_allowed(path: str) -> None:
    answer = Api(LoopbackCluster()["n1"]).send(
        "OPTIONS",
        path,
        headers={"access-control-request-method": "PUT", "access-control-request-headers": "x-one, x-two"},
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-methods"] == "PUT"
    assert answer.headers["access-control-allow-headers"] == "x-one, x-two"
    assert answer.headers["access-control-max-age"] == "3600"


def test_an_unforeseen_exception_is_a_500_of_unknown_outcome_and_reaches_the_server() -> None:
    cluster = LoopbackCluster()
    exchange = Exchange(cluster["n1"])

    async def broken(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError

    cluster["n1"].propose = broken  # type: ignore[assignment, method-assign]
    with pytest.raises(ZeroDivisionError):
        exchange.run([BODY])
    assert exchange.status == 500
    assert exchange.headers[b"x-artemis-outcome"] == b"unknown"


@pytest.mark.parametrize(
    ("path", "field", "one"),
    [
        ("/artemis/api/registry/register.json", "instances", camel_instance()),
        ("/artemis/api/registry/heartbeat.json", "instances", camel_instance()),
        ("/artemis/api/registry/unregister.json", "instances", camel_instance()),
        (
            "/api/registry/unregister.json",
            "instanceKeys",
            {"regionId": "r", "zoneId": "z", "serviceId": "s", "groupId": "g", "instanceId": "i"},
        ),
        (LOOKUP, "discoveryConfigs", {"serviceId": "s"}),
        (LEASES, "serviceIds", "s"),
    ],
)
def test_a_request_that_names_too_many_is_refused_and_changes_nothing(path: str, field: str, one: object) -> None:
    """All instances of a request appear together, so each node would stand still while it applies them."""
    cluster = LoopbackCluster()
    api = Api(cluster["n1"], HttpSettings(items_max=3))
    assert api.send("POST", path, content=orjson.dumps({field: [one] * 3})).status_code == 200
    revision = cluster["n1"].registry.revision
    answer = api.send("POST", path, content=orjson.dumps({field: [one] * 4}))
    assert answer.status_code == 413
    assert answer.json()["message"] == f"{field}: at most 3 are allowed in one request, not 4"
    assert answer.headers.get("x-artemis-outcome") == (None if path in (LOOKUP, LEASES) else "not-applied")
    assert cluster["n1"].registry.revision == revision
    assert api.send("POST", path, content=orjson.dumps({field: [one]})).status_code == 200
