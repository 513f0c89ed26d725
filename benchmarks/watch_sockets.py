"""WebSocket clients of a watch, light enough for thousands in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import HOST

HANDSHAKE = (
    "GET /api/watch?since=now&services={services} HTTP/1.1\r\nhost: bench\r\n"
    "upgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PONG = b"\x8a\x80\0\0\0\0"
STALLED_BUFFER_BYTES = 4096
TIMEOUT_S = 30.0


class Watcher(asyncio.Protocol):
    """Reads frames and tells of those that hold changes; or, ``stalled``, reads nothing after the handshake."""

    def __init__(self, services: str, told: Callable[[Watcher, int], None], *, stalled: bool = False) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Shaken hands and subscribed."""
        self.closed = False
        self.changes = 0
        self.stalled = stalled
        self._services = services
        self._told = told
        self._data = b""
        self._shaken = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HANDSHAKE.format(services=self._services).encode())

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        if not self._shaken:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._data = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.ready.set_exception(BenchmarkError(f"a socket was refused: {head[:200]!r} {data[:200]!r}"))
                self._transport.abort()
                return
            self._shaken = True
        while len(data) >= 2:
            size, begin = data[1] & 0x7F, 2
            if size == 126:
                size, begin = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, begin = int.from_bytes(data[2:10], "big"), 10
            if len(data) < begin + size:
                break
            self._frame(data[0] & 0x0F, data[begin : begin + size])
            data = data[begin + size :]
        self._data = data

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._transport.write(PONG[:1] + bytes((0x80 | len(payload),)) + b"\0\0\0\0" + payload)
        elif opcode == 1 and payload.startswith(b'{"type":"changes"'):
            self.changes += payload.count(b'"change_type"')
            self._told(self, self.changes)
        elif opcode == 1 and payload.startswith(b'{"type":"subscribed"'):
            self.ready.set_result(None)
            if self.stalled:
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.ready.done():
            self.ready.set_exception(BenchmarkError("a socket was closed before it was subscribed"))

    def abort(self) -> None:
        self._transport.abort()


async def open_watcher(
    port: int, services: str, told: Callable[[Watcher, int], None], *, stalled: bool = False
) -> Watcher:
    """Connect and subscribe. Raises ``BenchmarkError`` and ``OSError``."""
    loop = asyncio.get_running_loop()
    plain = socket.socket()
    plain.setblocking(False)
    if stalled:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
    await loop.sock_connect(plain, (HOST, port))
    _, watcher = await loop.create_connection(lambda: Watcher(services, told, stalled=stalled), sock=plain)
    await asyncio.wait_for(watcher.ready, TIMEOUT_S)
    return watcher
