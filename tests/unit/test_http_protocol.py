"""One connection of the server, on a transport that does as told: what a client may send before it is a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from artemis.api import slow_requests
from artemis.api.http_protocol import ANSWER, COPIED_BYTES_MAX, HEAD_BYTES_MAX, OneWriteProtocol
from artemis.api.serve import uvicorn_config
from artemis.api.slow_requests import SlowRequests
from tests.support.sockets import until
from tests.support.transports import ToldTransport

PIECE = 1_000
END = b"\r\n\r\n"
LONG = b"a" * (COPIED_BYTES_MAX + 1)


class Scene:
    """A connection to an application that reads its request to the end and says how many bytes it had."""

    def __init__(self) -> None:
        self.transport = ToldTransport()
        self.requests: list[str] = []
        self.answer = asyncio.Event()
        self.answer.set()
        config = uvicorn_config(self._app, connections_max=10, keep_alive_s=5, shutdown_timeout_s=1)
        config.load()
        self.protocol = OneWriteProtocol(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(scope["path"])
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await self.answer.wait()
        body = LONG if scope["path"] == "/long" else b"%d" % size
        assert ANSWER in scope["extensions"]
        await send({"type": ANSWER, "status": 200, "head": b"content-length: %d\r\n" % len(body), "body": body})

    def sent(self, data: bytes, piece: int) -> int:
        """Arrives in pieces, until the server closes; returns how much did."""
        for start in range(0, len(data), piece):
            if self.transport.closing:
                return start
            self.protocol.data_received(data[start : start + piece])
        return len(data)


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            scene = Scene()
            await story(scene)
            scene.protocol.connection_lost(None)

    asyncio.run(within())


@pytest.mark.parametrize("piece", [PIECE, 10 * HEAD_BYTES_MAX])
@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /x HTTP/1.1\r\nx: " + b"a" * 9 * HEAD_BYTES_MAX, id="one-header"),
        pytest.param(b"GET /x HTTP/1.1\r\n" + b"x: a\r\n" * HEAD_BYTES_MAX, id="many-headers"),
        pytest.param(b"GET /" + b"a" * 9 * HEAD_BYTES_MAX, id="address"),
        pytest.param(b"\r\n" * 5 * HEAD_BYTES_MAX, id="empty-lines"),
    ],
)
def test_a_head_without_end_is_refused_and_read_no_further(head: bytes, piece: int) -> None:
    async def story(scene: Scene) -> None:
        assert scene.sent(head, piece) <= max(HEAD_BYTES_MAX + 2 * PIECE, piece)
        assert scene.transport.closing
        assert scene.transport.written.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b"x-artemis-outcome: not-applied\r\n" in scene.transport.written
        assert scene.requests == []
        assert len(scene.protocol.headers or ()) < HEAD_BYTES_MAX

    play(story)


@pytest.mark.parametrize("piece", [PIECE, 10 * HEAD_BYTES_MAX])
def test_a_head_just_within_the_bound_is_served(piece: int) -> None:
    async def story(scene: Scene) -> None:
        start = b"GET /x HTTP/1.1\r\nx: "
        scene.sent(start + b"a" * (HEAD_BYTES_MAX - len(start) - len(END)) + END, piece)
        await until(lambda: scene.transport.written.endswith(b"\r\n\r\n0"))
        assert not scene.transport.closing

    play(story)


@pytest.mark.parametrize("piece", [PIECE, 10 * HEAD_BYTES_MAX])
def test_bodies_and_requests_one_after_another_are_not_taken_for_a_head(piece: int) -> None:
    async def story(scene: Scene) -> None:
        size = 5 * HEAD_BYTES_MAX
        scene.sent(b"POST /x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size + b"a" * size, piece)
        await until(lambda: scene.transport.written.endswith(b"\r\n\r\n%d" % size))
        scene.sent(
            b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * size + b"0\r\n\r\n", piece
        )
        await until(lambda: scene.transport.written.count(b"\r\n\r\n%d" % size) == 2)
        scene.sent(b"GET /x HTTP/1.1\r\n\r\n" * 4_000, piece)
        await until(lambda: scene.transport.written.count(b"\r\n\r\n0") == 4_000)
        assert not scene.transport.closing

    play(story)


@pytest.mark.parametrize(
    "tail", [pytest.param(b"0\r\n" + b"x: a\r\n" * HEAD_BYTES_MAX, id="trailers"), pytest.param(b"1;" + b"a" * 99_999)]
)
def test_what_follows_a_body_and_is_none_of_it_is_bounded_too(tail: bytes) -> None:
    async def story(scene: Scene) -> None:
        scene.sent(b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n" + tail, PIECE)
        assert scene.transport.closing

    play(story)


@pytest.mark.parametrize(("path", "served"), [("/livez", True), ("/health", True), ("/metrics", True), ("/x", False)])
def test_probes_are_answered_also_by_a_node_with_as_many_connections_as_it_may(path: str, served: bool) -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.limit_concurrency = 1
        scene.sent(b"GET %b HTTP/1.1\r\n\r\n" % path.encode(), PIECE)
        await until(lambda: scene.protocol.cycle.response_complete)
        assert (scene.requests == [path]) == served
        assert scene.transport.written.startswith(b"HTTP/1.1 200" if served else b"HTTP/1.1 503")

    play(story)


def test_a_refusal_does_not_come_between_the_parts_of_an_answer() -> None:
    async def story(scene: Scene) -> None:
        scene.answer.clear()
        scene.sent(b"GET /x HTTP/1.1\r\n\r\n" + b"GET /y HTTP/1.1\r\nx: " + b"a" * 2 * HEAD_BYTES_MAX, PIECE)
        assert scene.transport.closing
        assert scene.transport.written == b""

    play(story)


def test_a_long_answer_is_whole_and_that_to_head_has_no_body() -> None:
    async def story(scene: Scene) -> None:
        for method in (b"GET", b"HEAD", b"GET"):
            scene.sent(method + b" /long HTTP/1.1\r\n\r\n", PIECE)
        await until(lambda: scene.transport.written.count(LONG) == 2)
        bodies = [answer.partition(END)[2] for answer in scene.transport.written.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        assert bodies == [LONG, b"", LONG]

    play(story)


def test_a_connection_without_another_request_is_closed() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.timeout_keep_alive = 0.02  # type: ignore[assignment]
        scene.sent(b"GET /x HTTP/1.1\r\n\r\n", PIECE)
        await until(lambda: scene.transport.closing)
        assert scene.transport.written.endswith(END + b"0")

    play(story)


def test_the_timer_of_an_earlier_answer_does_not_close_a_connection_that_is_in_use() -> None:
    async def story(scene: Scene) -> None:
        def timer_goes_off() -> None:
            timer = scene.protocol.timeout_keep_alive_task
            assert timer is not None
            timer.cancel()
            scene.protocol.timeout_keep_alive_handler()
            assert not scene.transport.closing

        scene.sent(b"GET /x HTTP/1.1\r\n\r\n", PIECE)
        await until(lambda: scene.protocol.idle)
        timer_goes_off()  # before its time, as when the answer is a newer one
        scene.sent(b"GET /y HTTP/1.1\r\n", PIECE)
        assert not scene.protocol.idle
        timer_goes_off()  # in the middle of a head
        assert scene.protocol.timeout_keep_alive_task is None
        scene.sent(b"\r\n", PIECE)
        await until(lambda: scene.protocol.idle)
        timer_goes_off()
        assert scene.transport.written.count(END + b"0") == 2

    play(story)


def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    async def story(scene: Scene) -> None:
        scene.sent(b"GET /x HTTP/1.1\r\n\r\n", PIECE)
        await until(lambda: scene.protocol.idle)
        timer = scene.protocol.timeout_keep_alive_task
        scene.protocol.connection_lost(ConnectionResetError())
        assert timer is not None
        assert timer.cancelled()

    play(story)


@pytest.mark.parametrize("closing", [False, True])
def test_an_answer_of_which_nothing_is_read_is_given_up(monkeypatch: pytest.MonkeyPatch, closing: bool) -> None:
    monkeypatch.setattr(slow_requests, "RECEIVE_SECONDS", 0.01)

    async def story(scene: Scene) -> None:
        scene.sent(b"GET /x HTTP/1.1\r\n\r\n", PIECE)
        await until(lambda: scene.protocol.cycle.response_complete)
        # As when keep-alive is over: the transport closes once everything is written, which is never.
        scene.transport.closing = closing
        scene.transport.unread = 3_000_000
        aborted: list[bool] = []

        def connections() -> list[object]:
            aborted.append(scene.transport.aborted)
            if len(aborted) < 5:  # a client that reads slowly is none that stopped
                scene.transport.unread -= 1
            return [scene.protocol]

        slow = SlowRequests(connections)
        slow.start(asyncio.get_running_loop())
        await until(lambda: scene.transport.aborted)
        slow.stop()
        assert aborted == [False] * 5

    play(story)
