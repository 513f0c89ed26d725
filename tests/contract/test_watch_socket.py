"""``WS /api/watch``: the stream, to clients that read and to clients that do not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from artemis.api import sockets, watch_socket
from artemis.api.feed import BATCH_CHANGES_MAX
from artemis.api.settings import HttpSettings
from artemis.registry import StateLimits
from tests.support.http import NOW_MS
from tests.support.loopback import LoopbackCluster, LoopbackNode
from tests.support.replica import instance, register
from tests.support.sockets import Site, Talk, play, serving, until

WATCH = "/api/watch"


async def change(node: LoopbackNode, service_id: str, *instance_ids: str, **fields: Any) -> int:
    """One entry; the revision after it."""
    instances = (instance(service_id, instance_id, **fields) for instance_id in instance_ids or ("i1",))
    return (await node.propose(register(*instances), timeout_ms=1_000)).revision


def subscribe(since: int | str, *services: str) -> dict[str, Any]:
    return {"type": "subscribe", "since": since} | ({"services": list(services)} if services else {})


def revisions(message: dict[str, Any]) -> list[int]:
    assert message["type"] == "changes"
    return [one["revision"] for one in message["changes"]]


async def closed(talk: Talk) -> tuple[int, str]:
    """Reads to the end; (code, reason)."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await talk.hear()
    return talk.connection.close_code or 0, talk.connection.close_reason or ""


def test_a_stream_begins_after_the_revision_named_and_goes_on() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        await change(node, "a")
        await change(node, "a", "i1", "i2")
        async with serving(node) as site, site.open(WATCH) as talk:
            assert await talk.ask(subscribe(1)) == {"type": "subscribed", "revision": 1}
            message = await talk.hear()
            assert (revisions(message), message["revision"]) == ([2, 3], 3)
            await change(node, "b", "i1", "i2")
            message = await talk.hear()
            assert (revisions(message), message["revision"]) == ([4, 5], 5)

    play(story)


def test_a_change_is_spelled_as_the_path_or_the_address_says() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        await change(node, "a", port=1)
        async with serving(node) as site:
            for path, service, kind, time in (
                ("/api/watch?since=0", "service_id", "change_type", "change_time"),
                ("/artemis/api/watch?since=0", "serviceId", "changeType", "changeTime"),
                ("/api/watch?since=0&naming=camel", "serviceId", "changeType", "changeTime"),
                ("/artemis/api/watch?since=0&naming=snake", "service_id", "change_type", "change_time"),
            ):
                async with site.open(path) as talk:
                    assert (await talk.hear())["type"] == "subscribed"
                    (one,) = (await talk.hear())["changes"]
                    assert set(one) == {kind, time, "instance", "revision"}
                    assert (one[kind], one[time], one["revision"]) == ("new", NOW_MS, 1)
                    assert (one["instance"][service], one["instance"]["port"]) == ("a", 1)

    play(story)


def test_a_filter_lets_nothing_else_through_and_bookmarks_go_on() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        settings = HttpSettings(watch_bookmark_ms=20)
        async with serving(node, settings) as site, site.open(WATCH) as talk:
            assert await talk.ask(subscribe("now", "A")) == {"type": "subscribed", "revision": 0}
            for _ in range(10):
                await change(node, "b")
            while (message := await talk.hear())["revision"] < 10:
                assert message["type"] == "bookmark"
            assert message == {"type": "bookmark", "revision": 10}
            await change(node, "a")
            while (message := await talk.hear())["type"] == "bookmark":
                assert message["revision"] == 10
            assert revisions(message) == [11]

    play(story)


def test_a_further_subscribe_takes_the_place_of_the_one_before() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node) as site, site.open(WATCH) as talk:
            await talk.ask(subscribe("now", "a"))
            await talk.ask(subscribe("now", "b"))
            await change(node, "a")
            await change(node, "b")
            assert revisions(await talk.hear()) == [2]
            assert await talk.ask(subscribe(0)) == {"type": "subscribed", "revision": 0}
            assert revisions(await talk.hear()) == [1, 2]

    play(story)


def test_a_revision_that_is_too_old_is_called_compacted_and_another_one_may_follow() -> None:
    async def story() -> None:
        node = LoopbackCluster(limits=StateLimits(changes_max=2))["n1"]
        for _ in range(5):
            await change(node, "a")
        async with serving(node) as site, site.open(WATCH) as talk:
            assert await talk.ask(subscribe(2)) == {"type": "compacted", "oldest": 3, "revision": 5}
            assert await talk.ask(subscribe(3)) == {"type": "subscribed", "revision": 3}
            assert revisions(await talk.hear()) == [4, 5]
            await until(lambda: site.metric("artemis_watch_compacted_total") == 1)

    play(story)


