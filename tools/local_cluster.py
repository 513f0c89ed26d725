"""A cluster of real ``artemis-node`` processes on loopback, for ``make run`` and ``make demo``.

No process outlives its cluster: ``stop`` ends all of them, and on Linux the kernel ends them when this one dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

HOST = "127.0.0.1"
READY_S = 60.0
STOP_S = 15.0
POLL_S = 0.05
LOG_LINES_SHOWN = 8
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class ClusterError(Exception):
    """One line for the person at the terminal."""


@dataclass
class LocalNode:
    node_id: str
    http_port: int
    raft_port: int
    data_dir: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {self.node_id}: {line}" for line in lines[-LOG_LINES_SHOWN:])


class LocalCluster:
    """Nodes n1, n2, … with data and logs below ``directory``."""

    def __init__(self, directory: Path, http_ports: Sequence[int], raft_ports: Sequence[int]) -> None:
        self.directory = directory
        self.nodes = {
            f"n{number}": LocalNode(f"n{number}", http, raft, directory / f"n{number}", directory / f"n{number}.log")
            for number, (http, raft) in enumerate(zip(http_ports, raft_ports, strict=True), start=1)
        }

    def check_ports(self) -> None:
        """Raise ``ClusterError`` for the first port that is taken."""
        for node in self.nodes.values():
            for port in (node.http_port, node.raft_port):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind((HOST, port))
                    except OSError as exc:
                        raise ClusterError(
                            f"port {port}, meant for {node.node_id}, cannot be used: {exc.strerror}"
                        ) from exc

    def start(self, node_id: str) -> None:
        node = self.nodes[node_id]
        self.directory.mkdir(parents=True, exist_ok=True)
        peers = ",".join(f"{peer.node_id}={HOST}:{peer.raft_port}" for peer in self.nodes.values())
        command = [
            str(Path(sys.executable).parent / "artemis-node"),
            "--node-id",
            node_id,
            "--listen",
            f"{HOST}:{node.http_port}",
            "--raft-listen",
            f"{HOST}:{node.raft_port}",
            "--peers",
            peers,
            "--data-dir",
            str(node.data_dir),
        ]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ARTEMIS_")}
        with node.log_path.open("ab") as log:
            node.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean,
                # Its own session: Ctrl-C reaches this process only, which then stops the nodes in order.
                start_new_session=True,
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )

    def start_all(self) -> None:
        for node_id in self.nodes:
            self.start(node_id)

    def kill(self, node_id: str) -> None:
        """``kill -9``."""
        process = self.nodes[node_id].process
        if process is not None:
            process.kill()
            process.wait()

    def wait_ready(self, node_ids: Sequence[str]) -> None:
        """Return when each node answers ``/readyz`` with 200. Raises ``ClusterError`` when one ends or time is up."""
        deadline = time.monotonic() + READY_S
        for node_id in node_ids:
            node = self.nodes[node_id]
            while not _answers(f"{node.url}/readyz"):
                if not node.running:
                    code = node.process.returncode if node.process is not None else None
                    raise ClusterError(f"{node_id} ended at start with exit code {code}:\n{node.log_tail()}")
                if time.monotonic() > deadline:
                    raise ClusterError(f"{node_id} is not ready after {READY_S:.0f} s:\n{node.log_tail()}")
                time.sleep(POLL_S)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all, ``kill -9`` to those that do not end; the exit codes of the nodes that were running."""
        running = [node for node in self.nodes.values() if node.running]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        codes: dict[str, int] = {}
        deadline = time.monotonic() + STOP_S
        for node in running:
            assert node.process is not None
            try:
                codes[node.node_id] = node.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill(node.node_id)
                codes[node.node_id] = -signal.SIGKILL
        return codes


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago. All are held until the last is known, so they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that end a program into ``Interrupted``, once: while it stops, further ones are ignored."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(caught, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, on_signal)
    yield
