"""A node's application on a real server with real WebSockets, for clients that behave or do not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import uvicorn
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect

from artemis.api.app import create_app
from artemis.api.ports import ReplicatedRegistry
from artemis.api.serve import uvicorn_config
from artemis.api.settings import HttpSettings
from tests.support.http import NOW_MS

DEADLINE_S = 20.0
HEARTBEAT = "/artemis/websocket/registry/heartbeat"
CHANGES = "/artemis/websocket/discovery/instance-change"
ALL_CHANGES = "/artemis/websocket/discovery/all-instance-change"
JAVA_BUFFER_BYTES = 8 * 1024
"""What a Java client takes in one message; a longer one costs it the connection, and so it does here."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Site:
    """One node served on loopback."""

    def __init__(self, port: int, metrics: CollectorRegistry) -> None:
        self.port = port
        self._metrics = metrics

    def open(
        self, path: str, *, bytes_max: int | None = JAVA_BUFFER_BYTES
    ) -> contextlib.AbstractAsyncContextManager[Talk]:
        return talking(self.port, path, bytes_max=bytes_max)

    def metric(self, name: str, **labels: str) -> float:
        return self._metrics.get_sample_value(name, labels) or 0.0


class Talk:
    """One WebSocket as its client has it: JSON out and in."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, message: object) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def hear(self) -> dict[str, Any]:
        text = await self.connection.recv()
        heard: dict[str, Any] = orjson.loads(text)
        return heard

    async def ask(self, message: object) -> dict[str, Any]:
        await self.say(message)
        return await self.hear()

    async def subscribe(self, service_id: str) -> dict[str, Any]:
        """To one service, as Java clients do; the push that answers."""
        config = {"serviceId": service_id, "regionId": None, "zoneId": None, "discoveryData": None}
        return await self.ask(config)


@contextlib.asynccontextmanager
async def talking(port: int, path: str, *, bytes_max: int | None = JAVA_BUFFER_BYTES) -> AsyncIterator[Talk]:
    uri = f"ws://127.0.0.1:{port}{path}"
    async with connect(uri, max_size=bytes_max, ping_interval=None, compression=None) as connection:
        yield Talk(connection)


@contextlib.asynccontextmanager
async def serving(node: ReplicatedRegistry, settings: HttpSettings | None = None) -> AsyncIterator[Site]:
    metrics = CollectorRegistry()
    app = create_app(node, settings or HttpSettings(), now_ms=lambda: NOW_MS, metrics=metrics)
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn_config(app, connections_max=1_000, keep_alive_s=5, shutdown_timeout_s=1))
    running = asyncio.ensure_future(server.serve([listener]))
    try:
        await until(lambda: server.started)
        yield Site(listener.getsockname()[1], metrics)
    finally:
        server.should_exit = True
        await running
        listener.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  conditions of any object, most of which tell nobody
        await asyncio.sleep(0.005)


def play(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story to its end, or fail it."""

    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await story()

    asyncio.run(within())


def brief(push: dict[str, Any]) -> tuple[str, str, str]:
    """(change type, service id, instance id) of a push."""
    instance = push["instance"]
    return push["changeType"], instance["serviceId"], instance["instanceId"]
