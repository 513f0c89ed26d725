"""Sessions: one per connection, from its handshake to its end.

::

    handshake ──denied, not current──> HTTP 403 or 503
        └─> open ──client closes, or is lost──> gone
             ├──too old──> lifetime            ├──takes nothing──> slow
             ├──node not current──> not-current └──breaks a rule──> binary, subscriptions, behind
             └──fault of this node──> fault

Reading never waits for work: the server answers pings only while messages are taken from it, and a Java client without
a pong for a second leaves. Sending waits for a client that is slow, and holds no more than one batch meanwhile.

A node that lags does not keep its sessions. Its clients would wait for changes that others have long seen; they
reconnect, are refused here, and go elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from artemis.api.faults import HttpFault
from artemis.api.health import is_current
from artemis.api.ports import ReplicatedRegistry
from artemis.api.push.pace import Pace
from artemis.api.push.settings import PushSettings
from artemis.api.sockets import Outlet, SocketClosed, SocketStalled, text_message

logger = logging.getLogger(__name__)

Kind = Literal["registry", "discovery", "discoveries", "rust"]
"""Java's heartbeats, Java's changes of some services, of all services, and the Rust server's socket."""
KINDS: tuple[Kind, ...] = ("registry", "discovery", "discoveries", "rust")
JAVA_KINDS = frozenset(("registry", "discovery", "discoveries"))
PUSHED_KINDS = frozenset(("discovery", "discoveries", "rust"))

Reason = Literal["gone", "lifetime", "slow", "not-current", "behind", "binary", "subscriptions", "fault"]
Part = Coroutine[Any, Any, None]

SWEEP_S = 0.5
CLOSE_S = 1.0
"""How long a client that reads slowly may take before its close frame is sent; then it is cut."""


class End(NamedTuple):
    reason: Reason
    code: int | None
    """Of the close frame; None if the connection is closed already."""
    text: str = ""


GONE = End("gone", None)
SLOW = End("slow", None)
LIFETIME = End("lifetime", 1001, "this session is as old as sessions get: connect again")
NOT_CURRENT = End("not-current", 1013, "this node may have old data: try another one")
BEHIND = End("behind", 1013, "changes were missed: connect and read again")
BINARY = End("binary", 1003, "only text is allowed")
SUBSCRIPTIONS = End("subscriptions", 1008, "more services than one session may subscribe to")
FAULT = End("fault", 1011, "a fault of this node; its log says more")


class SessionEnd(Exception):
    """Raised by a part of a session that cannot go on."""

    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end


class Session:
    """An accepted connection. ``send`` and ``receive`` raise ``SessionEnd``."""

    def __init__(self, socket: WebSocket, kind: Kind, pace: Pace, deadline: float | None) -> None:
        self.kind = kind
        self.deadline = deadline
        self.sent = 0
        self._socket = socket
        self._outlet = Outlet(socket)
        self._pace = pace
        self._ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    async def receive(self) -> str | None:
        """The next text message; None for a binary one."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise SessionEnd(GONE)
        text: str | None = message.get("text")
        return text

    async def send(self, text: bytes) -> None:
        await self._pace.turn()
        try:
            await self._outlet.send(text_message(text))
        except SocketClosed as exc:
            raise SessionEnd(SLOW if isinstance(exc, SocketStalled) else GONE) from exc
        self.sent += 1

    async def caught_up(self) -> None:
        """Return when the client has taken everything sent to it so far: it answers pings in their turn."""
        try:
            await self._outlet.round_trip()
        except SocketClosed as exc:
            raise SessionEnd(GONE) from exc

    def end(self, end: End) -> None:
        """The first one counts."""
        if not self._ended.done():
            self._ended.set_result(end)

    async def run(self, parts: Iterable[Part]) -> None:
        """Run ``parts``, which do not return, until one of them or ``end`` ends the session; then close it."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        for task in tasks:
            task.add_done_callback(self._on_part_done)
        try:
            end = await asyncio.shield(self._ended)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(end)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, SessionEnd):
                raise outcome

    def _on_part_done(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if isinstance(exc, SessionEnd):
            self.end(exc.end)
        elif exc is not None:
            self.end(FAULT)

    @property
    def reason(self) -> Reason:
        """Why it ended. A session whose task was cancelled ended with the server."""
        return self._ended.result().reason if self._ended.done() else "gone"

    async def _close(self, end: End) -> None:
        if end.code is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(end.code, end.text)
        except TimeoutError:
            self._outlet.fail(end.code, end.text)
        except (WebSocketDisconnect, RuntimeError) as exc:
            # RuntimeError: the other side closed it between the two.
            logger.debug("a session was gone before it could be closed: %s", exc)


class Sessions:
    """The open sessions of a node, and what is counted of all of them."""

    def __init__(self, node: ReplicatedRegistry, settings: PushSettings) -> None:
        self._node = node
        self._session_s = settings.session_ms / 1000
        self._denied: dict[Kind, frozenset[str]] = {
            "registry": frozenset(settings.heartbeat_denied),
            "discovery": frozenset(settings.discovery_denied),
            "discoveries": frozenset(settings.discoveries_denied),
            "rust": frozenset(),
        }
        self._open: dict[Session, None] = {}
        self._sweeping = False
        self._pace = Pace()
        self._sent: Counter[Kind] = Counter()
        self.opened: Counter[Kind] = Counter()
        self.closed: Counter[tuple[Kind, Reason]] = Counter()
        self.refused: Counter[tuple[Kind, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self.heartbeats: Counter[str] = Counter()

    def count(self, kind: Kind) -> int:
        """Open sessions."""
        return sum(session.kind == kind for session in self._open)

    def sent(self, kind: Kind) -> int:
        """Messages, of sessions that have ended too."""
        return self._sent[kind] + sum(session.sent for session in self._open if session.kind == kind)

    async def serve(self, socket: WebSocket, kind: Kind, parts: Callable[[Session], Iterable[Part]]) -> None:
        """Accept the handshake and run ``parts`` of the session until it ends. Raises ``HttpFault`` to refuse it."""
        self._check_admission(socket, kind)
        await socket.accept()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._session_s if kind in JAVA_KINDS else None
        session = Session(socket, kind, self._pace, deadline)
        self.opened[kind] += 1
        self._open[session] = None
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_S, self._sweep)
        try:
            await session.run(parts(session))
        finally:
            del self._open[session]
            self._sent[kind] += session.sent
            self.closed[kind, session.reason] += 1

    def _check_admission(self, socket: WebSocket, kind: Kind) -> None:
        if socket.client is not None and socket.client.host in self._denied[kind]:
            self.refused[kind, "denied"] += 1
            raise HttpFault(HTTPStatus.FORBIDDEN, f"{socket.client.host} may not open a WebSocket here")
        if kind in PUSHED_KINDS and not is_current(self._node.status()):
            self.refused[kind, "not-current"] += 1
            raise HttpFault(HTTPStatus.SERVICE_UNAVAILABLE, NOT_CURRENT.text)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        current = is_current(self._node.status())
        for session in self._open:
            if not current and session.kind in PUSHED_KINDS:
                session.end(NOT_CURRENT)
            elif session.deadline is not None and now >= session.deadline:
                session.end(LIFETIME)
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(SWEEP_S, self._sweep)
