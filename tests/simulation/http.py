"""The HTTP side of simulated nodes: the real application behind the real protocol, on connections that can break.

Each life of a node gets what ``artemis-node`` runs: ``create_app`` on the engine's futures, the announcing task, and
one uvicorn protocol (``api.http_protocol``) per connection. Only sockets and event loop are virtual. A connection
carries bytes in order, each way with a latency of its own, and ends like a TCP connection does: a process that ends
resets it, a machine without power says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from artemis.api.app import create_app
from artemis.api.http_protocol import OneWriteProtocol
from artemis.api.ports import ReplicatedRegistry
from artemis.api.requests import TIMEOUT_MS
from artemis.api.serve import uvicorn_config
from artemis.api.settings import HttpSettings
from artemis.api.slow_requests import SlowRequests
from artemis.consensus.futures import EngineFutures
from artemis.model import Member
from tests.simulation.cluster import WALL_MS, Cluster, Machine
from tests.simulation.process import Process
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.world import Callback, World

KEEP_ALIVE_S = 5

_silent = logging.Logger("uvicorn of the simulator", logging.CRITICAL + 1)
"""Faults of the application are violations; what uvicorn would log of a process that was killed is nothing."""

App = Callable[[Scope, Receive, Send], Any]


@dataclass(slots=True)
class Handling:
    """One request inside the application. Times are the world's."""

    path: str
    budget_ms: int
    began_at: float
    complete_at: float | None = None
    """When the application had the whole body (a GET has none)."""


class Server:
    """The HTTP side of one life of a node."""

    def __init__(self, machine: Machine, world: World, settings: HttpSettings, connections_max: int) -> None:
        assert machine.process is not None
        assert machine.engine is not None
        self.name = machine.name
        self.process: Process = machine.process
        self.world = world
        self._settings = settings
        self.open: dict[int, Handling] = {}
        self.on_handled: Callable[[Server, Handling], None] | None = None
        self.connections: dict[Connection, None] = {}
        self.loop = VirtualLoop(self.process, self._on_error)  # type: ignore[abstract]  # no sockets, processes, signals
        self.node = EngineFutures(machine.engine, self.loop)
        node: ReplicatedRegistry = self.node
        app = create_app(node, settings, now_ms=lambda: WALL_MS + int(world.now * 1000))
        self._numbers = 0
        self._config = uvicorn_config(
            self._watched(app), connections_max=connections_max, keep_alive_s=KEEP_ALIVE_S, shutdown_timeout_s=5
        )
        self._state = ServerState()
        SlowRequests(self._protocols).start(self.loop)
        member = Member(node_id=self.name, url=f"http://{self.name}:8080", region_id="", zone_id="")
        self.loop.create_task(self.node.announce(member))

    def new_protocol(self) -> OneWriteProtocol:
        protocol = OneWriteProtocol(self._config, self._state, {}, _loop=self.loop)
        protocol.logger = _silent
        return protocol

    def _protocols(self) -> list[OneWriteProtocol]:
        """In the order of their connections: uvicorn's set has none that would be the same in the next run."""
        known = self._state.connections
        return [c.protocol for c in self.connections if c.protocol is not None and c.protocol in known]

    def end(self, *, power: bool) -> None:
        """The process has ended; with the power nobody is told."""
        for connection in list(self.connections):
            connection.server_ended(silently=power)
        self.loop.close()

    def _watched(self, app: App) -> App:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            self._numbers += 1
            number, now = self._numbers, self.world.now
            given = dict(scope["headers"]).get(TIMEOUT_MS)
            budget_ms = self._settings.request_timeout_ms if given is None else int(given)
            # A long poll may wait that much longer.
            budget_ms += int(dict(parse_qsl(scope["query_string"])).get(b"wait", 0))
            handling = Handling(scope["path"], budget_ms, now, now if scope["method"] == "GET" else None)
            self.open[number] = handling

            async def received() -> Message:
                message = await receive()
                if message["type"] == "http.request" and not message.get("more_body", False):
                    handling.complete_at = self.world.now
                return message

            try:
                await app(scope, received, send)
            except Exception as exc:
                self._on_error(f"{scope['method']} {scope['path']} raises {exc!r}")
                raise
            del self.open[number]
            if self.on_handled is not None:
                self.on_handled(self, handling)

        return watched

    def _on_error(self, text: str) -> None:
        self.world.violate(f"{self.name}: {text}")


class Frontends:
    """The HTTP sides of a cluster's nodes, and the way to them."""

    def __init__(self, cluster: Cluster, settings: HttpSettings, latency_max: float) -> None:
        """``latency_max``: the most that a segment takes from a client to a node, in seconds."""
        self.cluster = cluster
        self.world = cluster.world
        self.latency_max = latency_max
        self.connections_max = 10_000
        """Of each process that starts from now on."""
        self.servers: dict[str, Server] = {}
        self.on_handled: list[Callable[[Server, Handling], None]] = []
        self.on_started: list[Callable[[Server], None]] = []
        self._settings = settings
        cluster.on_booted.append(self._booted)
        cluster.on_ending.append(self._ending)

    def close(self) -> None:
        """The run is over, whatever was under way: nothing of it is left to the garbage collector."""
        for server in self.servers.values():
            server.end(power=True)
        self.servers.clear()

    def _booted(self, machine: Machine) -> None:
        server = Server(machine, self.world, self._settings, self.connections_max)
        server.on_handled = self._handled
        self.servers[machine.name] = server
        for told in self.on_started:
            told(server)

    def _ending(self, machine: Machine, power: bool) -> None:
        server = self.servers.pop(machine.name, None)
        if server is not None:
            # Before the process is marked dead its tasks could still act; nothing runs between here and there.
            server.end(power=power)

    def _handled(self, server: Server, handling: Handling) -> None:
        for told in self.on_handled:
            told(server, handling)


