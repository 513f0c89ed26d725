"""uvicorn's WebSocket protocol, with four things that thousands of sockets need.

*Ready-made frames.* A server's frames are not masked, so a message to five thousand sockets is one frame; making it
anew for each would cost more than sending it. *An end for those who do not read.* A transport that is told to close
first waits until its buffer is written, which for a client that stopped reading is never. *Bounded answers to pings.*
A client that sends pings and reads nothing would fill the buffer with pongs: while it does not read, neither does this
side. *Small parts.* What the kernel hands over at once may be a hundred thousand frames of six bytes, and seconds of
work in which no other client and no member is heard: in each turn of the event loop a part of it is parsed, and the
handler gets one message.

The scope offers the extension ``artemis.socket``; see ``api.sockets`` for the handlers' side of it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

SOCKET: Final = "artemis.socket"

MESSAGE_BYTES_MAX = 1024 * 1024
"""Of what a client sends."""
PING_SECONDS = 30.0
"""Between two pings to a client; a quarter more or less, so that sockets opened together are not pinged together."""
PONG_SECONDS = 30.0
CLOSE_SECONDS = 2.0
"""What a client has for reading the rest and answering a close; then the connection is cut."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Written and not yet with the kernel; beyond it a sender waits."""
KERNEL_BUFFER_BYTES = 128 * 1024
"""The kernel's share of what a client has not read; left alone it grows to megabytes for each stalled client."""
RECEIVE_BUFFER_BYTES = 64 * 1024
"""The kernel's share of what this side has not read; it also bounds what is read at once."""
TURN_BYTES = 4 * 1024
"""Parsed of one socket in one turn: at most 680 frames, some milliseconds."""

ROUND_TRIP = b"artemis"
"""What the pings of ``round_trip`` carry; those of uvicorn's keep-alive carry four random bytes."""
NOT_UTF8 = 1007
"""The close code of RFC 6455 for a text that is none."""

_GOLDEN = 0.618033988749895
_phases = itertools.count()


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = CLOSE_SECONDS
        self._abort_timer: asyncio.TimerHandle | None = None
        self._rest = b""
        """Read and not parsed yet. While there is any, nothing more is read."""
        self._turn: asyncio.Handle | None = None
        self._pong: asyncio.Future[None] | None = None
        """Done when the client answers the ping of ``round_trip``."""
        # Any beginnings of this sequence are spread evenly: from 0.75 to 1.25 of the interval.
        self._stretch = 0.75 + 0.5 * (next(_phases) * _GOLDEN % 1.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        plain = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self._rest and len(data) <= TURN_BYTES:
            super().data_received(data)
        elif not self.transport.is_closing():
            self._rest += data
            self._read_on()

    def _read_on(self) -> None:
        """First what was read already; then, if that is all and nobody has to catch up, what comes."""
        if self.transport.is_closing():
            self._rest = b""
        elif self._rest:
            self.transport.pause_reading()
            if self._turn is None and self._may_read:
                self._turn = self.loop.call_soon(self._parse_some)
        elif self._may_read:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    @property
    def _may_read(self) -> bool:
        """The handler has taken every message, and the client what was written."""
        return not self.read_paused and self.writable.is_set()

    def _parse_some(self) -> None:
        self._turn = None
        if self._may_read:
            part, self._rest = self._rest[:TURN_BYTES], self._rest[TURN_BYTES:]
            super().data_received(part)
            self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        if not self.queue.empty():
            await asyncio.sleep(0)  # before the message is taken: whoever is cancelled here leaves it to the next
        message = await super().receive()
        if self._rest or not self.writable.is_set():
            self._read_on()  # uvicorn has just resumed reading
        return message

    def handle_cont(self, event: Frame) -> None:
        """One buffer. A list costs 40 bytes for each fragment, and fragments may be empty: it had no bound."""
        begun: object = self.frames[0]
        assert isinstance(begun, bytes | bytearray)
        whole = begun if isinstance(begun, bytearray) else bytearray(begun)
        whole += event.data
        if event.fin:
            self.frames = [bytes(whole)]
            self.send_receive_event_to_app()
        else:
            self.frames = [whole]  # type: ignore[list-item]

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(self.frames[0]):
            # uvicorn would log a traceback for each.
            self.frames = []
            self.conn.send_close(NOT_UTF8)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest = b""
        if self._pong is not None and not self._pong.done():
            self._pong.set_exception(ClientDisconnected())
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:  # else it was refused: there is no scope
            self.scope["extensions"][SOCKET] = self  # type: ignore[assignment]

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def schedule_ping(self) -> None:
        assert self.ping_interval is not None
        delay = max(0.0, self.ping_interval * self._stretch - self.last_ping_rtt)
        self.ping_timer = self.loop.call_later(delay, self.send_keepalive_ping)

    def handle_pong(self, event: Frame) -> None:
        if self._pong is None or bytes(event.data) != ROUND_TRIP:
            super().handle_pong(event)
        elif not self._pong.done():
            self._pong.set_result(None)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            self._abort_later()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self._rest:
            self._read_on()  # a close has made uvicorn read again
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # Refused. uvicorn would log an error for each.
            self.handshake_complete = True

    def _abort_later(self) -> None:
        if self._abort_timer is None and not self.disconnected:
            # After the timer that uvicorn starts with a close of its own.
            self._abort_timer = self.loop.call_later(CLOSE_SECONDS + 0.5, self.transport.abort)

    # For ``api.sockets``

    @property
    def is_writable(self) -> bool:
        return self.writable.is_set()

    async def wait_writable(self) -> None:
        await self.writable.wait()

    def write_frame(self, frame: bytes) -> None:
        """Send a whole frame. Raises ``ClientDisconnected`` (an ``OSError``) when the socket is not open."""
        if self.disconnected or self.close_sent or not self.handshake_complete or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frame)

    async def round_trip(self) -> None:
        """Send a ping and wait for its answer. Raises ``ClientDisconnected``. One caller at a time."""
        self.write_frame(b"\x89" + len(ROUND_TRIP).to_bytes(1) + ROUND_TRIP)
        self._pong = self.loop.create_future()
        try:
            await self._pong
        finally:
            self._pong = None

    def fail(self, code: int, reason: str) -> None:
        """Close it with this code, which the client gets if it goes on reading soon; its buffer is given up then."""
        self.stop_keepalive()
        if not (self.disconnected or self.close_sent or self.transport.is_closing()):
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
        self._abort_later()


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
