"""What a node hears of the other members when it asks them: ``java-http.md`` 8.1."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from artemis.api.app import create_app
from artemis.api.health import LAG_MS_MAX, UNKNOWN, PeerHealth
from artemis.api.peer_polls import ANSWER_BYTES_MAX, MISSES_MAX, PATH, PeerPolls
from artemis.api.settings import HttpSettings
from tests.support.http import NOW_MS, Api, camel_instance
from tests.support.loopback import LoopbackCluster

NODES = "/artemis/api/cluster/up-registry-nodes.json"


class Members(httpx.AsyncBaseTransport):
    """Every member's application by its host name; a test may put another answer or none in its place."""

    def __init__(self, cluster: LoopbackCluster) -> None:
        settings = HttpSettings()
        self.apps: dict[str, httpx.AsyncBaseTransport] = {
            f"{node_id}.test": httpx.ASGITransport(create_app(node, settings, now_ms=lambda: NOW_MS))
            for node_id, node in cluster.nodes.items()
        }
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        app = self.apps.get(request.url.host)
        if app is None:
            raise httpx.ConnectTimeout("nobody there", request=request)
        return await app.handle_async_request(request)


class Watching:
    """n1 of three, and what it hears."""

    def __init__(self) -> None:
        self.cluster = LoopbackCluster("n1", "n2", "n3")
        self.members = Members(self.cluster)
        self.api = Api(self.cluster["n1"])
        self.heard: PeerHealth = self.api.peers

    def ask(self, times: int = 1) -> None:
        async def run() -> None:
            async with httpx.AsyncClient(transport=self.members) as client:
                polls = PeerPolls(self.cluster["n1"], self.heard, client)
                for _ in range(times):
                    await polls.once()

        asyncio.run(run())

    def listed(self) -> list[str]:
        return [node["url"] for node in self.api.post(NODES, {}).json()["nodes"]]


ALL = ["http://n1.test:8080", "http://n2.test:8080", "http://n3.test:8080"]


def test_the_others_are_asked_and_this_node_is_not() -> None:
    watching = Watching()
    watching.ask()
    assert sorted(watching.members.asked) == [url + PATH for url in ALL[1:]]
    assert watching.listed() == ALL


def test_a_member_that_says_it_is_not_ready_is_not_listed_until_it_says_otherwise() -> None:
    watching = Watching()
    watching.cluster["n2"].ready = False
    watching.ask()
    assert watching.listed() == [ALL[0], ALL[2]]
    watching.cluster["n2"].ready = True
    watching.ask()
    assert watching.listed() == ALL


def test_a_member_whose_state_may_be_old_is_listed_by_nobody() -> None:
    watching = Watching()
    for lag_ms, listed in ((LAG_MS_MAX, ALL), (LAG_MS_MAX + 1, [ALL[0], ALL[2]])):
        watching.cluster["n2"].apply_lag_ms = lag_ms
        watching.ask()
        assert watching.listed() == listed


def test_a_node_that_is_cut_off_names_nobody_so_that_its_clients_keep_the_list_they_have() -> None:
    watching = Watching()
    cut_off = watching.cluster["n1"]
    cut_off.disconnected = {"n2", "n3"}
    assert watching.listed() == [ALL[0]]  # it may be over in a moment
    cut_off.apply_lag_ms = LAG_MS_MAX + 1
    answer = watching.api.post(NODES, {}).json()
    assert (answer["nodes"], answer["responseStatus"]["errorCode"]) == (None, "data-not-found")
    watching.cluster.leader_id = None
    refused = watching.api.post("/artemis/api/registry/register.json", {"instances": [camel_instance()]}).json()
    assert "status: down, canServiceRegistry: false, " in refused["responseStatus"]["message"]


def test_a_member_that_stops_answering_is_left_out_after_two_misses() -> None:
    watching = Watching()

    async def run() -> list[int]:
        counts = []
        async with httpx.AsyncClient(transport=watching.members) as client:
            polls = PeerPolls(watching.cluster["n1"], watching.heard, client)
            await polls.once()
            del watching.members.apps["n2.test"]
            for _ in range(MISSES_MAX):
                await polls.once()
                counts.append(sum(health != UNKNOWN for health in watching.heard.heard.values()))
        return counts

    assert asyncio.run(run()) == [2, 1]
    assert watching.listed() == [ALL[0], ALL[2]]


def test_a_member_that_never_answered_counts_by_its_link() -> None:
    """Its address may be meant for clients only, and out of this node's reach."""
    watching = Watching()
    watching.members.apps.clear()
    watching.ask(times=3)
    assert watching.listed() == ALL
    watching.cluster["n1"].disconnected = {"n3"}
    assert watching.listed() == ALL[:2]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"nodeStatus":{"status":"down"}}' + b" " * ANSWER_BYTES_MAX])
def test_whatever_else_answers_there_says_nothing(body: bytes) -> None:
    watching = Watching()
    strange = httpx.MockTransport(lambda _: httpx.Response(200, content=body, headers={"x-artemis-node": "n2"}))
    watching.members.apps["n2.test"] = strange
    watching.ask()
    assert "n2" not in watching.heard.heard


@pytest.mark.parametrize(("status", "node_id"), [(503, "n2"), (200, "other")])
def test_an_error_or_another_node_says_nothing(status: int, node_id: str) -> None:
    watching = Watching()
    body = b'{"nodeStatus":{"status":"down"}}'
    strange = httpx.MockTransport(lambda _: httpx.Response(status, content=body, headers={"x-artemis-node": node_id}))
    watching.members.apps["n2.test"] = strange
    watching.ask()
    assert "n2" not in watching.heard.heard


def test_one_that_says_it_is_down_is_asked_again_before_the_others() -> None:
    watching = Watching()
    watching.cluster["n2"].ready = False
    watching.ask()
    asked = len(watching.members.asked)
    watching.cluster["n2"].ready = True

    async def more() -> None:
        async with httpx.AsyncClient(transport=watching.members) as client:
            polls = PeerPolls(watching.cluster["n1"], watching.heard, client)
            await polls.once_more()
            await polls.once_more()

    asyncio.run(more())
    (again,) = watching.members.asked[asked:]
    assert "n2" in again
    assert len(watching.listed()) == 3
