"""Each node in a network namespace of its own, so that what is cut is lost in the kernel and not held by a proxy.

::

    switch ── bridge ──┬── n1   10.77.0.1 on its link, where the nodes speak Raft
                       ├── n2   10.77.0.2
                       └── n3   10.77.0.3     no route leads out of these

Cutting a direction gives the sender a wrong hardware address for the receiver: packets leave and nobody takes them, as
with a broken switch, so TCP's own timers decide when either side notices. It needs no kernel module beyond ``veth`` and
``bridge``. HTTP stays on each namespace's loopback; a thread inside the namespace forwards the harness's connections.

Needs root and ``ip`` (iproute2); ``obstacle`` says why it cannot be done. The namespaces end with ``close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from jepsen_lite.cluster import HOST, ClusterError
from jepsen_lite.proxy import CHUNK_BYTES, SeverableCluster

NETWORK = "10.77.0"
NOBODY = "02:00:00:00:00:fe"
"""A hardware address that no node has."""
COMMAND_S = 10.0
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


def obstacle() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    if os.geteuid() != 0:
        return "needs root"
    name = f"artemis-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "add", "b0", "type", "bridge")
            _ip("-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        finally:
            _ip("netns", "del", name)
    except ClusterError as exc:
        return str(exc)
    return ""


class NamespaceCluster(SeverableCluster):
    """A cluster whose nodes have nothing in common but a bridge."""

    def __init__(self, directory: Path, *, size: int = 3, arguments: Sequence[str] = ()) -> None:
        prefix = f"artemis-{os.getpid()}-{next(_numbers)}"
        self._switch = f"{prefix}-switch"
        self._namespaces = {f"n{number}": f"{prefix}-n{number}" for number in range(1, size + 1)}
        self._ips = {node: f"{NETWORK}.{number}" for number, node in enumerate(self._namespaces, 1)}
        self._doors: list[_Door] = []
        self._made: list[str] = []
        super().__init__(directory, size=size, arguments=["--insecure", *arguments])
        self.links = _Neighbours(self._namespaces, self._ips)

    def command_of(self, node: str) -> list[str]:
        command = super().command_of(node)
        replaced = {
            "--peers": ",".join(f"{name}={self._ips[name]}:{port}" for name, port in self.raft_ports(node).items()),
            "--raft-listen": f"{self._ips[node]}:{self.addresses[node].raft_port}",
        }
        for flag, value in replaced.items():
            command[command.index(flag) + 1] = value
        return ["ip", "netns", "exec", self._namespaces[node], *command]

    def start(self) -> None:
        try:
            self._make()
            super().start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        for door in self._doors:
            door.close()
        while self._made:
            _ip("netns", "del", self._made.pop())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> None:
        for name in (self._switch, *self._namespaces.values()):
            _ip("netns", "add", name)
            self._made.append(name)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for node, name in self._namespaces.items():
            _ip("-n", self._switch, "link", "add", node, "type", "veth", "peer", "name", "raft", "netns", name)
            _ip("-n", self._switch, "link", "set", node, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{self._ips[node]}/24", "dev", "raft")
            _ip("-n", name, "link", "set", "raft", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            self._doors.append(_Door(name, self.addresses[node].http_port))


class _Neighbours:
    """Links that are cut by the sender's table of neighbours."""

    def __init__(self, namespaces: dict[str, str], ips: dict[str, str]) -> None:
        self._namespaces = namespaces
        self._ips = ips
        self._wrong: set[tuple[str, str]] = set()

    def cut(self, sender: str, receiver: str) -> None:
        self._wrong.add((sender, receiver))
        self._neighbour(sender, "replace", receiver, "lladdr", NOBODY, "nud", "permanent")

    def isolate(self, node: str) -> None:
        for other in self._namespaces:
            if other != node:
                self.cut(node, other)
                self.cut(other, node)

    def heal(self) -> None:
        while self._wrong:
            sender, receiver = self._wrong.pop()
            self._neighbour(sender, "del", receiver)

    def _neighbour(self, node: str, verb: str, other: str, *arguments: str) -> None:
        _ip("-n", self._namespaces[node], "neighbour", verb, self._ips[other], "dev", "raft", *arguments)


class _Door:
    """Forwards connections to a port of this namespace's loopback to the same port of another's.

    The listening socket is made here. The thread that dials enters the other namespace, which is a property of threads.
    """

    def __init__(self, namespace: str, port: int) -> None:
        self._namespace = namespace
        self._port = port
        self._listener = socket.create_server((HOST, port))
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name=f"door to {namespace}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            _enter(self._namespace)
            self._loop.run_until_complete(self._until_stopped())
        finally:
            self._loop.close()

    async def _until_stopped(self) -> None:
        server = await asyncio.start_server(self._forward, sock=self._listener)
        await self._stop.wait()
        server.close()
        forwarding = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in forwarding:
            task.cancel()
        await asyncio.gather(*forwarding, return_exceptions=True)

    async def _forward(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._port)
        except OSError:
            near.transport.abort()
            return
        pumps = [asyncio.ensure_future(_pump(near_reader, far)), asyncio.ensure_future(_pump(far_reader, near))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for writer in (near, far):
                writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _enter(namespace: str) -> None:
    """Move this thread into a namespace of ``ip netns``."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (Path("/run/netns") / namespace).open() as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
