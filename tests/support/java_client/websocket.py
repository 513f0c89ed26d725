"""The least of RFC 6455 that a client needs, thin enough for a thousand of them in one process."""

from __future__ import annotations

import asyncio
import base64
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_FRAME_BYTES_MAX = 8_192
"""The container sends a longer text in several frames."""
_HEAD_BYTES_MAX = 16 * 1024


class ConnectFailed(Exception):
    """No WebSocket: no connection, no answer in time, or an answer that is not 101."""


class WebSocket(asyncio.Protocol):
    """One connection. ``on_text`` runs in the receiving thread of the client: until it returns nothing else is
    received, pongs included. ``on_closed`` is called once, when the connection ends for whatever reason."""

    def __init__(
        self,
        on_text: Callable[[str], Awaitable[None]],
        on_pong: Callable[[], None],
        on_closed: Callable[[], None],
        message_chars_max: int,
    ) -> None:
        self._on_text = on_text
        self._on_pong = on_pong
        self._on_closed = on_closed
        self._chars_max = message_chars_max
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._receiving: asyncio.Task[None] | None = None
        self._message = bytearray()
        self.open = False
        self.close_code: int | None = None
        self.too_long = 0
        """Messages beyond what the client's container takes."""

    @classmethod
    async def connect(
        cls,
        url: str,
        on_text: Callable[[str], Awaitable[None]],
        on_pong: Callable[[], None],
        on_closed: Callable[[], None],
        *,
        timeout_s: float,
        message_chars_max: int,
    ) -> WebSocket:
        """Raises ``ConnectFailed``."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        loop = asyncio.get_running_loop()
        socket: WebSocket | None = None
        try:
            async with asyncio.timeout(timeout_s):
                _, socket = await loop.create_connection(
                    lambda: cls(on_text, on_pong, on_closed, message_chars_max), host, port
                )
                socket._handshake(parts.path, f"{host}:{port}")
                await socket._upgraded
        except (OSError, TimeoutError, ConnectFailed) as exc:
            if socket is not None:
                socket.abort()
            raise ConnectFailed(repr(exc)) from exc
        return socket

    def send_text(self, text: bytes) -> None:
        opcode = TEXT
        while len(text) > _FRAME_BYTES_MAX:
            self._send(opcode, text[:_FRAME_BYTES_MAX], final=False)
            opcode, text = CONTINUATION, text[_FRAME_BYTES_MAX:]
        self._send(opcode, text)

    def ping(self) -> None:
        self._send(PING, b"")

    def close(self) -> None:
        if self.open:
            self._send(CLOSE, (1000).to_bytes(2, "big"))
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.open = self.open, False
        if not self._upgraded.done():
            self._upgraded.set_exception(ConnectFailed(f"closed during the handshake: {exc!r}"))
        elif was_open:
            self._on_closed()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded.done() and not self._read_head():
            return
        while (frame := self._next_frame()) is not None:
            self._frames.append(frame)
        self._receive()

    def _handshake(self, path: str, host: str) -> None:
        assert self._transport is not None
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            (
                f"GET {path} HTTP/1.1\r\nSec-WebSocket-Key: {key}\r\nConnection: upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nHost: {host}\r\nUpgrade: websocket\r\n\r\n"
            ).encode()
        )

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        if head.split(" ", 2)[1] != "101":
            self._upgraded.set_exception(ConnectFailed(head.split("\r\n")[0]))
            self.abort()
            return False
        self.open = True
        self._upgraded.set_result(None)
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            start = 4
            size = int.from_bytes(buffer[2:4], "big")
        elif size == 127:
            start = 10
            size = int.from_bytes(buffer[2:10], "big")
        if len(buffer) < start or len(buffer) < start + size:
            return None
        frame = buffer[0], bytes(buffer[start : start + size])
        del buffer[: start + size]
        return frame

    def _receive(self) -> None:
        """Handle frames until one needs to wait."""
        while self._frames and (self._receiving is None or self._receiving.done()):
            first, payload = self._frames.popleft()
            opcode, final = first & 0x0F, bool(first & 0x80)
            if opcode == PONG:
                self._on_pong()
            elif opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big") if payload else None
                self.close()
            else:
                self._message += payload
                if final:
                    self._handle(bytes(self._message).decode())
                    self._message.clear()

    def _handle(self, text: str) -> None:
        if len(text) > self._chars_max:
            self.too_long += 1
            self._send(CLOSE, (1009).to_bytes(2, "big"))
            self.abort()
            return
        self._receiving = asyncio.ensure_future(self._on_text(text))
        self._receiving.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure
        self._receive()

    def _send(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        if not self.open or self._transport is None:
            return
        size = len(payload)
        first = _FINAL | opcode if final else opcode
        head = bytes((first, 0x80 | min(size, 126))) + (size.to_bytes(2, "big") if size >= 126 else b"")
        mask = os.urandom(4)
        if payload:
            repeated = (mask * (size // 4 + 1))[:size]
            masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        else:
            masked = b""
        self._transport.write(head + mask + masked)
