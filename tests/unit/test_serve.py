"""The life of a node process, with a node that does as told: signals, drain, fatal faults, failed starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from artemis.api.config_kinds import Address
from artemis.api.process import bind
from artemis.api.serve import EXIT_CLEAN, EXIT_FATAL, Parts, StartError, serve
from artemis.api.serve import logger as serve_logger
from artemis.errors import DataDamaged

DEADLINE_S = 20.0


@dataclass
class Node:
    closed: int = 0

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Scene:
    """A node process in this process: its parts, and what the test may do with them."""

    node: Node = field(default_factory=Node)
    start: Callable[[Callable[[str], None]], Awaitable[None]] | None = None
    shutdown_timeout_s: int = 5
    in_terminal: bool = False
    on_fatal: Callable[[str], None] | None = None
    in_request: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def _start_node(self, on_fatal: Callable[[str], None]) -> Node:
        self.on_fatal = on_fatal
        if self.start is not None:
            await self.start(on_fatal)
        return self.node

    def _make_app(self, node: Node) -> Starlette:
        async def quick(request: Request) -> PlainTextResponse:
            return PlainTextResponse("quick")

        async def slow(request: Request) -> PlainTextResponse:
            self.in_request.set()
            await self.release.wait()
            return PlainTextResponse(f"closed {node.closed} times")

        self.up.set()
        return Starlette(routes=[Route("/quick", quick), Route("/slow", slow)])

    def serve(self) -> asyncio.Task[int]:
        http_socket = bind(Address("127.0.0.1", 0), "listen")
        self.url = f"http://127.0.0.1:{http_socket.getsockname()[1]}"
        parts = Parts(
            http_socket=http_socket,
            start_node=self._start_node,
            make_app=self._make_app,
            on_stall=lambda seconds: None,
            on_lag=lambda late_s, worked_s: None,
            connections_max=100,
            keep_alive_s=90,
            shutdown_timeout_s=self.shutdown_timeout_s,
            in_terminal=self.in_terminal,
        )
        return asyncio.ensure_future(serve(parts))


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await story(Scene())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within())


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def logged(text: str) -> Iterator[asyncio.Event]:
    """An event that is set when a line with ``text`` is logged."""
    told = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                told.set()

    listener = Listener()
    serve_logger.addHandler(listener)
    try:
        yield told
    finally:
        serve_logger.removeHandler(listener)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_node_and_ends_with_code_0(number: signal.Signals) -> None:
    async def story(scene: Scene) -> None:
        serving = scene.serve()
        async with httpx.AsyncClient() as client:
            await scene.up.wait()
            answer = await _get(client, scene.url + "/quick")
            assert answer.text == "quick"
            assert "server" not in answer.headers
            send(number)
            # The client's idle connection stays open: it must not hold up the end.
            assert await serving == EXIT_CLEAN
        assert scene.node.closed == 1

    play(story)


def test_a_hangup_is_logged_and_the_node_goes_on() -> None:
    """What ``systemctl reload`` and log rotation send; by default it would end the process at once."""

    async def story(scene: Scene) -> None:
        serving = scene.serve()
        async with httpx.AsyncClient() as client:
            await scene.up.wait()
            with logged("SIGHUP is ignored") as told:
                send(signal.SIGHUP)
                await told.wait()
            assert (await _get(client, scene.url + "/quick")).text == "quick"
        send(signal.SIGTERM)
        assert await serving == EXIT_CLEAN

    play(story)


def test_a_node_in_a_terminal_ends_with_it() -> None:
    async def story(scene: Scene) -> None:
        scene.in_terminal = True
        serving = scene.serve()
        await scene.up.wait()
        send(signal.SIGHUP)
        assert await serving == EXIT_CLEAN
        assert scene.node.closed == 1

    play(story)


def test_an_open_request_is_finished_before_the_node_is_closed() -> None:
    async def story(scene: Scene) -> None:
        serving = scene.serve()
        async with httpx.AsyncClient() as client:
            await scene.up.wait()
            request = asyncio.ensure_future(_get(client, scene.url + "/slow"))
            await scene.in_request.wait()
            send(signal.SIGTERM)
            await _until_refused(scene.url)
            scene.release.set()
            assert (await request).text == "closed 0 times"
            assert await serving == EXIT_CLEAN
        assert scene.node.closed == 1

    play(story)


def test_a_request_that_does_not_end_is_given_up_after_the_time_allowed() -> None:
    async def story(scene: Scene) -> None:
        scene.shutdown_timeout_s = 0
        serving = scene.serve()
        async with httpx.AsyncClient() as client:
            await scene.up.wait()
            request = asyncio.ensure_future(_get(client, scene.url + "/slow"))
            await scene.in_request.wait()
            send(signal.SIGTERM)
            assert await serving == EXIT_CLEAN
            request.cancel()
            await asyncio.wait({request})
        assert scene.node.closed == 1

    play(story)


def test_a_fatal_fault_stops_without_waiting_for_requests_or_closing_the_node() -> None:
    async def story(scene: Scene) -> None:
        serving = scene.serve()
        async with httpx.AsyncClient() as client:
            await scene.up.wait()
            request = asyncio.ensure_future(_get(client, scene.url + "/slow"))
            await scene.in_request.wait()
            assert scene.on_fatal is not None
            scene.on_fatal("the disk failed")
            assert await serving == EXIT_FATAL
            request.cancel()
            await asyncio.wait({request})
        assert scene.node.closed == 0

    play(story)


def test_a_fatal_fault_while_starting_ends_with_code_70() -> None:
    async def story(scene: Scene) -> None:
        async def start(on_fatal: Callable[[str], None]) -> None:
            on_fatal("the state differs")
            await asyncio.Event().wait()

        scene.start = start
        assert await scene.serve() == EXIT_FATAL

    play(story)


def test_a_signal_while_starting_ends_with_code_0() -> None:
    async def story(scene: Scene) -> None:
        starting = asyncio.Event()

        async def start(on_fatal: Callable[[str], None]) -> None:
            starting.set()
            await asyncio.Event().wait()

        scene.start = start
        serving = scene.serve()
        await starting.wait()
        send(signal.SIGTERM)
        assert await serving == EXIT_CLEAN

    play(story)


@pytest.mark.parametrize("error", [DataDamaged("record 7 is damaged"), OSError("directory in use")])
def test_a_node_that_cannot_start_is_an_error_for_the_operator(error: Exception) -> None:
    async def story(scene: Scene) -> None:
        async def start(on_fatal: Callable[[str], None]) -> None:
            raise error

        scene.start = start
        with pytest.raises(StartError, match=str(error)):
            await scene.serve()

    play(story)


def test_an_address_taken_between_bind_and_listen_is_an_error_for_the_operator() -> None:
    async def story(scene: Scene) -> None:
        other = socket.socket()
        with other:

            async def start(on_fatal: Callable[[str], None]) -> None:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", int(scene.url.rpartition(":")[2])))
                other.listen()

            scene.start = start
            with pytest.raises(StartError, match=r"cannot listen for clients: .*in use"):
                await scene.serve()
        assert scene.node.closed == 1

    play(story)


async def _get(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """The application exists shortly before the server listens."""
    while True:
        try:
            return await client.get(url, timeout=DEADLINE_S)
        except httpx.ConnectError:
            await asyncio.sleep(0)


async def _until_refused(url: str) -> None:
    port = int(url.rpartition(":")[2])
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the queue of the listener that closed
            continue
        writer.close()
