"""A cluster of real ``artemis-node`` processes on loopback, with a teardown that always runs.

::

    with Cluster(directory, size=3) as cluster:
        leader = cluster.leader()
        cluster.kill(leader)
        cluster.restart(leader)
        cluster.wait_ready()

Each node has its own ports, data directory and log under ``directory``. Nothing here sleeps for an effect: every wait
is for a condition and has a deadline.
"""

from __future__ import annotations

import functools
import http.client
import random
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from jepsen_lite.process import NodeProcess
from jepsen_lite.reaper import Reaper
from jepsen_lite.registry import REGION, SERVICE, ZONE, service_body

HOST = "127.0.0.1"
READY_S = 30.0
"""Deadline for a node to become ready: interpreter start, replay and an election on a busy machine."""
POLL_S = 0.02
T = TypeVar("T")


class ClusterError(Exception):
    """A node did not do what was waited for. Carries the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one node listens, both on 127.0.0.1."""

    http_port: int
    raft_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"


def node_command() -> list[str]:
    """The installed ``artemis-node`` beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("artemis-node")
    return [str(script)] if script.exists() else [sys.executable, "-m", "artemis.api.cli"]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range from which the kernel takes ports for outgoing connections.

    Binding to port 0 gives one from that range, and then a dead node's port is not safe: while it is down an outgoing
    connection of a neighbour may be given it (the restart fails with "address in use"), and a neighbour that dials it
    may be given it as its own source port, in which case TCP connects the socket to itself.
    """
    lowest_ephemeral = 32768
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if setting.exists():
        lowest_ephemeral = int(setting.read_text().split()[0])
    candidates = list(range(min(10_000, lowest_ephemeral // 2), lowest_ephemeral))
    random.shuffle(candidates)
    ports: list[int] = []
    for port in candidates:
        if len(ports) == count:
            return ports
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            ports.append(port)
    raise ClusterError(f"no {count} free ports below {lowest_ephemeral}")


class Cluster:
    """``size`` nodes n1, n2, … A context manager: entering starts and waits until ready, leaving tears down.

    ``command`` replaces the node program, ``arguments`` are added to every node's command line, ``environment`` to its
    environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 3,
        command: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        ports = free_ports(2 * size)
        ids = [f"n{number}" for number in range(1, size + 1)]
        self.addresses = {
            node: Address(http_port=ports[2 * at], raft_port=ports[2 * at + 1]) for at, node in enumerate(ids)
        }
        self._program = [*(command or node_command())]
        self._arguments = [*arguments]
        self.nodes = {
            node: NodeProcess(node, self.command_of(node), directory / f"{node}.log", environment or {}) for node in ids
        }
        self._reaper = Reaper()

    @property
    def ids(self) -> list[str]:
        return list(self.nodes)

    def running(self) -> list[str]:
        """Nodes whose process runs and is not stopped."""
        return [node for node, process in self.nodes.items() if process.state == "running"]

    def data_dir(self, node: str) -> Path:
        return self.directory / node

    def raft_ports(self, node: str) -> dict[str, int]:
        """Where ``node`` is told to find each member, itself included."""
        return {name: address.raft_port for name, address in self.addresses.items()}

    def command_of(self, node: str) -> list[str]:
        """The full command line of a node."""
        address = self.addresses[node]
        peers = ",".join(f"{name}={HOST}:{port}" for name, port in self.raft_ports(node).items())
        flags = {
            "--node-id": node,
            "--listen": f"{HOST}:{address.http_port}",
            "--raft-listen": f"{HOST}:{address.raft_port}",
            "--advertise": address.url,
            "--peers": peers,
            "--data-dir": str(self.data_dir(node)),
            "--region": REGION,
            "--zone": ZONE,
        }
        return [*self._program, *(part for flag in flags.items() for part in flag), *self._arguments]

    def start(self) -> None:
        """Start all nodes and wait until each is ready. Tears down what it started when one is not."""
        try:
            for node in self.ids:
                self.restart(node)
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def restart(self, node: str) -> None:
        """Start a dead node. Does not wait; see ``wait_ready``."""
        self.nodes[node].start(self._reaper)

    def kill(self, *nodes: str) -> None:
        """SIGKILL all of them, then reap: the last is hit while the first is not yet gone."""
        for node in nodes:
            self.nodes[node].strike()
        for node in nodes:
            self.nodes[node].reap()

    def pause(self, node: str) -> None:
        self.nodes[node].pause()

    def resume(self, node: str) -> None:
        self.nodes[node].resume()

    def heal(self) -> None:
        """Resume what is stopped, start what is dead, and wait until all are ready."""
        for node, process in self.nodes.items():
            if process.state == "paused":
                self.resume(node)
            elif process.state == "dead":
                self.restart(node)
        self.wait_ready()

    def wait_ready(self, nodes: Iterable[str] | None = None, timeout_s: float = READY_S) -> None:
        """Wait until ``/readyz`` answers 200 on each. Raises ``ClusterError`` at the deadline or when one ends."""
        for node in self.ids if nodes is None else nodes:
            self._await(node, functools.partial(self._ready, node), "is ready", timeout_s)

    def is_ready(self, node: str) -> bool:
        answer = self.probe(node, "GET", "/readyz")
        return answer is not None and answer[0] == 200

    def _ready(self, node: str) -> bool | None:
        return self.is_ready(node) or None

    def leader(self, timeout_s: float = READY_S) -> str:
        """The leader that the running nodes agree on, itself running. Waits for one."""
        return self._await(None, self._agreed_leader, "the running nodes agree on a leader", timeout_s)

    def followers(self) -> list[str]:
        leader = self.leader()
        return [node for node in self.running() if node != leader]

    def probe(
        self, node: str, method: str, path: str, body: bytes | None = None, timeout_s: float = 1.0
    ) -> tuple[int, Mapping[str, str]] | None:
        """Status and headers of one request on a connection of its own. None when no answer came."""
        found = self._fetch(node, method, path, body, timeout_s)
        return None if found is None else found[:2]

    def text(self, node: str, path: str, timeout_s: float = 1.0) -> str:
        """The body of a GET, whatever its status. Empty when no answer came."""
        found = self._fetch(node, "GET", path, None, timeout_s)
        return "" if found is None else found[2].decode(errors="replace")

    def _fetch(
        self, node: str, method: str, path: str, body: bytes | None, timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes] | None:
        connection = http.client.HTTPConnection(HOST, self.addresses[node].http_port, timeout=timeout_s)
        try:
            headers = {"content-type": "application/json", "x-artemis-consistency": "stale"} if body else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def close(self) -> None:
        """End every process, stopped ones too. Safe to call again."""
        self.kill(*self.ids)
        self._reaper.close()

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _agreed_leader(self) -> str | None:
        claims: set[str | None] = set()
        for node in self.running():
            answer = self.probe(node, "POST", SERVICE, service_body("leader-probe"))
            headers = answer[1] if answer else {}
            known = headers.get("x-artemis-known-leader") == "true"
            claims.add(headers.get("x-artemis-leader") if known else None)
        leader = claims.pop() if len(claims) == 1 else None
        return leader if leader in self.running() else None

    def _await(self, node: str | None, condition: Callable[[], T | None], what: str, timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        while True:
            found = condition()
            if found is not None:
                return found
            if node is not None and self.nodes[node].state == "dead":
                code = self.nodes[node].exit_code
                raise ClusterError(f"{node} ended with {code} before it {what}:\n{self.nodes[node].log_tail()}")
            if time.monotonic() >= deadline:
                raise ClusterError(f"not within {timeout_s:g} s: {node or ''} {what}\n{self._logs(node)}")
            time.sleep(POLL_S)

    def _logs(self, node: str | None) -> str:
        names = self.ids if node is None else [node]
        return "\n".join(f"--- {name}\n{self.nodes[name].log_tail()}" for name in names)