def test_a_node_that_has_not_reached_the_revision_sends_its_watcher_elsewhere() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node, HttpSettings(request_timeout_ms=50)) as site, site.open(WATCH) as talk:
            await talk.say(subscribe(7))
            code, reason = await closed(talk)
            assert code == watch_socket.ELSEWHERE
            assert "revision 7" in reason

    play(story)


def test_a_node_that_loses_its_leader_sends_its_watchers_elsewhere() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node, HttpSettings(watch_bookmark_ms=20)) as site, site.open(WATCH) as talk:
            await talk.ask(subscribe("now"))
            node.cut_off = True
            assert await closed(talk) == (watch_socket.ELSEWHERE, "this node knows no leader")

    play(story)


def test_a_node_that_is_not_believed_any_more_tells_no_changes() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node) as site, site.open(WATCH) as talk:
            await talk.ask(subscribe("now"))
            node.ready = False
            await change(node, "a")
            assert await closed(talk) == (watch_socket.ELSEWHERE, "this node is not ready")
            assert site.metric("artemis_watch_changes_total", kind="socket") == 0

    play(story)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("{", "message: a JSON object is required"),
        ("[]", "message: a JSON object is required"),
        ('{"type":"unsubscribe"}', 'type: "subscribe" is allowed'),
        ('{"type":"subscribe"}', "since: required"),
        ('{"type":"subscribe","since":-1}', "since: a revision"),
        ('{"type":null,"since":1}', 'type: "subscribe" is allowed, not null'),
        ('{"type":"subscribe","since":true}', 'or "now" is allowed, not true'),
        ('{"type":"subscribe","since":1.5}', "since: a revision"),
        ('{"type":"subscribe","since":0,"service":["a"]}', "'service': no field"),
        ('{"type":"subscribe","since":0,"services":"a"}', "services: a list"),
        ('{"type":"subscribe","since":0,"services":[]}', "services: 1 to 1000"),
        ('{"type":"subscribe","since":0,"services":[7]}', "services: each must be the id of a service, not 7"),
    ],
)
def test_a_message_that_is_not_understood_is_refused_by_name(message: str, named: str) -> None:
    async def story() -> None:
        async with serving(LoopbackCluster()["n1"]) as site, site.open(WATCH) as talk:
            await talk.connection.send(message)
            heard = await talk.hear()
            assert heard["type"] == "error"
            assert named in heard["message"]
            assert (await closed(talk))[0] == watch_socket.POLICY_VIOLATION

    play(story)


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/api/nothing", 404, "there is no WebSocket at this path"),
        ("/api/watch?since=x", 400, "since: a revision"),
        ("/api/watch?service=a&since=0", 400, "'service': no parameter"),
        ("/api/watch?services=a", 400, "services: has no meaning here without since"),
        ("/api/watch?since=0&since=0", 400, "since: given twice"),
        ("/api/watch?naming=x", 400, "naming: snake or camel"),
    ],
)
def test_a_handshake_that_is_not_understood_is_refused_by_name(path: str, status: int, named: str) -> None:
    async def story() -> None:
        async with serving(LoopbackCluster()["n1"]) as site:
            with pytest.raises(InvalidStatus) as caught:
                async with site.open(path):
                    raise AssertionError("accepted")
            assert caught.value.response.status_code == status
            assert named in bytes(caught.value.response.body or b"").decode()

    play(story)


def test_more_sockets_than_allowed_are_refused_and_a_place_becomes_free_again() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster()["n1"], HttpSettings(sockets_max=1)) as site:
            async with site.open(WATCH):
                with pytest.raises(InvalidStatus) as caught:
                    async with site.open(WATCH):
                        raise AssertionError("accepted")
                assert caught.value.response.status_code == 503
                assert site.metric("artemis_sockets", kind="watch") == 1
            await until(lambda: site.metric("artemis_sockets", kind="watch") == 0)
            async with site.open(WATCH) as talk:
                await talk.ask(subscribe("now"))
            assert site.metric("artemis_sockets_refused_total") == 1

    play(story)


