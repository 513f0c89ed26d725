"""One WebSocket of the server, on a transport that does as told: how it ends, whatever its client does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from artemis.api import socket_protocol
from artemis.api.serve import uvicorn_config
from artemis.api.socket_protocol import SOCKET, SocketProtocol
from tests.support.sockets import until
from tests.support.transports import ToldTransport

HANDSHAKE = (
    b"GET /x HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
PING = b"\x89\x80\0\0\0\0"
PONG = b"\x8a\x00"


def frame(first: int, text: bytes) -> bytes:
    """A short frame of a client, masked with zeros."""
    return bytes((first, 0x80 | len(text))) + b"\0\0\0\0" + text


class Transport(ToldTransport):
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == socket_protocol.WRITE_BUFFER_BYTES


class Scene:
    """An accepted socket whose handler waits for messages until there are none."""

    def __init__(self) -> None:
        self.offered: list[Any] = []
        self.heard: list[Any] = []
        self.ended = False
        self.transport = Transport()
        config = uvicorn_config(self._app, connections_max=10, keep_alive_s=5, shutdown_timeout_s=1)
        config.load()
        self.protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)
        self.protocol.data_received(HANDSHAKE)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.offered.append(scope["extensions"][SOCKET])
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.heard.append(message.get("text") or message.get("bytes"))
        self.ended = True


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            scene = Scene()
            await until(lambda: scene.protocol.handshake_complete)
            scene.transport.written = b""
            await story(scene)
            scene.protocol.connection_lost(None)
            await until(lambda: scene.ended)

    asyncio.run(within())


def test_handlers_find_the_socket_in_their_scope_and_send_whole_frames() -> None:
    async def story(scene: Scene) -> None:
        (offered,) = scene.offered
        offered.write_frame(b"\x81\x02hi")
        assert scene.transport.written == b"\x81\x02hi"

    play(story)


def test_one_that_fails_says_why_and_is_cut_when_its_client_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_protocol, "CLOSE_SECONDS", -0.4)  # the timer adds half a second

    async def story(scene: Scene) -> None:
        scene.protocol.fail(1013, "too slow")
        assert scene.transport.written == b"\x88\x0a\x03\xf5too slow"
        assert scene.transport.closing
        with pytest.raises(ClientDisconnected):
            scene.protocol.write_frame(b"\x81\x00")
        await until(lambda: scene.transport.aborted)
        scene.protocol.fail(1011, "again")
        assert scene.transport.written == b"\x88\x0a\x03\xf5too slow"

    play(story)


def test_one_whose_client_closed_it_can_fail_no_more() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.data_received(CLOSE)
        assert scene.transport.written == b"\x88\x02\x03\xe8"
        scene.protocol.fail(1013, "too slow")
        assert scene.transport.written == b"\x88\x02\x03\xe8"
        with pytest.raises(ClientDisconnected):
            scene.protocol.write_frame(b"\x81\x00")

    play(story)


def test_one_of_a_node_that_stops_is_told_to_connect_again_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_protocol, "CLOSE_SECONDS", -0.4)

    async def story(scene: Scene) -> None:
        scene.protocol.shutdown()
        assert scene.transport.written == b"\x88\x02\x03\xf4"
        await until(lambda: scene.ended)
        await until(lambda: scene.transport.aborted)

    play(story)


def test_pings_are_answered_at_once_but_not_read_while_nothing_is_read_there() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.data_received(PING)
        assert scene.transport.written == b"\x8a\x00"
        scene.protocol.pause_writing()
        assert (scene.transport.reading, scene.protocol.is_writable) == (False, False)
        waiting = asyncio.ensure_future(scene.protocol.wait_writable())
        await asyncio.sleep(0)
        assert not waiting.done()
        scene.protocol.resume_writing()
        await waiting
        assert scene.transport.reading

    play(story)


def test_a_round_trip_ends_with_the_answer_to_its_own_ping_or_with_the_socket() -> None:
    lost: list[asyncio.Future[None]] = []

    async def story(scene: Scene) -> None:
        around = asyncio.ensure_future(scene.protocol.round_trip())
        await until(lambda: scene.transport.written == b"\x89\x07artemis")
        scene.protocol.data_received(frame(0x8A, b""))
        scene.protocol.data_received(frame(0x8A, b"other"))
        await asyncio.sleep(0)
        assert not around.done()
        scene.protocol.data_received(frame(0x8A, b"artemis"))
        await around
        scene.protocol.data_received(frame(0x8A, b"artemis"))
        lost.append(asyncio.ensure_future(scene.protocol.round_trip()))
        await asyncio.sleep(0)
        assert not lost[0].done()

    play(story)
    assert isinstance(lost[0].exception(), ClientDisconnected)


def test_sockets_opened_together_are_not_pinged_together() -> None:
    async def look() -> list[float]:
        times = []
        for _ in range(8):
            scene = Scene()
            await until(lambda scene=scene: scene.protocol.handshake_complete)  # type: ignore[misc]
            timer = scene.protocol.ping_timer
            assert timer is not None
            times.append(timer.when() - asyncio.get_running_loop().time())
            scene.protocol.connection_lost(None)
            await until(lambda scene=scene: scene.ended)  # type: ignore[misc]
        return sorted(times)

    times = asyncio.run(look())
    assert times[0] > 0.7 * socket_protocol.PING_SECONDS
    assert times[-1] < 1.3 * socket_protocol.PING_SECONDS
    assert times[-1] - times[0] > 0.2 * socket_protocol.PING_SECONDS


def test_thousands_of_frames_at_once_are_parsed_in_parts_and_nothing_is_read_meanwhile() -> None:
    async def story(scene: Scene) -> None:
        pings = 10_000
        scene.protocol.data_received(PING * pings)
        done = 0
        while done < pings:
            await asyncio.sleep(0)
            before, done = done, len(scene.transport.written) // len(PONG)
            assert done - before <= socket_protocol.TURN_BYTES / len(PING) + 1
            assert scene.transport.reading == (done == pings)
        assert scene.transport.written == PONG * pings

    play(story)


def test_a_flood_of_messages_gives_others_a_turn_between_any_two_and_none_is_lost() -> None:
    async def story(scene: Scene) -> None:
        texts = [str(number) for number in range(3_000)]
        scene.protocol.data_received(b"".join(frame(0x81, text.encode()) for text in texts))
        while len(scene.heard) < len(texts):
            before = len(scene.heard)
            await asyncio.sleep(0)
            assert len(scene.heard) - before <= 2  # one and, where a part was parsed, one of that
        assert scene.heard == texts
        await until(lambda: scene.transport.reading)

    play(story)


def test_a_client_that_does_not_read_its_pongs_stops_the_parsing_too() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.data_received(PING * 5_000)
        await asyncio.sleep(0)
        scene.protocol.pause_writing()
        written = len(scene.transport.written)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(scene.transport.written) == written
        scene.protocol.resume_writing()
        await until(lambda: len(scene.transport.written) == 5_000 * len(PONG))

    play(story)


def test_a_message_that_is_taken_does_not_make_it_read_while_its_client_does_not() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.pause_writing()
        scene.protocol.data_received(frame(0x81, b"hi"))
        await until(lambda: scene.heard == ["hi"])
        assert not scene.transport.reading
        scene.protocol.resume_writing()
        assert scene.transport.reading

    play(story)


def test_fragments_of_any_size_are_one_message_and_empty_ones_cost_nothing() -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.data_received(frame(0x01, b"h"))
        for _ in range(5):
            scene.protocol.data_received(frame(0x00, b"") * (socket_protocol.TURN_BYTES // 6))
        assert [len(kept) for kept in scene.protocol.frames] == [1]
        scene.protocol.data_received(frame(0x00, "\u00e9".encode()[:1]))
        scene.protocol.data_received(frame(0x80, "\u00e9".encode()[1:]))
        scene.protocol.data_received(frame(0x82, b"\xff"))
        await until(lambda: scene.heard == ["h\u00e9", b"\xff"])

    play(story)


def test_a_text_that_is_none_ends_the_socket_and_leaves_the_log_clean(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        scene.protocol.data_received(frame(0x81, b"\xff\xfe"))
        assert scene.transport.written == b"\x88\x02\x03\xef"
        await until(lambda: scene.ended)

    play(story)
    assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []
