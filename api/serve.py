"""The life of one node in one event loop: start the node, serve HTTP, stop.

::

    starting ──node up──> serving ──signal──> draining ──requests done or time up──> closed, 0
        │                    └──────fatal──────────────────────────────────────────> 70
        ├──signal──> closed, 0
        └──start failed──> StartError

SIGHUP stops a node in a terminal, which is closed then; from a supervisor it asks for a reload and is ignored.

The node and the application are parameters, so the tests run the same life with a node that does as told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import uvicorn
from starlette.types import ASGIApp

from artemis.api.http_protocol import OneWriteProtocol
from artemis.api.slow_requests import SlowRequests
from artemis.api.socket_protocol import MESSAGE_BYTES_MAX, PING_SECONDS, PONG_SECONDS, SocketProtocol
from artemis.api.stalls import StallMonitor
from artemis.errors import ArtemisError

logger = logging.getLogger(__name__)

EXIT_CLEAN = 0
EXIT_START = 1
EXIT_USAGE = 2
EXIT_FATAL = 70
"""EX_SOFTWARE of sysexits.h: the node stopped itself."""

BACKLOG = 2048


class StartError(Exception):
    """The node cannot start; the message is for the operator."""


class RunningNode(Protocol):
    async def close(self) -> None: ...


N = TypeVar("N", bound=RunningNode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[N]):
    """What a node process is made of."""

    http_socket: socket.socket
    start_node: Callable[[Callable[[str], None]], Awaitable[N]]
    """Gets ``on_fatal(reason)``, to be called when the node can no longer be trusted."""
    make_app: Callable[[N], ASGIApp]
    on_stall: Callable[[float], None]
    """Seconds of one stall of the event loop."""
    connections_max: int
    keep_alive_s: int
    shutdown_timeout_s: int
    on_lag: Callable[[float, float], None]
    """Seconds by which the event loop was late, at each look, and how many of them it worked."""
    in_terminal: bool
    """The log goes to a terminal, so SIGHUP says that it is gone."""


@runtime_checkable
class Drains(Protocol):
    """An application in which requests may wait for something to happen."""

    def drain(self) -> None:
        """Answer them now: the server closes."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the node must be closed after the last request, and only once."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: object = self.config.app
        if isinstance(app, Drains):
            app.drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def abort(self) -> None:
        """Not one more answer: close the listeners and cut the connections, open requests included."""
        self.force_exit = True
        for server in self.servers if self.started else ():
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Stop:
    """Why the process should end. The first signal asks, the second one kills."""

    def __init__(self, *, in_terminal: bool) -> None:
        self.asked = asyncio.Event()
        self.fatal: str | None = None
        self._in_terminal = in_terminal
        self._loop = asyncio.get_running_loop()

    def on_signal(self, number: signal.Signals) -> None:
        if self.asked.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # Process 1 of a container outlives it: the kernel spares that one what it does not handle.
            os._exit(128 + number)
        logger.info("stopping on %s", number.name)
        self.asked.set()

    def on_hangup(self) -> None:
        if self._in_terminal:
            self.on_signal(signal.SIGHUP)
        else:
            logger.warning("SIGHUP is ignored: settings are read at the start only; restart the node to change them")

    def on_fatal(self, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._set_fatal, reason)

    def _set_fatal(self, reason: str) -> None:
        if self.fatal is None:
            self.fatal = reason
            logger.critical("the node stops itself: %s", reason)
        self.asked.set()


async def serve(parts: Parts[N]) -> int:
    """Run until a signal or a fatal fault; returns the exit code. Raises ``StartError``."""
    loop = asyncio.get_running_loop()
    stop = _Stop(in_terminal=parts.in_terminal)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, stop.on_hangup)
    stalls = StallMonitor(parts.on_stall, on_lag=parts.on_lag)
    stalls.start(loop)
    try:
        node = await _start(parts, stop)
        if node is None:
            return EXIT_FATAL if stop.fatal is not None else EXIT_CLEAN
        try:
            await _serve_http(parts, parts.make_app(node), stop)
        finally:
            if stop.fatal is None:
                await node.close()
        # After a fatal fault the state in memory may be half changed: nothing of it is worth writing down.
        return EXIT_FATAL if stop.fatal is not None else EXIT_CLEAN
    finally:
        parts.http_socket.close()
        stalls.stop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _start(parts: Parts[N], stop: _Stop) -> N | None:
    """The running node, or None if a stop was asked for while it started."""
    starting = asyncio.ensure_future(parts.start_node(stop.on_fatal))
    asked = asyncio.ensure_future(stop.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not starting.done():
        starting.cancel()
    try:
        return await starting
    except asyncio.CancelledError:
        if not stop.asked.is_set():
            raise
        return None
    except ArtemisError as exc:
        raise StartError(exc.message) from exc
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename is not None else ""
        raise StartError(f"{where}{exc.strerror or exc}") from exc


async def _serve_http(parts: Parts[N], app: ASGIApp, stop: _Stop) -> None:
    try:
        # Two processes may bind one address as long as neither listens: the second one learns of it here, and not
        # from uvloop, which hands a failed listen to its exception handler and goes on as if it served.
        parts.http_socket.listen(BACKLOG)
    except OSError as exc:
        raise StartError(f"cannot listen for clients: {exc.strerror}") from exc
    config = uvicorn_config(
        app,
        connections_max=parts.connections_max,
        keep_alive_s=parts.keep_alive_s,
        shutdown_timeout_s=parts.shutdown_timeout_s,
    )
    server = _Server(config)
    slow = SlowRequests(lambda: server.server_state.connections)
    slow.start(asyncio.get_running_loop())
    serving = asyncio.ensure_future(server.serve([parts.http_socket]))
    asked = asyncio.ensure_future(stop.asked.wait())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    slow.stop()
    if stop.fatal is not None:
        server.abort()
    server.should_exit = True
    await serving


def uvicorn_config(app: ASGIApp, *, connections_max: int, keep_alive_s: int, shutdown_timeout_s: int) -> uvicorn.Config:
    """How every node's HTTP side is set up; the simulator serves with the same."""
    return uvicorn.Config(
        app,
        loop="none",
        http=OneWriteProtocol,
        ws=SocketProtocol,
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        # A window per socket is more memory than all that is kept for it otherwise, and frames could not be shared.
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=connections_max,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=shutdown_timeout_s,
    )
