"""Requests beyond the limit of their operation: ``java-http.md`` 4.3, ``rust-http.md`` 7 (row 12)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from artemis.api.rate_limits import WINDOW_S, RateLimit
from artemis.api.settings import HttpSettings
from artemis.errors import InvalidInput
from tests.support.http import Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster

MESSAGE = "Request is rate limited."
REFUSED = {"errorCode": "rate-limited", "message": MESSAGE, "status": "fail"}


class OneLoop(Api):
    """All requests in one event loop: the limits read its clock."""

    def __init__(self, **limits: int) -> None:
        cluster = LoopbackCluster()
        self.node = cluster["n1"]
        names = {name.replace("_", "-"): limit for name, limit in limits.items()}
        super().__init__(self.node, HttpSettings(rate_limits=names))
        self._runner = asyncio.Runner()

    def __enter__(self) -> OneLoop:
        self._runner.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._runner.__exit__(*exc)

    def call(self, path: str, content: bytes = b"{}", method: str = "POST") -> httpx.Response:
        headers = {"content-type": "application/json"}
        return self._runner.run(self.sending(method, path, content=content, headers=headers))

    def clock(self, now_s: float) -> None:
        self._runner.get_loop().time = lambda: now_s  # type: ignore[method-assign]


def body_of(instance: dict[str, Any]) -> bytes:
    return httpx.Request("POST", "http://x", json={"instances": [instance]}).content


def test_requests_beyond_the_limit_are_refused_and_change_nothing() -> None:
    with OneLoop(register=2) as api:
        for name in ("a", "b"):
            api.call("/artemis/api/registry/register.json", body_of(camel_instance(instance_id=name)))
        answer = api.call("/artemis/api/registry/register.json", body_of(camel_instance(instance_id="c")))
        assert answer.status_code == 200
        assert answer.json() == {"failedInstances": None, "responseStatus": REFUSED}
        assert answer.headers["x-artemis-outcome"] == "not-applied"
        assert api.node.registry.instance_count == 2
        other = api.call("/artemis/api/registry/heartbeat.json", body_of(camel_instance(instance_id="a")))
        assert other.json()["responseStatus"]["status"] == "success"


def test_clients_of_the_rust_server_are_told_by_the_status_too() -> None:
    with OneLoop(register=1) as api:
        api.call("/api/registry/register", body_of(snake_instance()))
        snake = api.call("/api/registry/register.json", body_of(snake_instance()))
        assert snake.status_code == 429
        assert snake.json() == {
            "response_status": {"error_code": "rate-limited", "error_message": MESSAGE, "status": "fail"}
        }
        rust = api.call("/api/registry/register", body_of(camel_instance()))
        assert rust.status_code == 429
        assert rust.json() == {
            "responseStatus": {"errorCode": "rate-limited", "errorMessage": MESSAGE, "status": "fail"}
        }


def test_an_operation_is_limited_over_all_its_paths_and_methods() -> None:
    with OneLoop(up_registry_nodes=1) as api:
        api.call("/artemis/api/cluster/up-registry-nodes.json")
        answer = api.call("/api/cluster/up-registry-nodes?regionId=lab", b"", "GET")
        assert (answer.status_code, answer.json()["responseStatus"]["errorCode"]) == (429, "rate-limited")
        assert api.call("/artemis/api/cluster/up-discovery-nodes.json").json()["responseStatus"]["status"] == "success"


def test_room_comes_back_as_requests_leave_the_window() -> None:
    with OneLoop(heartbeat=1) as api:
        body = body_of(camel_instance())
        codes = []
        for now_s in (100.0, 100.5, 109.9, 110.0, 110.1):
            api.clock(now_s)
            answer = api.call("/artemis/api/registry/heartbeat.json", body)
            codes.append(answer.json()["responseStatus"]["errorCode"])
        assert codes == ["partial_fail", "rate-limited", "rate-limited", "partial_fail", "rate-limited"]


def test_refused_requests_do_not_count() -> None:
    limit = RateLimit(10)
    admitted = [second for second in range(40) for _ in range(5) if limit.admits(float(second))]
    for second in range(40 - WINDOW_S):
        assert sum(second <= other < second + WINDOW_S for other in admitted) == 10


def test_a_long_silence_empties_the_window() -> None:
    limit = RateLimit(1)
    assert [limit.admits(now_s) for now_s in (5.0, 5.0, 1e9, 1e9)] == [True, False, True, False]


def test_limits_can_be_switched_off() -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(rate_limits={"heartbeat": 1}, rate_limiting=False))
    for _ in range(3):
        answer = api.post("/artemis/api/registry/heartbeat.json", {"instances": [camel_instance()]})
        assert answer.json()["responseStatus"]["errorCode"] == "partial_fail"


@pytest.mark.parametrize(
    ("limits", "rule"), [({"lookup": 5}, "for one of register, "), ({"register": 0}, "from 1 to ")]
)
def test_a_limit_that_cannot_be_is_refused(limits: dict[str, int], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        HttpSettings(rate_limits=limits)