def test_a_node_that_stops_tells_its_watchers_to_connect_again() -> None:
    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with asyncio.timeout(20):
            stack = serving(node)
            site = await stack.__aenter__()
            async with site.open(WATCH) as talk:
                await talk.ask(subscribe("now"))
                ending = asyncio.ensure_future(stack.__aexit__(None, None, None))
                assert (await closed(talk))[0] == 1012
                await ending

    play(story)


class Stalled:
    """A client that shakes hands, subscribes and then reads nothing."""

    def __init__(self, site: Site) -> None:
        self._uri = f"ws://127.0.0.1:{site.port}{WATCH}?since=now"

    async def __aenter__(self) -> Stalled:
        self._connecting = connect(self._uri, max_queue=1, compression=None, ping_interval=None)
        self.connection = await self._connecting
        self.connection.transport.pause_reading()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.connection.transport.abort()


BIG = "x" * 10_000


def test_a_client_that_does_not_read_costs_a_bounded_buffer_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SEND_SECONDS", 0.2)

    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node, HttpSettings(sockets_max=3)) as site, site.open(WATCH, bytes_max=None) as talk:
            await talk.ask(subscribe("now"))
            async with Stalled(site):
                await until(lambda: site.metric("artemis_watch_subscriptions") == 2)
                sent = 0
                while site.metric("artemis_sockets_stalled_total") == 0:
                    await change(node, "a", metadata={"pad": BIG})
                    sent += 1
                    # Who reads gets everything at once, whatever the other one does.
                    assert revisions(await talk.hear()) == [sent]
                await until(lambda: site.metric("artemis_sockets", kind="watch") == 1)

    play(story)


def test_a_reader_that_is_too_slow_is_told_to_resync_and_never_given_a_gap() -> None:
    async def story() -> None:
        node = LoopbackCluster(limits=StateLimits(changes_max=5))["n1"]
        async with serving(node) as site, Stalled(site) as stalled:
            await until(lambda: site.metric("artemis_watch_subscriptions") == 1)
            revision = 0
            while site.metric("artemis_watch_lag_revisions") < 10:
                revision = await change(node, "a", metadata={"pad": BIG})
                await asyncio.sleep(0)
            stalled.connection.transport.resume_reading()
            talk = Talk(stalled.connection)
            assert await talk.hear() == {"type": "subscribed", "revision": 0}
            seen = 0
            while (message := await talk.hear())["type"] == "changes":
                assert revisions(message) == list(range(seen + 1, message["revision"] + 1))
                seen = message["revision"]
            assert message == {"type": "resync", "oldest": revision - 5, "revision": revision}
            assert seen < revision - 5
            assert site.metric("artemis_watch_resyncs_total") == 1
            # It has read the services as of that revision, and goes on.
            await talk.say(subscribe(revision))
            assert await talk.hear() == {"type": "subscribed", "revision": revision}
            await change(node, "b")
            assert revisions(await talk.hear()) == [revision + 1]

    play(story)


def test_a_long_history_comes_in_messages_of_bounded_size() -> None:
    async def story() -> None:
        cluster = LoopbackCluster()
        for first in range(0, 3 * BATCH_CHANGES_MAX, 50):
            cluster.advance(1)
            await change(cluster["n1"], "a", *(f"i{number}" for number in range(first, first + 50)))
        async with serving(cluster["n1"]) as site, site.open(WATCH, bytes_max=None) as talk:
            await talk.ask(subscribe(0))
            seen = 0
            while seen < 3 * BATCH_CHANGES_MAX:
                found = revisions(await talk.hear())
                assert len(found) == BATCH_CHANGES_MAX
                assert found == list(range(seen + 1, seen + 1 + len(found)))
                seen = found[-1]

    play(story)


def test_a_client_that_pings_and_does_not_read_is_not_read_either() -> None:
    """Else its pongs would fill the node's memory."""

    async def story() -> None:
        node = LoopbackCluster()["n1"]
        async with serving(node) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
            writer.write(
                b"GET /api/watch HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert b"101" in await reader.readline()
            ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
            # Both kernels' buffers can take some megabytes; then the node stops reading, and the client cannot write.
            blocked = False
            while not blocked:
                writer.write(ping * 1_000)
                drained = asyncio.ensure_future(writer.drain())
                blocked = not (await asyncio.wait((drained,), timeout=0.5))[0]
            drained.cancel()
            writer.transport.abort()
            await until(lambda: site.metric("artemis_sockets", kind="watch") == 0)

    play(story)
