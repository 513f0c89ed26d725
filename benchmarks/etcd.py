"""Three etcd members on loopback, driven through their HTTP/JSON gateway. fsync is on, as it is by default."""

from __future__ import annotations

import base64
import http.client
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import orjson

from benchmarks.wrk import BenchmarkError, Workload
from jepsen_lite.cluster import HOST, free_ports
from jepsen_lite.process import NodeProcess
from jepsen_lite.reaper import Reaper

READY_S = 30.0


def version() -> str | None:
    """``3.4.23``; None when etcd is not installed."""
    if shutil.which("etcd") is None:
        return None
    output = subprocess.run(["etcd", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return output.splitlines()[0].removeprefix("etcd Version: ").strip()


class EtcdCluster:
    """A context manager: entering starts three members and waits for a leader, leaving ends them."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        ports = free_ports(6)
        self._clients = dict(zip(("e1", "e2", "e3"), ports[:3], strict=True))
        peers = dict(zip(("e1", "e2", "e3"), ports[3:], strict=True))
        members = ",".join(f"{name}=http://{HOST}:{port}" for name, port in peers.items())
        self._reaper = Reaper()
        self._members = [
            NodeProcess(
                name,
                _command(directory, name, self._clients[name], peers[name], members),
                directory / f"{name}.log",
                {},
            )
            for name in self._clients
        ]

    def leader_url(self) -> str:
        """The member that leads, so that both systems are asked at the same place."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for port in self._clients.values():
                status = _post(port, "/v3/maintenance/status", {})
                header = status.get("header") if status else None
                if isinstance(header, dict) and status and status.get("leader") == header.get("member_id"):
                    return f"http://{HOST}:{port}"
            time.sleep(0.05)
        logs = "\n".join(member.log_tail(5) for member in self._members)
        raise BenchmarkError(f"etcd has no leader after {READY_S:g} s:\n{logs}")

    def put_all(self, workload: Workload) -> None:
        """Send every body of ``workload`` once."""
        port = int(self.leader_url().rpartition(":")[2])
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            for body in workload.bodies:
                connection.request("POST", workload.path, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise BenchmarkError(f"etcd: {answer.status} {text[:300]!r}")
        finally:
            connection.close()

    def __enter__(self) -> EtcdCluster:
        try:
            for member in self._members:
                member.start(self._reaper)
            self.leader_url()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for member in self._members:
            member.strike()
        for member in self._members:
            member.reap()
        self._reaper.close()


def put(pairs: Sequence[tuple[str, bytes]]) -> Workload:
    bodies = [orjson.dumps({"key": _base64(key.encode()), "value": _base64(value)}) for key, value in pairs]
    return Workload(name="etcd put", path="/v3/kv/put", bodies=bodies)


def get(keys: Sequence[str], *, serializable: bool) -> Workload:
    """One key per request. Linearizable reads are etcd's default."""
    bodies = [orjson.dumps({"key": _base64(key.encode()), "serializable": serializable}) for key in keys]
    return Workload(
        name=f"etcd get {'serializable' if serializable else 'linearizable'}", path="/v3/kv/range", bodies=bodies
    )


def _command(directory: Path, name: str, client_port: int, peer_port: int, members: str) -> list[str]:
    client, peer = f"http://{HOST}:{client_port}", f"http://{HOST}:{peer_port}"
    flags = {
        "--name": name,
        "--data-dir": str(directory / name),
        "--listen-client-urls": client,
        "--advertise-client-urls": client,
        "--listen-peer-urls": peer,
        "--initial-advertise-peer-urls": peer,
        "--initial-cluster": members,
        "--initial-cluster-state": "new",
        "--initial-cluster-token": "artemis-benchmark",
        "--enable-v2": "false",
        "--logger": "zap",
        "--log-level": "error",
    }
    return ["etcd", *(f"{flag}={value}" for flag, value in flags.items())]


def _post(port: int, path: str, body: dict[str, object]) -> dict[str, object] | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("POST", path, orjson.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        parsed = orjson.loads(data) if answer.status == 200 else None
        return parsed if isinstance(parsed, dict) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