class Transport(asyncio.Transport):
    """The server's end of a connection, as a protocol sees it."""

    def __init__(self, connection: Connection, loop: VirtualLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000), "sockname": ("127.0.0.1", 8080)})
        self._connection = connection
        self._loop = loop
        self._protocol = protocol
        self._lost = False
        self.reading = True

    def write(self, data: Any) -> None:
        if not self._lost:
            self._connection.written(bytes(data))

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def lose(self, exc: Exception | None) -> None:
        """No more bytes either way; the protocol learns of it at the next turn."""
        if not self._lost:
            self._lost = True
            self._connection.server_closed()
            self._loop.call_soon(self._protocol.connection_lost, exc)

    def get_write_buffer_size(self) -> int:
        return 0  # the link holds what is on its way

    def is_closing(self) -> bool:
        return self._lost

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._connection.pump_later()


class Pipe:
    """One direction of a connection: in order, each segment as late as the network likes."""

    def __init__(self, world: World, rng: Random, latency_max: float) -> None:
        self._world = world
        self._rng = rng
        self._latency_max = latency_max
        self._free_at = 0.0
        self._segments: deque[Callback] = deque()

    def push(self, deliver: Callback) -> None:
        self._free_at = max(self._free_at, self._world.now + self._rng.random() * self._latency_max)
        self._segments.append(deliver)
        self._world.after(self._free_at - self._world.now, self._deliver)

    def _deliver(self) -> None:
        self._segments.popleft()()


class Connection:
    """A TCP connection of a client, and the client's end of it.

    ``opened(bool)`` tells whether somebody listens; ``data(bytes, written_at)`` and ``ended()`` are for whoever uses
    the connection at the time.
    """

    def __init__(self, frontends: Frontends, node: str, rng: Random, opened: Callable[[bool], None]) -> None:
        self.node = node
        self.alive = True
        """As far as the client knows."""
        self.data: Callable[[bytes, float], None] | None = None
        self.ended: Callback | None = None
        self._frontends = frontends
        self._world = frontends.world
        self._rng = rng
        self._opened = opened
        self._up = Pipe(self._world, rng, frontends.latency_max)
        self._down = Pipe(self._world, rng, frontends.latency_max)
        self._server: Server | None = None
        self._transport: Transport | None = None
        self.protocol: OneWriteProtocol | None = None
        self._inbox: deque[bytes | Exception | None] = deque()
        """None: the client closed; an exception: it was reset."""
        self._up.push(self._arrive)

    # the client

    def send(self, data: bytes) -> None:
        if self.alive:
            self._up.push(partial(self._to_server, data))

    def close(self, *, silently: bool = False) -> None:
        """``silently``: the client is gone and its last packets are lost: the server does not learn of it."""
        if self.alive:
            self.alive = False
            self.data = self.ended = None
            if not silently:
                reset = self._rng.random() < 0.5
                self._up.push(partial(self._to_server, ConnectionResetError() if reset else None))

    # the network

    def _arrive(self) -> None:
        server = self._frontends.servers.get(self.node)
        if server is None:
            # Refused by the machine's kernel; or the machine is off, and nothing comes back.
            if self._frontends.cluster.machines[self.node].running or self._rng.random() < 0.7:
                self._down.push(partial(self._told, False))
            return
        self._server = server
        server.connections[self] = None
        self._down.push(partial(self._told, True))
        server.process.run(partial(self._accept, server))

    def _told(self, listening: bool) -> None:
        if not listening:
            self.alive = False
        self._opened(listening)

    def _to_server(self, item: bytes | Exception | None) -> None:
        if self._server is None:
            # A machine that has started again does not know the connection; one without power says nothing.
            if self._frontends.cluster.machines[self.node].running:
                self._down.push(self._end_at_client)
            return
        self._inbox.append(item)
        self._server.process.run(self._pump)

    def _data_at_client(self, data: bytes, written_at: float) -> None:
        if self.data is not None:
            self.data(data, written_at)

    def _end_at_client(self) -> None:
        if self.alive:
            self.alive = False
            if self.ended is not None:
                self.ended()

    # the server

    def _accept(self, server: Server) -> None:
        self.protocol = server.new_protocol()
        self._transport = Transport(self, server.loop, self.protocol)
        server.loop.run(partial(self.protocol.connection_made, self._transport))
        for _ in range(len(self._inbox)):
            self._pump()

    def _pump(self) -> None:
        transport, protocol, server = self._transport, self.protocol, self._server
        if transport is None or protocol is None or server is None or not self._inbox or not transport.reading:
            return
        item = self._inbox.popleft()
        if transport.is_closing():
            self._inbox.clear()
        elif isinstance(item, bytes):
            server.loop.run(partial(protocol.data_received, item))
        else:
            transport.lose(item)

    def pump_later(self) -> None:
        if self._server is not None:
            for _ in range(len(self._inbox)):
                self._server.process.call_soon(self._pump)

    def written(self, data: bytes) -> None:
        if self._server is not None:
            self._down.push(partial(self._data_at_client, data, self._world.now))

    def server_closed(self) -> None:
        if self._server is not None:
            self._server.connections.pop(self, None)
            self._server = None
            self._down.push(self._end_at_client)

    def server_ended(self, *, silently: bool) -> None:
        self._server = None
        self._inbox.clear()
        if not silently:
            self._down.push(self._end_at_client)
