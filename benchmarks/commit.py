"""``python -m benchmarks commit``: what one committed proposal costs without HTTP, and how long a failover takes.

This process is one of three members: it holds the same ``Node`` that ``artemis-node`` runs, on uvloop and with the same
interpreter settings; the other two are ``artemis-node`` processes. A measured proposal registers one instance of 1,000
known ones with the member in this process. Its time runs from ``propose`` until its outcome was computed by this
member's own ``apply``: encoded, appended to the log, on the disks of a majority (fdatasync), committed, applied. HTTP,
JSON and dialects are not in it; the driver's own loop is, on the same core as the member.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import click
import uvloop

from artemis.api.process import GC_THRESHOLDS, SWITCH_INTERVAL_S
from artemis.commands import Register, Registration
from artemis.consensus.node import Node, NodeConfig
from artemis.errors import Unavailable
from artemis.model import Instance, Member
from artemis.outcomes import Registered
from benchmarks import moments
from benchmarks.report import Result, Row, as_text, machine, table
from benchmarks.run import shown
from benchmarks.scratch import scratch
from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import HOST, Cluster, ClusterError
from jepsen_lite.registry import REGION, ZONE

DRIVER = "n1"
INSTANCES = 1000
TTL_MS = 24 * 3600 * 1000
TIMEOUT_MS = 10_000
WARM_UP_S = 1.0
LEADER_S = 60.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure. ``at``: whether the member in this process leads or follows."""

    seconds: float
    in_flight: tuple[int, ...]
    at: str
    failovers: int


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="Per measurement.")
@click.option("--in-flight", default="1,100,1000", show_default=True, help="Comma-separated proposals at a time.")
@click.option("--at", type=click.Choice(["leader", "follower"]), default="leader", show_default=True)
@click.option("--failovers", type=int, default=20, show_default=True, help="Times the leader is killed; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def main(seconds: float, in_flight: str, at: str, failovers: int, as_json: bool) -> None:
    """Measure commits of three members, and the time without a leader when it is killed."""
    try:
        counts = tuple(int(part) for part in in_flight.split(","))
        result = measure(Options(seconds=seconds, in_flight=counts, at=at, failovers=failovers))
    except (BenchmarkError, ClusterError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
    print(as_text(result) if as_json else table(result))


def measure(options: Options) -> Result:
    """Start everything, measure, and end and remove everything again. Raises ``BenchmarkError``, ``ClusterError``."""
    with scratch("commit") as directory:
        about = machine(directory, None, "proposals made inside a member")
        with contextlib.closing(Cluster(directory / "commit")) as cluster:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows = runner.run(_commits(cluster, options))
        found = {}
        if options.failovers:
            with Cluster(directory / "failover") as cluster:
                times = moments.failover(cluster, options.failovers)
            found[f"{options.failovers} kills of the leader, ms until the next acknowledged write"] = shown(times)
    return Result(machine=about, rows=rows, moments=found)


async def _commits(cluster: Cluster, options: Options) -> list[Row]:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    if options.at == "follower":
        async with _member(cluster) as node:
            # Closed as a leader it hands its leadership over, and comes back as a follower.
            await _take_role(cluster, node, "leader")
    async with _member(cluster) as node:
        await _take_role(cluster, node, options.at)
        rows = []
        for count in options.in_flight:
            print(f"{count} in flight", file=sys.stderr, flush=True)
            await _drive(node, count, WARM_UP_S)
            began = node.status()
            times = await _drive(node, count, options.seconds)
            if (node.status().term, node.status().role) != (began.term, began.role):
                raise BenchmarkError("the leader changed during the measurement: the machine is too busy")
            rows.append(
                Row(
                    name=f"propose at the {options.at}",
                    connections=count,
                    seconds=options.seconds,
                    per_second=len(times.ms) / options.seconds,
                    unit="proposals",
                    p50_ms=times.percentile(50),
                    p99_ms=times.percentile(99),
                )
            )
    return rows


@contextlib.asynccontextmanager
async def _member(cluster: Cluster) -> AsyncIterator[Node]:
    """The member in this process, and the processes of the others."""
    raft_socket = socket.socket()
    raft_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    raft_socket.bind((HOST, cluster.addresses[DRIVER].raft_port))
    config = NodeConfig(
        node_id=DRIVER,
        peers={node: (HOST, port) for node, port in cluster.raft_ports(DRIVER).items()},
        raft_socket=raft_socket,
        data_dir=cluster.data_dir(DRIVER),
        member=Member(node_id=DRIVER, url=cluster.addresses[DRIVER].url, region_id=REGION, zone_id=ZONE),
    )
    for other in cluster.ids:
        if other != DRIVER and cluster.nodes[other].state == "dead":
            cluster.restart(other)
    node = await Node.start(config, on_fatal=_stop)
    try:
        yield node
    finally:
        await node.close()


def _stop(reason: str) -> None:
    """Its proposals fail from here on, which ends the measurement."""
    print(f"the member in this process has stopped itself: {reason}", file=sys.stderr)


async def _take_role(cluster: Cluster, node: Node, role: str) -> None:
    """Have other members lead until the one in this process has the role asked for, and all are ready."""
    others = [other for other in cluster.ids if other != DRIVER]
    deadline = time.monotonic() + LEADER_S
    while time.monotonic() < deadline:
        await asyncio.to_thread(cluster.wait_ready, others)
        status = node.status()
        if not status.ready or status.leader_id is None or not all(peer.connected for peer in status.peers):
            await asyncio.sleep(POLL_S)
        elif role == status.role:
            return
        elif status.role == "leader":
            raise BenchmarkError("this member leads and cannot give it away: run again")
        else:
            await asyncio.to_thread(cluster.nodes[status.leader_id].terminate, 15.0)
            cluster.restart(status.leader_id)
    raise BenchmarkError(f"this member did not become {role} within {LEADER_S:g} s")


async def _drive(node: Node, count: int, seconds: float) -> moments.Times:
    """``count`` proposals in flight for ``seconds``: milliseconds of each that ended in that time."""
    commands = [_register(number) for number in range(INSTANCES)]
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def propose_in_turn(first: int) -> None:
        number = first
        while True:
            started = time.perf_counter()
            outcome = await node.propose(commands[number % INSTANCES], timeout_ms=TIMEOUT_MS)
            done = time.perf_counter()
            if not isinstance(outcome, Registered):
                raise BenchmarkError(f"a proposal ended with {outcome}")
            if done > end:
                return
            found.append((done - started) * 1000)
            number += count

    tasks = [asyncio.create_task(propose_in_turn(first)) for first in range(count)]
    try:
        await asyncio.gather(*tasks)
    except Unavailable as exc:
        raise BenchmarkError(f"a proposal failed: {exc}") from exc
    finally:
        for task in tasks:
            task.cancel()
    return moments.Times.of(found)


def _register(number: int) -> Register:
    instance = Instance(
        service_id=f"bench-{number % 100}",
        instance_id=f"i{number}",
        region_id=REGION,
        zone_id=ZONE,
        group_id="g1",
        ip="10.0.0.1",
        port=8090,
        protocol="http",
        url=f"http://10.0.0.1:8090/i{number}",
        health_check_url="http://10.0.0.1:8090/health",
        status="up",
        metadata={},
    )
    return Register((Registration(instance, TTL_MS),))


if __name__ == "__main__":
    main()
