"""One real ``artemis-node`` process: what it says, how it ends, what it finds again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest

pytestmark = pytest.mark.cluster

DEADLINE_S = 30.0
INSTANCE = {
    "region_id": "r",
    "zone_id": "z",
    "service_id": "orders",
    "instance_id": "orders-1",
    "ip": "127.0.0.1",
    "port": 9000,
    "url": "http://127.0.0.1:9000/",
    "status": "up",
}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.01)


class Start(Protocol):
    def __call__(self, before: Callable[[], None] | None = None) -> NodeProcess:
        """A node that is ready. ``before`` runs in its process first."""
        ...


class NodeProcess:
    """A one-node cluster in ``directory``; its log lines are JSON in the file ``log``."""

    def __init__(self, directory: Path, port: int, before: Callable[[], None] | None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = directory / "log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ARTEMIS_")}
        environ["ARTEMIS_LOG_FORMAT"] = "json"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "artemis-node"), f"--listen=127.0.0.1:{port}"],
                cwd=directory,
                env=environ,
                stderr=log,
                preexec_fn=before,
            )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            return httpx.get(self.url + "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def logged(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started: list[NodeProcess] = []

    def start_and_wait(before: Callable[[], None] | None = None) -> NodeProcess:
        node = NodeProcess(tmp_path, port, before)
        started.append(node)
        wait_until(node.is_ready, "the node is ready")
        return node

    yield start_and_wait
    for node in started:
        node.stop()


def instances(node: NodeProcess) -> list[object]:
    answer = httpx.get(node.url + "/api/discovery/service.json", params={"service_id": "orders"}).json()
    found = answer["service"]["instances"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_node_finds_acknowledged_instances_after_its_end(start: Start, end: signal.Signals) -> None:
    node = start()
    answer = httpx.post(node.url + "/api/registry/register.json", json={"instances": [INSTANCE]})
    assert answer.json()["response_status"]["error_code"] == "success"
    node.process.send_signal(end)
    assert node.process.wait(DEADLINE_S) == (-signal.SIGKILL if end == signal.SIGKILL else 0)
    assert instances(start()) == [INSTANCE]


def test_log_lines_are_json_and_say_where_the_node_serves(start: Start) -> None:
    node = start()
    lines = [json.loads(line) for line in node.log.read_text(encoding="utf-8").splitlines()]
    assert any(node.url in line["message"] for line in lines)


def test_a_second_signal_ends_the_node_at_once(start: Start) -> None:
    """A request whose body never comes holds up the first signal for ``shutdown_timeout_s``."""
    node = start()
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        client.sendall(
            b"POST /api/registry/register.json HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100"), "the node waits for the body"
        node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: node.logged("stopping on SIGTERM"), "the first signal is seen")
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(DEADLINE_S) == -signal.SIGTERM


def test_a_second_process_on_the_same_data_is_refused_with_the_owner_named(start: Start, tmp_path: Path) -> None:
    node = start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "artemis-node"), f"--listen=127.0.0.1:{port}"]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("artemis-node: error: data_dir = .artemis/n1: in use")
    assert str(node.process.pid) in second.stderr
    assert second.stderr.count("\n") == 1


def test_where_few_files_may_be_open_fewer_clients_connect_and_the_log_says_so(start: Start) -> None:
    """Refused with 503, not reset, and the journal can still open its files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (210, 210))

    node = start(limit)
    assert node.logged("connections_max is 10 and not 10000, because the limit of open files is 210")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", node.port)))
        wait_until(lambda: httpx.get(node.url + "/readyz").status_code == 503, "one connection too many is refused")


def test_connections_that_ask_for_nothing_leave_files_for_the_rest(start: Start) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (210, 210))

    node = start(limit)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(httpx.Client())
        assert first.get(node.url + "/livez").status_code == 200
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", node.port))) for _ in range(250)]
        with contextlib.suppress(ConnectionResetError):
            idle[-1].settimeout(DEADLINE_S)
            assert idle[-1].recv(1) == b"", "cut without a word"
        found = re.search(r"^process_open_fds (\d+)", first.get(node.url + "/metrics").text, re.MULTILINE)
        assert found is not None
        assert int(found[1]) < 180


def test_the_log_says_what_was_found_and_what_was_cut_off(start: Start, tmp_path: Path) -> None:
    node = start()
    assert node.logged(".artemis/n1 holds no data yet")
    node.process.kill()
    node.process.wait()
    with next((tmp_path / ".artemis" / "n1").glob("journal-*.log")).open("ab") as journal:
        journal.write(b"torn")
    node = start()
    assert node.logged(".artemis/n1 holds entries 1 to ")
    assert node.logged("bytes off the end of the journal")


def test_an_instance_larger_than_the_log_takes_is_refused_with_the_bound(start: Start) -> None:
    node = start()
    body = {"instances": [{**INSTANCE, "metadata": {"x": "y" * 1_900_000}}]}
    answer = httpx.post(node.url + "/api/registry/register.json", json=body)
    assert answer.headers["x-artemis-outcome"] == "not-applied"
    status = answer.json()["response_status"]
    assert status["error_code"] == "bad-request"
    assert (
        "at most 1048576 are allowed: name fewer instances in one request, or send less metadata"
        in status["error_message"]
    )


def test_every_metric_that_the_documents_and_alerts_name_is_exported(start: Start) -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", root / "configs" / "alerts.yml", *(root / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"artemis_[a-z_]+", page.read_text(encoding="utf-8"))}
    assert "artemis_node_ready" in named
    exported = httpx.get(start().url + "/metrics").text
    assert {name for name in named if name.rstrip("_") not in exported} == set()
