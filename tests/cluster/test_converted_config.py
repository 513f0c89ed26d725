"""What ``artemis convert-config`` makes of the earlier servers' files starts nodes that find each other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from artemis.api import artemis_cli
from jepsen_lite.cluster import HOST, ClusterError, free_ports, node_command
from jepsen_lite.http1 import Answer, Connection, Lost, NotSent
from jepsen_lite.process import NodeProcess
from jepsen_lite.reaper import Reaper

pytestmark = pytest.mark.cluster

READY_S = 30.0

RUST = """\
[server]
node_id = "node{number}"
listen_addr = "127.0.0.1:{port}"
peer_port = {peer_port}
region = "local"
zone = "zone1"
[cluster]
enabled = true
peers = {peers}
[replication]
enabled = true
timeout_secs = 5
batch_interval_ms = 100
[lease]
ttl_secs = 30
cleanup_interval_secs = 60
[cache]
enabled = true
expiry_secs = 300
[ratelimit]
enabled = true
requests_per_second = 10000
burst_size = 5000
[logging]
level = "info"
format = "pretty"
"""
JAVA = """\
region.id=lab
app.port={port}
app.id=10001
artemis.service.cluster.nodes={nodes}
artemis.service.cluster.node.status.force-up=true
artemis.service.registry.allow-from-other-zone=true
artemis.service.discovery.allow-from-other-zone=true
artemis.service.registry.instance.lease-manager.lease.ttl=20000
artemis.service.registry.legacy-instance.lease-manager.lease.ttl=90000
"""


def ports_with_distance(count: int) -> tuple[list[int], int]:
    """Free HTTP ports, and a distance at which a free port lies above each."""
    for _ in range(100):
        ports = free_ports(count + 1)
        offset = abs(ports[-1] - ports[0]) or 1
        raft = [port + offset for port in ports[:count]]
        if set(raft) & set(ports) or max(raft) >= 32_768:
            continue
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in raft:
                stack.enter_context(socket.socket()).bind((HOST, port))
            return ports[:count], offset
    raise ClusterError("no free ports at one distance")


@contextlib.contextmanager
def nodes(directory: Path, sources: Sequence[Path], *options: str) -> Iterator[None]:
    """A node for each file, converted."""
    with contextlib.ExitStack() as stack:
        reaper = Reaper()
        stack.callback(reaper.close)
        for source in sources:
            made = source.with_name(f"made-{source.stem}.toml")
            assert artemis_cli.main(["convert-config", str(source), str(made), *options]) == 0
            command = [*node_command(), "--config", str(made), "--data-dir", str(directory / source.stem)]
            process = NodeProcess(source.stem, command, directory / f"{source.stem}.log", {})
            process.start(reaper)
            stack.callback(process.reap)
            stack.callback(process.strike)
        yield


async def ready(port: int) -> None:
    async def is_ready() -> bool:
        with contextlib.suppress(NotSent, Lost):
            return (await request(port, "GET", "/readyz")).status == 200
        return False

    await within_time(is_ready, f"the node at port {port} is ready")


async def within_time(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + READY_S
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {READY_S:g} s: {what}"
        await asyncio.sleep(0.05)


async def request(port: int, method: str, path: str, body: object = None) -> Answer:
    connection = Connection(HOST, port)
    try:
        content = b"" if body is None else json.dumps(body).encode()
        return await connection.request(method, path, content, timeout_s=10)
    finally:
        await connection.aclose()


@pytest.mark.anyio
async def test_three_files_of_a_rust_cluster_make_a_cluster(tmp_path: Path) -> None:
    ports, offset = ports_with_distance(3)
    sources: list[Path] = []
    for number, port in enumerate(ports, start=1):
        peers = json.dumps([f"{HOST}:{other}" for other in ports if other != port])
        sources.append(tmp_path / f"node{number}.toml")
        sources[-1].write_text(RUST.format(number=number, port=port, peer_port=port + offset, peers=peers))
    with nodes(tmp_path, sources):
        for port in ports:
            await ready(port)
        place = {"region_id": "local", "zone_id": "zone1", "service_id": "s", "instance_id": "i1"}
        instance = {**place, "ip": "1.2.3.4", "port": 1, "url": "http://u", "status": "up"}
        answer = await request(ports[0], "POST", "/api/registry/register.json", {"instances": [instance]})
        assert answer.json() == {"response_status": {"error_code": "success", "status": "success"}}
        for port in ports:
            found = await request(port, "GET", "/api/discovery/service.json?service_id=s")
            assert found.headers["x-artemis-node"] == f"{HOST}-{port}"
            assert b'"instance_id":"i1"' in found.body


@pytest.mark.anyio
async def test_files_of_a_java_cluster_make_a_cluster_that_lists_its_nodes(tmp_path: Path) -> None:
    ports, offset = ports_with_distance(2)
    listed = "zone1:" + ",".join(f"http://{HOST}:{port}" for port in ports)
    sources: list[Path] = []
    for port in ports:
        sources.append(tmp_path / f"artemis-{port}.properties")
        sources[-1].write_text(JAVA.format(port=port, nodes=listed))
    with nodes(tmp_path, sources, "--raft-port-offset", str(offset)):
        for port in ports:
            await ready(port)

        async def lists_all() -> bool:
            body = {"regionId": "lab", "zoneId": "zone1"}
            answer = await request(ports[1], "POST", "/artemis/api/cluster/up-registry-nodes.json", body)
            listed = [node["url"] for node in json.loads(answer.body)["nodes"] or ()]
            return sorted(listed) == sorted(f"http://{HOST}:{port}" for port in ports)

        await within_time(lists_all, "every node is listed under the URL that the earlier files had")
