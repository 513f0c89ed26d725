"""WebSockets of a node: which path is served by whom, how many there may be, and how a message gets out.

A handler accepts the socket and returns when it is done with it. It may read in one task and write in another; what it
writes goes through an ``Outlet``, because a client that stops reading must cost a bounded buffer for a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from artemis.api.faults import HttpFault
from artemis.api.socket_protocol import SOCKET

SocketHandler = Callable[[WebSocket], Awaitable[None]]

SEND_SECONDS = 10.0
"""How long a client may leave its buffer full."""
INTERNAL_ERROR = 1011
TOO_SLOW = 1013
"""The close code of RFC 6455 for "try again later"."""


class SocketEndpoint(NamedTuple):
    """``kind`` names it in the metrics."""

    kind: str
    handler: SocketHandler


class SocketClosed(Exception):
    """The socket is gone, or was closed because its client did not read: the handler has nothing left to do."""


class SocketStalled(SocketClosed):
    """The client left its buffer full for too long, and the socket was closed."""


class SocketMessage(NamedTuple):
    """A text message and the frame it travels in, made once for all sockets it goes to."""

    text: bytes
    frame: bytes


def text_message(text: bytes) -> SocketMessage:
    """``text`` is UTF-8."""
    size = len(text)
    if size < 126:
        head = b"\x81" + size.to_bytes(1)
    elif size < 65_536:
        head = b"\x81\x7e" + size.to_bytes(2)
    else:
        head = b"\x81\x7f" + size.to_bytes(8)
    return SocketMessage(text, head + text)


class _Raw(Protocol):
    """What ``socket_protocol`` offers below ASGI."""

    @property
    def is_writable(self) -> bool: ...
    async def wait_writable(self) -> None: ...
    def write_frame(self, frame: bytes) -> None: ...
    async def round_trip(self) -> None: ...
    def fail(self, code: int, reason: str) -> None: ...


class Outlet:
    """The way out of one accepted socket."""

    __slots__ = ("_raw", "_websocket")

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._raw = cast(_Raw | None, websocket.scope.get("extensions", {}).get(SOCKET))

    async def send(self, message: SocketMessage) -> None:
        """Returns when the message is in the socket's buffer. Raises ``SocketClosed``, also after the client has left
        its buffer full for too long; it was then closed with ``TOO_SLOW``."""
        raw = self._raw
        try:
            if raw is None:  # another server than ours, as in tests
                await self._websocket.send_text(message.text.decode())
                return
            if not raw.is_writable:
                async with asyncio.timeout(SEND_SECONDS):
                    await raw.wait_writable()
            raw.write_frame(message.frame)
        except TimeoutError as exc:
            self.fail(TOO_SLOW, "read too slowly; go on from the last revision")
            raise SocketStalled("the client does not read") from exc
        except (OSError, WebSocketDisconnect) as exc:
            raise SocketClosed("the client is gone") from exc

    async def round_trip(self) -> None:
        """Returns when the client has answered a ping, and so has received what was sent before. One that answers none
        loses its socket to the keep-alive. Raises ``SocketClosed``. One caller at a time."""
        if self._raw is not None:
            try:
                await self._raw.round_trip()
            except OSError as exc:
                raise SocketClosed("the client is gone") from exc

    def fail(self, code: int, reason: str) -> None:
        """Close without waiting for the client to read what is before it."""
        if self._raw is not None:
            self._raw.fail(code, reason)


class Sockets:
    """Serves and counts the open ones."""

    def __init__(self, endpoints: Mapping[str, SocketEndpoint], sockets_max: int) -> None:
        """``endpoints`` by path."""
        self._endpoints = endpoints
        self._max = sockets_max
        self.open: dict[str, int] = {endpoint.kind: 0 for endpoint in endpoints.values()}
        self.refused = 0
        self.stalled = 0

    def at(self, path: str) -> bool:
        """Whether there is a WebSocket at this path."""
        return path in self._endpoints

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the path's handler to its end. Raises ``HttpFault`` if the handshake is to be refused, as a handler may
        before it accepts."""
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            raise HttpFault(HTTPStatus.NOT_FOUND, f"{scope['path']}: there is no WebSocket at this path")
        if sum(self.open.values()) >= self._max:
            self.refused += 1
            message = f"this node has as many WebSockets as it may ({self._max})"
            raise HttpFault(HTTPStatus.SERVICE_UNAVAILABLE, message)
        websocket = WebSocket(scope, receive, send)
        self.open[endpoint.kind] += 1
        try:
            await endpoint.handler(websocket)
        except WebSocketDisconnect:
            return
        except SocketStalled:
            self.stalled += 1
        except SocketClosed:
            return
        except HttpFault:
            if websocket.application_state is not WebSocketState.CONNECTING:
                raise RuntimeError("a handler may refuse a socket only before it accepts it") from None
            raise
        except Exception:
            # Without a code the client could not tell a fault of this node from a broken line.
            Outlet(websocket).fail(INTERNAL_ERROR, "a fault of this node; its log says more")
            raise
        finally:
            self.open[endpoint.kind] -= 1
