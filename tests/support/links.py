"""Real links on loopback, and a hand-driven dialer to misbehave with."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType

import uvloop

from artemis.consensus import wire
from artemis.consensus.frames import FrameWriter
from artemis.consensus.handshake import DialerHandshake, Identity
from artemis.consensus.link_settings import LinkSettings
from artemis.consensus.transport import TcpLinks, fresh_nonce

DEADLINE_S = 20.0
SECRET = b"a shared secret for tests"

Run = Callable[[Callable[[], Coroutine[None, None, None]]], None]


def uvloop_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


RUNNERS: list[Callable[[], asyncio.Runner]] = [asyncio.Runner, uvloop_runner]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  conditions of any object, most of which tell nobody
            await asyncio.sleep(0.001)


def run_clean(new_runner: Callable[[], asyncio.Runner], scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run it; afterwards no task is left and no callback of the loop has failed."""

    async def watched() -> None:
        failures: list[Mapping[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert failures == []

    with new_runner() as runner:
        runner.run(watched())


class Recorder:
    """What one node was told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.messages: list[tuple[str, wire.Message]] = []
        self.on_each: Callable[[str, wire.Message], None] | None = None

    def on_message(self, peer: str, message: wire.Message) -> None:
        self.messages.append((peer, message))
        if self.on_each is not None:
            self.on_each(peer, message)

    def on_connected(self, peer: str) -> None:
        self.events.append(("up", peer))

    def on_disconnected(self, peer: str) -> None:
        self.events.append(("down", peer))

    def terms_from(self, peer: str) -> list[int]:
        return [term_of(message) for sender, message in self.messages if sender == peer]


def term_of(message: wire.Message) -> int:
    assert isinstance(message, wire.TermHint)
    return message.term


def hint(term: int) -> wire.Message:
    return wire.TermHint(term)


def bound_socket(port: int = 0) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Nodes:
    """Some nodes of one cluster; ``async with`` starts ``started`` of them and closes all."""

    def __init__(
        self,
        *names: str,
        started: tuple[str, ...] | None = None,
        secret: bytes | None = SECRET,
        settings: LinkSettings | None = None,
    ) -> None:
        self.secret = secret
        self.settings = settings
        self.links: dict[str, TcpLinks] = {}
        self.told: dict[str, Recorder] = {}
        self._started = names if started is None else started
        self.sockets = {name: bound_socket() for name in names}
        self.members: dict[str, tuple[str, int]] = {name: s.getsockname() for name, s in self.sockets.items()}

    async def __aenter__(self) -> Nodes:
        for name in self._started:
            await self.start(name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in tuple(self.links):
            await self.stop(name)
        for unused in self.sockets.values():
            unused.close()

    async def start(
        self,
        name: str,
        *,
        cluster: str = "test",
        members: Mapping[str, tuple[str, int]] | None = None,
        secret: bytes | str | None = "same",
        settings: LinkSettings | None = None,
    ) -> None:
        """Also after ``stop``: on the same port, as a restarted process."""
        server_socket = self.sockets.pop(name, None) or bound_socket(self.members[name][1])
        links = TcpLinks(
            node_id=name,
            cluster=cluster,
            members=members or self.members,
            secret=self.secret if isinstance(secret, str) else secret,
            server_socket=server_socket,
            rng=random.Random(1),
            settings=settings or self.settings,
        )
        self.links[name], self.told[name] = links, Recorder()
        links.start(self.told[name])
        await links.start_server()

    async def stop(self, name: str) -> None:
        links = self.links.pop(name)
        links.close()
        async with asyncio.timeout(DEADLINE_S):
            await links.wait_closed()

    async def all_up(self) -> None:
        pairs = [(a, b) for a in self.links for b in self.links if a != b]
        await eventually(lambda: all(self.links[a].connected(b) for a, b in pairs))


class RawDialer:
    """A member's connection to ``listener`` that can send what no honest one would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes | None) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameWriter(key)

    @classmethod
    async def dial(cls, nodes: Nodes, listener: str, name: str) -> RawDialer:
        reader, writer = await asyncio.open_connection(*nodes.members[listener])
        who = Identity(node_id=name, cluster="test", members=nodes.members, secret=nodes.secret)
        handshake = DialerHandshake(who, listener, fresh_nonce())
        writer.write(handshake.hello())
        while not handshake.done:
            writer.write(handshake.receive(await reader.read(1024)))
        return cls(reader, writer, handshake.frame_key)

    def frame(self, payload: bytes) -> bytes:
        return self._frames.head(payload) + payload

    def message(self, message: wire.Message) -> bytes:
        return self.frame(wire.encode(message))

    async def closed_by_peer(self) -> None:
        await closed_by_peer(self.reader, self.writer)


async def closed_by_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Waits for the other end to close; what it said before. An orderly end and a reset are both an end."""
    said = b""
    async with asyncio.timeout(DEADLINE_S):
        try:
            while data := await reader.read(4096):
                said += data
        except ConnectionError:
            said += b""
    writer.transport.abort()
    return said
