"""TCP proxies between the nodes, so that links can be cut per direction without root.

::

    n1 ── dials ──► proxy (n1, n2) ── dials ──► n2        one per ordered pair; n1 is told that n2 listens here

``cut("n1", "n2")`` holds every byte from n1 to n2: what n1 sends on the connection it dialed, and its answers on the
connection n2 dialed. ``heal`` lets held bytes through, so old connections deliver late, as TCP does after a partition.

Weaker than lost packets in two ways: the kernel goes on acknowledging to the sender until buffers are full, and a dial
into a cut succeeds and then stays silent. Messages between the nodes meet the same fate either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from jepsen_lite.cluster import HOST, Cluster, free_ports

TAPE_BYTES = 64 * 1024
TAPES_MAX = 64
CHUNK_BYTES = 64 * 1024
Pair = tuple[str, str]


class Proxies:
    """A listening port for each ordered pair of nodes, served by a thread of its own. Callable from any thread."""

    def __init__(self, ids: Sequence[str]) -> None:
        pairs = list(itertools.permutations(ids, 2))
        self.ports = dict(zip(pairs, free_ports(len(pairs)), strict=True))
        """(who dials, who is dialed) -> port."""
        self.tapes: dict[Pair, list[bytearray]] = {pair: [] for pair in pairs}
        """The first bytes the dialer sent on each of its first connections."""
        self._listeners = {pair: _bound(port) for pair, port in self.ports.items()}
        self._targets: Mapping[str, int] = {}
        self._open = {pair: asyncio.Event() for pair in pairs}
        self._delay_s = dict.fromkeys(pairs, 0.0)
        self._tasks: set[asyncio.Task[None]] = set()
        for gate in self._open.values():
            gate.set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="proxies", daemon=True)

    def start(self, targets: Mapping[str, int]) -> None:
        """Forward to these Raft ports, node id -> port, from now on."""
        self._targets = dict(targets)
        self._thread.start()

    def cut(self, sender: str, receiver: str) -> None:
        """Hold every byte from ``sender`` to ``receiver``; the other direction stays open. Returns when it holds."""
        self._on_loop(self._open[sender, receiver].clear)

    def isolate(self, node: str) -> None:
        """Cut both directions between ``node`` and every other."""
        for pair in self.ports:
            if node in pair:
                self.cut(*pair)

    def slow(self, node: str, delay_s: float) -> None:
        """Hold each piece of at most ``CHUNK_BYTES`` between ``node`` and any other so long before the next is read:
        a node that is slow, or far away, and has little room for what is under way."""
        for pair in self.ports:
            if node in pair:
                self._delay_s[pair] = delay_s

    def heal(self) -> None:
        """Open every direction again, and let none be slow."""
        for pair, gate in self._open.items():
            self._delay_s[pair] = 0.0
            self._on_loop(gate.set)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        for listener in self._listeners.values():
            listener.close()
        if not self._loop.is_closed():
            self._loop.close()

    def _on_loop(self, change: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            change()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(10):
            raise RuntimeError("the proxies do not react")

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._until_stopped())

    async def _until_stopped(self) -> None:
        servers = [self._loop.create_task(self._accept(pair, sock)) for pair, sock in self._listeners.items()]
        await self._stop.wait()
        for task in (*servers, *self._tasks):
            task.cancel()
        await asyncio.gather(*servers, *self._tasks, return_exceptions=True)

    async def _accept(self, pair: Pair, listener: socket.socket) -> None:
        while True:
            accepted, _ = await self._loop.sock_accept(listener)
            task = self._loop.create_task(self._forward(pair, accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, pair: Pair, accepted: socket.socket) -> None:
        """One connection from its dial to its end."""
        dialer, listener = pair
        near_reader, near = await asyncio.open_connection(sock=accepted)
        try:
            await self._open[dialer, listener].wait()
            far_reader, far = await asyncio.open_connection(HOST, self._targets[listener])
        except OSError:
            near.transport.abort()
            return
        tape = bytearray()
        if len(self.tapes[pair]) < TAPES_MAX:
            self.tapes[pair].append(tape)
        there = self._loop.create_task(self._pump(near_reader, far, (dialer, listener), tape))
        back = self._loop.create_task(self._pump(far_reader, near, (listener, dialer), None))
        try:
            # The nodes close a connection whole, never one half: the end of one direction is the end of both.
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            for writer in (near, far):
                writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair, tape: bytearray | None
    ) -> None:
        """Bytes from the first of ``pair`` to the second."""
        gate = self._open[pair]
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if tape is not None:
                    tape += data[: TAPE_BYTES - len(tape)]
                if self._delay_s[pair]:
                    await asyncio.sleep(self._delay_s[pair])
                await gate.wait()
                writer.write(data)
                await writer.drain()
        await gate.wait()  # the end of a connection does not pass a cut either


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(128)
    listener.setblocking(False)
    return listener


class Links(Protocol):
    """The links between the nodes of a cluster, each direction for itself."""

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing from ``sender`` reaches ``receiver`` any more; the other direction stays. Returns when it holds."""

    def isolate(self, node: str) -> None:
        """Cut both directions between ``node`` and every other."""

    def heal(self) -> None:
        """Open every direction again."""


class SeverableCluster(Cluster):
    """A cluster whose ``links`` can be cut."""

    links: Links

    def heal(self) -> None:
        self.links.heal()
        super().heal()


class ProxiedCluster(SeverableCluster):
    """A cluster whose nodes reach each other only through ``proxies``."""

    def __init__(
        self, directory: Path, *, size: int = 3, command: Sequence[str] | None = None, arguments: Sequence[str] = ()
    ) -> None:
        # Bound before the nodes' own ports are drawn, so that none is drawn twice.
        self.proxies = Proxies([f"n{number}" for number in range(1, size + 1)])
        self.links = self.proxies
        super().__init__(directory, size=size, command=command, arguments=arguments)
        self.proxies.start({node: address.raft_port for node, address in self.addresses.items()})

    def raft_ports(self, node: str) -> dict[str, int]:
        direct = super().raft_ports(node)
        return {peer: port if peer == node else self.proxies.ports[node, peer] for peer, port in direct.items()}

    def close(self) -> None:
        super().close()
        self.proxies.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
