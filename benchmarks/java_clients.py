"""``python -m benchmarks java-clients``: many Java-like clients on three nodes, while the leader is killed.

All clients live in this process, on the same cores as the nodes. Each holds a WebSocket over which it renews its
instances every five seconds and pings every second, as the Java SDK does. A witness reads every change of the registry
meanwhile: a removed instance whose owner had a renewal acknowledged within its TTL is lost, and then the command fails.

A Java client that meets the dead node five times in 20 s waits, by its own rule, until those 20 s are over. With three
nodes and one of them dead for good that happens to one in eighty of those that were connected to it, and costs them
their leases. Such removals are counted apart, as silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import dataclass

import click
import msgspec
import uvloop

from benchmarks.cpu import CpuMeter
from benchmarks.java_fleet import Fleet, Witness, within
from benchmarks.report import as_text, machine
from benchmarks.scratch import scratch
from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import Cluster, ClusterError

TTL_S = 20.0
REGISTERED_S = 60.0
"""Within which every client must have renewed all its instances once, after all have started."""
RENEWED_S = 30.0
"""The same at the end: five seconds between beats, and what a reconnect may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    clients: int = 1_000
    instances: int = 5
    """Of each client."""
    seconds: float = 120.0
    ramp_s: float = 20.0
    restart_after_s: float = 5.0
    """How long the killed leader stays away; 0: until the end."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    count: int
    p50: float
    p99: float
    worst: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: str
    clients: int
    instances: int
    seconds: float
    pongs: Latency
    heartbeats: Latency
    pongs_after_kill: Latency
    """Of the ten seconds after the kill."""
    heartbeats_after_kill: Latency
    cpu_percent: dict[str, float]
    """Of one core, per process."""
    renewed_after_kill_s: float
    """Until every client had renewed all its instances after the kill."""
    lost: list[str]
    silent: list[str]
    missing: dict[str, int]
    """Instances that a node does not list at the end, by node; none are left out."""
    unregistered: list[int]
    """Clients whose instances were not all renewed at the end."""
    events: dict[str, int]
    codes: dict[str, int]
    notes: list[str]

    @property
    def kept(self) -> bool:
        return not self.lost and not self.missing and not self.unregistered


@click.command()
@click.option("--clients", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--instances", type=click.IntRange(1), default=5, show_default=True, help="Of each client.")
@click.option(
    "--seconds", type=click.FloatRange(10), default=120.0, show_default=True, help="The kill is in the middle."
)
@click.option("--ramp", type=float, default=20.0, show_default=True, help="Seconds over which the clients start.")
@click.option("--restart-after", type=float, default=5.0, show_default=True, help="0: the dead leader stays away.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def main(clients: int, instances: int, seconds: float, ramp: float, restart_after: float, as_json: bool) -> None:
    """Run many Java-like clients and kill the leader. Exit code 1 when an instance was lost or stayed away."""
    options = Options(clients=clients, instances=instances, seconds=seconds, ramp_s=ramp, restart_after_s=restart_after)
    try:
        figures = measure(options)
    except (BenchmarkError, ClusterError) as exc:
        raise click.ClickException(str(exc)) from exc
    print(as_text(figures) if as_json else shown(figures))
    if not figures.kept:
        sys.exit(1)


def measure(options: Options) -> Figures:
    """Start everything, measure, end and remove everything again. Raises ``BenchmarkError``, ``ClusterError``."""
    with scratch("java-clients") as directory:
        about = machine(directory, None, "clients in the measuring process")
        with Cluster(directory, arguments=["--connections-max", "50000"]) as cluster:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_run(cluster, options, about))


async def _run(cluster: Cluster, options: Options, about: str) -> Figures:
    fleet = Fleet(cluster, options.clients, options.instances)
    witness = Witness(cluster, fleet, TTL_S)
    clock = time.monotonic
    seen = fleet.observed
    meter = CpuMeter()
    helpers: list[asyncio.Task[None]] = []
    try:
        await fleet.start(options.ramp_s)
        await _all_renewed(fleet, clock() - 1_000.0, REGISTERED_S)
        await witness.start()
        seen.pongs_s.clear()
        seen.heartbeats_s.clear()
        events_before = dict(seen.counts)
        helpers = [asyncio.create_task(witness.follow()), asyncio.create_task(_meter(meter, cluster))]
        began = clock()
        await asyncio.sleep(options.seconds / 2)
        leader = await asyncio.to_thread(cluster.leader)
        cluster.kill(leader)
        killed = clock()
        before = len(seen.pongs_s), len(seen.heartbeats_s)
        renewed = asyncio.create_task(_all_renewed(fleet, killed, options.seconds))
        restarted = asyncio.create_task(_restart(cluster, leader, options.restart_after_s))
        helpers += [restarted]
        await asyncio.sleep(min(10.0, options.seconds / 4))
        after = len(seen.pongs_s), len(seen.heartbeats_s)
        await asyncio.sleep(max(0.0, began + options.seconds - clock()))
        renewed_after_kill_s = await renewed
        ended = clock()
        pongs, heartbeats = list(seen.pongs_s), list(seen.heartbeats_s)
        cpu_percent = {name: 100 * taken / (ended - began) for name, taken in sorted(meter.taken_s.items())}
        with contextlib.suppress(BenchmarkError):
            await _all_renewed(fleet, ended, RENEWED_S)
        await witness.look()
        missing = {node: len(fleet.owners.keys() - await witness.listed(node)) for node in cluster.running()}
        return Figures(
            machine=about,
            clients=options.clients,
            instances=len(fleet.owners),
            seconds=ended - began,
            pongs=latency(pongs),
            heartbeats=latency(heartbeats),
            pongs_after_kill=latency(pongs[before[0] : after[0]]),
            heartbeats_after_kill=latency(heartbeats[before[1] : after[1]]),
            cpu_percent=cpu_percent,
            renewed_after_kill_s=renewed_after_kill_s,
            lost=witness.lost,
            silent=witness.silent,
            missing={node: count for node, count in missing.items() if count},
            unregistered=fleet.unrenewed_since(ended),
            events={name: count - events_before.get(name, 0) for name, count in sorted(seen.counts.items())},
            codes=dict(seen.codes),
            notes=seen.notes[:10],
        )
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await fleet.stop()
        await witness.close()


async def _all_renewed(fleet: Fleet, moment: float, limit_s: float) -> float:
    async def condition() -> bool:
        return not fleet.unrenewed_since(moment)

    return await within(limit_s, "every client has renewed all its instances", condition)


async def _restart(cluster: Cluster, node: str, after_s: float) -> None:
    if after_s:
        await asyncio.sleep(after_s)
        cluster.restart(node)


async def _meter(meter: CpuMeter, cluster: Cluster) -> None:
    while True:
        for node in cluster.running():
            meter.sample(node, cluster.nodes[node].pid)
        meter.sample("clients", os.getpid())
        await asyncio.sleep(0.5)


def latency(seconds: list[float]) -> Latency:
    ordered = sorted(seconds) or [float("nan")]
    count = len(ordered)
    return Latency(
        count=len(seconds),
        p50=1_000 * ordered[count // 2],
        p99=1_000 * ordered[min(count - 1, count * 99 // 100)],
        worst=1_000 * ordered[-1],
    )


def shown(figures: Figures) -> str:
    lines = [
        figures.machine,
        "",
        f"{figures.clients} clients, {figures.instances} instances, {figures.seconds:.0f} s, one kill of the leader",
        "",
        f"{'ms':<28}{'count':>10}{'p50':>10}{'p99':>10}{'worst':>10}",
    ]
    for name, row in (
        ("pong", figures.pongs),
        ("heartbeat", figures.heartbeats),
        ("pong, after the kill", figures.pongs_after_kill),
        ("heartbeat, after the kill", figures.heartbeats_after_kill),
    ):
        lines.append(f"{name:<28}{row.count:>10}{row.p50:>10.2f}{row.p99:>10.2f}{row.worst:>10.1f}")
    cpu = "  ".join(f"{name} {percent:.0f} %" for name, percent in figures.cpu_percent.items())
    lines += [
        "",
        f"processor time, of one core: {cpu}",
        f"every client had renewed {figures.renewed_after_kill_s:.1f} s after the kill",
        f"clients' events: {figures.events}  codes: {figures.codes}",
        f"lost {len(figures.lost)}, removed for silence of their owner {len(figures.silent)}, "
        f"not listed at the end {figures.missing or 0}, clients left unregistered {len(figures.unregistered)}",
        *(f"  {one}" for one in (figures.lost + figures.silent)[:10]),
    ]
    return "\n".join(lines)
