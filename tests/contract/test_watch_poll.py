"""``GET /api/watch``: the long poll."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from artemis.api.settings import HttpSettings
from artemis.registry import StateLimits
from tests.support.http import NOW_MS, Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster
from tests.support.sockets import until

PATHS = ("/api/watch", "/artemis/api/watch.json", "/ctx/api/watch")


def scene(limits: StateLimits | None = None, **settings: Any) -> tuple[LoopbackCluster, Api]:
    cluster = LoopbackCluster("n1", "n2", limits=limits)
    return cluster, Api(cluster["n1"], HttpSettings(contexts=("/ctx",), **settings))


def register(api: Api, service_id: str, *instance_ids: str) -> int:
    instances = [snake_instance(service_id, instance_id) for instance_id in instance_ids or ("i1",)]
    answer = api.post("/api/registry/register.json", {"instances": instances})
    assert answer.json()["response_status"]["status"] == "success"
    return int(answer.headers["x-artemis-revision"])


def revisions(answer: httpx.Response) -> list[int]:
    return [change["revision"] for change in answer.json()["changes"]]


@pytest.mark.parametrize("path", PATHS)
def test_every_later_change_is_given_in_order_with_the_revision_to_go_on_from(path: str) -> None:
    _, api = scene()
    register(api, "a", "i1", "i2")
    register(api, "b")
    answer = api.get(f"{path}?since=1")
    assert answer.status_code == 200
    assert revisions(answer) == [2, 3]
    assert answer.json()["revision"] == 3
    assert answer.headers["x-artemis-revision"] == "3"
    assert answer.headers["x-artemis-consistency"] == "session"


def test_a_change_in_snake_case() -> None:
    cluster, api = scene()
    register(api, "a")
    answer = api.get("/api/watch?since=0").json()
    assert answer == {
        "response_status": {"error_code": "success", "status": "success"},
        "changes": [
            {
                "revision": 1,
                "change_type": "new",
                "change_time": NOW_MS,
                "instance": snake_instance("a"),
            }
        ],
        "revision": 1,
    }
    assert cluster["n1"].registry.revision == 1


@pytest.mark.parametrize("path", ["/artemis/api/watch?since=0", "/api/watch.json?since=0&naming=camel"])
def test_a_change_in_camel_case(path: str) -> None:
    _, api = scene()
    api.post("/artemis/api/registry/register.json", {"instances": [camel_instance("a")]})
    answer = api.get(path).json()
    assert answer["responseStatus"] == {"errorCode": "success", "message": "", "status": "success"}
    change = {"changeTime": NOW_MS, "changeType": "new", "instance": camel_instance("a"), "revision": 1}
    assert (answer["changes"], answer["revision"]) == ([change], 1)


def test_without_a_change_the_wait_ends_with_a_bookmark() -> None:
    _, api = scene()
    register(api, "a")
    register(api, "b")
    answer = api.get("/api/watch?since=1&services=a&wait=10")
    assert (revisions(answer), answer.json()["revision"]) == ([], 2)


def test_a_poll_that_waits_is_answered_by_the_next_change_of_its_services() -> None:
    _, api = scene()

    async def story() -> None:
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as client:
            polling = asyncio.ensure_future(client.get("/api/watch?since=0&services=A,b&wait=20000"))
            for service_id in ("c", "a"):
                await asyncio.sleep(0)
                body = {"instances": [snake_instance(service_id)]}
                await client.post("/api/registry/register.json", json=body)
            answer = await polling
        assert (revisions(answer), answer.json()["revision"]) == ([2], 2)

    asyncio.run(story())


def test_now_is_not_before_anything_acknowledged() -> None:
    cluster, api = scene()
    cluster["n1"].follows = False
    register(Api(cluster["n2"]), "a")
    answer = api.get("/api/watch?since=now&wait=0")
    assert (revisions(answer), answer.json()["revision"]) == ([], 1)
    assert answer.headers["x-artemis-consistency"] == "linearizable"
    assert cluster["n1"].barriers == 1


def test_the_filter_is_of_service_ids_in_any_case() -> None:
    _, api = scene()
    for service_id in ("a", "b", "c", "A"):
        register(api, service_id)
    assert revisions(api.get("/api/watch?since=0&services=a,C")) == [1, 3, 4]
    assert revisions(api.get("/api/watch?since=0&services=b&services=c")) == [2, 3]


def test_spaces_around_an_id_are_part_of_it_as_in_the_registry() -> None:
    _, api = scene()
    register(api, " a ")
    register(api, "a")
    assert revisions(api.get("/api/watch?since=0&services=%20A%20")) == [1]
    assert revisions(api.get("/api/watch?since=0&services=b,a")) == [2]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [("/api/watch", "bad-request", "error_message"), ("/artemis/api/watch", "data-not-found", "message")],
)
def test_a_revision_that_is_too_old_is_called_compacted(path: str, code: str, message: str) -> None:
    _, api = scene(StateLimits(changes_max=2))
    for _ in range(5):
        register(api, "a")
    answer = api.get(f"{path}?since=2")
    body = answer.json()
    assert answer.status_code == 200
    status = body["response_status"] if path == "/api/watch" else body["responseStatus"]
    assert status == {
        **status,
        "status": "fail",
        message: "the changes after since are not kept any more; read the services again",
    }
    assert code in status.values()
    assert (body["compacted"], body["oldest"], body["revision"]) == (True, 3, 5)
    assert answer.headers["x-artemis-compacted"] == "3"
    assert revisions(api.get(f"{path}?since=3")) == [4, 5]


def test_a_revision_that_this_node_has_not_reached_is_waited_for() -> None:
    cluster, api = scene()
    cluster["n1"].follows = False
    register(Api(cluster["n2"]), "a")
    answer = api.get("/api/watch?since=1&wait=0")
    assert (revisions(answer), answer.json()["revision"]) == ([], 1)
    late = api.get("/api/watch?since=2&wait=0")
    assert late.json()["response_status"]["error_code"] == "service-unavailable"
    assert "revision 2" in late.json()["response_status"]["error_message"]


@pytest.mark.parametrize("since", ["0", "now"])
def test_a_node_that_may_hear_late_sends_its_watchers_elsewhere(since: str) -> None:
    cluster, api = scene()
    cluster["n1"].cut_off = True
    answer = api.get(f"/api/watch?since={since}&wait=0")
    assert answer.json()["response_status"]["error_code"] == "service-unavailable"


def test_a_node_that_loses_its_leader_meanwhile_does_not_say_that_nothing_happened() -> None:
    cluster, api = scene()

    async def story() -> None:
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as client:
            polling = asyncio.ensure_future(client.get("/api/watch?since=0&wait=100"))
            await until(lambda: api.app._feed.subscriptions == 1)  # type: ignore[attr-defined]
            cluster["n1"].cut_off = True
            answer = await polling
        assert answer.json()["response_status"]["error_code"] == "service-unavailable"

    asyncio.run(story())


def test_a_node_that_is_not_believed_any_more_tells_no_changes() -> None:
    cluster, api = scene()
    register(api, "a")
    cluster["n1"].ready = False
    answer = api.get("/api/watch?since=0")
    assert answer.json()["response_status"]["error_code"] == "service-unavailable"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "since: required"),
        ("since=", "since: a revision from 0 to 9223372036854775807"),
        ("since=-1", "since: a revision"),
        ("since=9223372036854775808", "since: a revision"),
        ("since=1e3", "since: a revision"),
        ("since=1&since=2", "since: given 2 times"),
        ("since=1&wait=-1", "wait: milliseconds from 0 to 300000"),
        ("since=1&wait=300001", "wait: milliseconds from 0 to 300000"),
        ("since=1&wait=x", "wait: milliseconds"),
        ("since=1&services=", "services: each must be the id of a service"),
        ("since=1&services=a,,b", "services: each must be"),
        ("since=1&service=a", "'service': no parameter of a watch; those are since, services, wait"),
        ("since=1&naming=kebab", "naming: snake or camel"),
        ("since=1&timeout-ms=0", "x-artemis-timeout-ms"),
        ("since=1&services=" + ",".join(map(str, range(1_001))), "services: 1 to 1000 are allowed, not 1001"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(query: str, named: str) -> None:
    _, api = scene()
    answer = api.get(f"/api/watch?{query}")
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_only_get_is_allowed() -> None:
    _, api = scene()
    answer = api.post("/api/watch?since=0", {})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_poll_whose_client_went_away_is_forgotten() -> None:
    _, api = scene()

    async def story() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/watch",
            "query_string": b"since=0&wait=300000",
            "headers": [],
        }
        feed = api.app._feed  # type: ignore[attr-defined]
        serving = asyncio.ensure_future(api.app(scope, receive, send))
        await until(lambda: feed.subscriptions == 1)
        gone.set()
        async with asyncio.timeout(20):
            await serving
        assert (sent, feed.subscriptions) == ([], 0)

    asyncio.run(story())


def test_a_server_that_closes_answers_those_who_wait() -> None:
    _, api = scene()

    async def story() -> None:
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as client:
            polls = [
                asyncio.ensure_future(client.get(f"/api/watch?since=0&wait=300000{services}"))
                for services in ("", "&services=a,b")
            ]
            await until(lambda: api.app._feed._idle == 2)  # type: ignore[attr-defined]
            api.app.drain()  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                answers = await asyncio.gather(*polls)
        assert [(revisions(answer), answer.json()["revision"]) for answer in answers] == [([], 0)] * 2

    asyncio.run(story())


def test_metrics_count_watches() -> None:
    _, api = scene(StateLimits(changes_max=1))
    register(api, "a")
    register(api, "a")
    for query in ("since=1", "since=2&wait=0", "since=0"):
        api.get(f"/api/watch?{query}")
    text = api.get("/metrics").text
    for line in (
        'artemis_watch_batches_total{kind="poll"} 1.0',
        'artemis_watch_changes_total{kind="poll"} 1.0',
        'artemis_watch_bookmarks_total{kind="poll"} 1.0',
        "artemis_watch_compacted_total 1.0",
        "artemis_watch_resyncs_total 0.0",
        "artemis_watch_subscriptions 0.0",
        "artemis_watch_lag_revisions 0.0",
        'artemis_sockets{kind="watch"} 0.0',
    ):
        assert line in text
