"""``python -m benchmarks scale``: what a registry of 100,000 instances in 10,000 services costs on three nodes.

One cluster all the time. It is filled and emptied to 1,000 instances in turn, and one register is measured at both
sizes in many short samples, so that noise of the machine hits both. Their median leaves out the samples in which a
snapshot is written: the fill brings more of them than registers one by one do (one per 16 MiB of log).

Then, at the full size: look-ups stale and linearizable in turn, the list of all services, snapshots while all instances
are registered again and again, the kill of a follower and of all nodes, and at last a minute of renewals with short
leases, during which the revision must not move: a lease that ended would move it. Exit code 1 if one did or if a
heartbeat was refused. What misses its target is marked.

Processor time is shown beside times because it depends less on what else runs: a loop's *work* lag leaves out the time
in which the kernel ran something else.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import orjson
import uvloop

from benchmarks import wrk
from benchmarks.java_clients import Latency, latency
from benchmarks.node_facts import WALL_LAG, WORK_LAG, Metrics, longest, memory_mb, memory_peak_mb, processor_us
from benchmarks.report import as_text, machine
from benchmarks.scale_load import (
    BATCH,
    INSTANCES_PER_SERVICE,
    SMALL,
    batches,
    grow,
    items,
    look_up,
    register_one,
    renew,
    shrink,
    write_all,
)
from benchmarks.scale_report import Fact, Figures, shown
from benchmarks.scratch import scratch
from benchmarks.wrk import BenchmarkError, Sample, Workload
from jepsen_lite.cluster import HOST, Cluster, ClusterError
from jepsen_lite.http1 import Answer, Connection
from jepsen_lite.registry import REGION, REGISTER, ZONE

SERVICES = "/artemis/api/discovery/services.json"
ALL_TIMEOUT_S = 60.0
POLL_S = 0.02
READY_S = 120.0
SNAPSHOTS_S = 180.0
SAMPLES = 4
"""Of each size, load and round."""
MEMORY_MB_MAX = 400.0
RATIO_MAX = 1.2
READ_RATIO_MIN = 0.4
RESTART_S_MAX = 5.0
STALL_S_MAX = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    instances: int = 100_000
    rounds: int = 3
    sample_s: float = 1.0
    connections: tuple[int, ...] = (1, 32)
    renewals_per_second: int = 20_000
    renewals_s: float = 60.0
    ttl_ms: int = 20_000


@click.command()
@click.option("--instances", type=click.IntRange(2 * SMALL), default=100_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of small and large in turn.")
@click.option("--sample", type=click.FloatRange(1), default=1.0, show_default=True, help="Seconds of one sample.")
@click.option("--renewals", type=click.IntRange(BATCH), default=20_000, show_default=True, help="Per second.")
@click.option("--seconds", type=click.FloatRange(1), default=60.0, show_default=True, help="Of renewals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def main(instances: int, rounds: int, sample: float, renewals: int, seconds: float, as_json: bool) -> None:
    """Measure three nodes with 100,000 instances."""
    options = Options(
        instances=instances, rounds=rounds, sample_s=sample, renewals_per_second=renewals, renewals_s=seconds
    )
    try:
        wrk.require()
        figures = measure(options)
    except (BenchmarkError, ClusterError) as exc:
        raise click.ClickException(str(exc)) from exc
    print(as_text(figures) if as_json else shown(figures))
    if figures.broken:
        sys.exit(1)


def measure(options: Options) -> Figures:
    """Start everything, measure, end and remove everything again. Raises ``BenchmarkError``, ``ClusterError``."""
    with scratch("scale") as directory:
        about = machine(directory, None, "wrk and one Python process")
        with Cluster(directory / "nodes", arguments=["--log-level", "warning"]) as cluster:
            run = _Run(cluster, options, directory)
            for part in (run.registers, run.reads, run.listing, run.memory, run.snapshots, run.restarts, run.renewals):
                print(part.__name__, file=sys.stderr, flush=True)
                part()
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        return Figures(machine=f"{about}, after {load}", facts=run.facts, broken=run.broken)


@dataclass(slots=True)
class _Run:
    """Each method is a part of the measurement and adds its lines. They rely on their order."""

    cluster: Cluster
    options: Options
    scratch: Path
    facts: list[Fact] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def registers(self) -> None:
        """One register at both sizes, in turn; the registry is left large."""
        count = self.options.instances
        leader = self.cluster.leader()
        loads = {SMALL: register_one(SMALL, count // 10), count: register_one(count, count // 10)}
        rates: dict[tuple[int, int], list[float]] = {}
        costs: dict[tuple[int, int], list[float]] = {}
        grow(self.cluster, leader, 0, SMALL)
        filled: list[float] = []
        for turn in range(self.options.rounds):
            if turn:
                shrink(self.cluster, leader, SMALL, count)
            for size in (SMALL, count):
                if size != SMALL:
                    filled.append(grow(self.cluster, leader, SMALL, count))
                for connections in self.options.connections * SAMPLES:
                    sample, cost_us = self._sample(leader, loads[size], connections)
                    rates.setdefault((connections, size), []).append(sample.per_second)
                    costs.setdefault((connections, size), []).append(cost_us)
        self._add(f"registered in batches of {BATCH}", f"{(count - SMALL) / min(filled):,.0f} instances/s")
        for connections in self.options.connections:
            self._compare(f"register, {connections} connections", rates, connections, count, "/s", inverse=True)
            self._compare(f"processor time of it, {connections} connections", costs, connections, count, " us")

    def _compare(
        self,
        name: str,
        found: dict[tuple[int, int], list[float]],
        connections: int,
        count: int,
        unit: str,
        *,
        inverse: bool = False,
    ) -> None:
        small, large = (statistics.median(found[connections, size]) for size in (SMALL, count))
        ratio = small / large if inverse else large / small
        value = f"{small:,.0f}{unit} at {SMALL:,}, {large:,.0f}{unit} at {count:,}: cost x {ratio:.2f}"
        self._add(name, value, f"<= {RATIO_MAX}", ratio <= RATIO_MAX)

    def reads(self) -> None:
        leader = self.cluster.leader()
        services = self.options.instances // INSTANCES_PER_SERVICE
        stale, linearizable = look_up("stale", services), look_up("linearizable", services)
        rates: dict[str, list[float]] = {stale.name: [], linearizable.name: []}
        for _ in range(self.options.rounds * SAMPLES):
            for load in (stale, linearizable):
                rates[load.name].append(self._sample(leader, load, 32)[0].per_second)
        slow, fast = (statistics.median(rates[load.name]) for load in (linearizable, stale))
        value = f"{slow:,.0f}/s of {fast:,.0f}/s: {100 * slow / fast:.0f} %"
        name = "look-up linearizable of stale, 32 connections"
        self._add(name, value, f">= {100 * READ_RATIO_MIN:.0f} %", slow / fast >= READ_RATIO_MIN)

    def listing(self) -> None:
        """All services twice: the second time from what is kept."""
        leader = self.cluster.leader()
        before = Metrics(self.cluster, leader)
        seconds: list[float] = []
        for _ in range(2):
            began = time.perf_counter()
            answer = asyncio.run(
                _ask(self.cluster, leader, SERVICES, orjson.dumps({"regionId": REGION, "zoneId": ZONE}))
            )
            seconds.append(time.perf_counter() - began)
        value = f"{seconds[0]:.2f} s, again {seconds[1]:.2f} s, {len(answer.body) / 1e6:.0f} MB"
        self._add("list of all services", value)
        self._stalls("longest pause meanwhile", {leader: before})

    def memory(self) -> None:
        found = {node: memory_mb(self.cluster.nodes[node].pid) for node in self.cluster.ids}
        peaks = [memory_peak_mb(self.cluster.nodes[node].pid) for node in self.cluster.ids]
        value = ", ".join(f"{node} {mb:.0f} MB" for node, mb in found.items()) + f" (peak {max(peaks):.0f} MB)"
        self._add("memory", value, f"<= {MEMORY_MB_MAX:.0f} MB", max(found.values()) <= MEMORY_MB_MAX)

    def snapshots(self) -> None:
        """Register everything again until every node has taken another snapshot."""
        leader = self.cluster.leader()
        bodies = batches(items(0, self.options.instances))
        indexes = {node: Metrics(self.cluster, node).value("artemis_raft_snapshot_index") for node in self.cluster.ids}
        before = {node: Metrics(self.cluster, node) for node in self.cluster.ids}
        deadline = time.monotonic() + SNAPSHOTS_S
        while any(
            Metrics(self.cluster, node).value("artemis_raft_snapshot_index") <= indexes[node]
            for node in self.cluster.ids
        ):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no snapshot within {SNAPSHOTS_S:g} s")
            asyncio.run(write_all(self.cluster, leader, REGISTER, bodies))
        self._stalls(f"longest pause, snapshots under registers x{BATCH}", before)
        self.memory()

    def restarts(self) -> None:
        follower = self.cluster.followers()[0]
        metrics = Metrics(self.cluster, follower)
        log_entries = metrics.value("artemis_raft_last_log_index") - metrics.value("artemis_raft_snapshot_index")
        self._restart(f"killed follower ready, {log_entries:,.0f} entries behind its snapshot", [follower])
        self._restart("all nodes killed, all ready", self.cluster.ids)

    def _restart(self, name: str, nodes: list[str]) -> None:
        self.cluster.kill(*nodes)
        began = time.monotonic()
        for node in nodes:
            self.cluster.restart(node)
        while not all(self.cluster.is_ready(node) for node in nodes):
            if time.monotonic() - began > READY_S:
                raise BenchmarkError(f"{', '.join(nodes)} not ready after {READY_S:g} s")
            time.sleep(POLL_S)
        seconds = time.monotonic() - began
        work_s = max(processor_us(self.cluster.nodes[node].pid) for node in nodes) / 1e6
        # Killed together they share the machine's cores, so the target is that of one.
        met = seconds <= RESTART_S_MAX if len(nodes) == 1 else None
        self._add(
            name,
            f"{seconds:.1f} s, {work_s:.1f} s of them work",
            f"<= {RESTART_S_MAX:g} s" if len(nodes) == 1 else "",
            met,
        )

    def renewals(self) -> None:
        """All leases short, all renewed in turn: nothing may end."""
        options, nodes = self.options, self.cluster.ids
        grow(self.cluster, self.cluster.leader(), 0, options.instances, options.ttl_ms)
        self._settle()
        before = {node: Metrics(self.cluster, node) for node in nodes}
        revisions = {scrape.value("artemis_registry_revision") for scrape in before.values()}
        spent = {node: processor_us(self.cluster.nodes[node].pid) for node in nodes}
        own = time.process_time()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            beats = runner.run(renew(self.cluster, options.instances, options.renewals_per_second, options.renewals_s))
        after = {node: Metrics(self.cluster, node) for node in nodes}
        revisions |= {scrape.value("artemis_registry_revision") for scrape in after.values()}
        renewed = max(_grown(before[node], after[node], "artemis_lease_renewals_total") for node in nodes)
        ms: Latency = latency(beats.seconds)
        cpu = [
            f"{node} {(processor_us(self.cluster.nodes[node].pid) - spent[node]) / options.renewals_s / 1e4:.0f} %"
            for node in nodes
        ]
        cpu.append(f"clients {100 * (time.process_time() - own) / options.renewals_s:.0f} %")
        if len(revisions) != 1:
            self.broken.append(f"the revision moved during the renewals: {sorted(revisions)}")
        for name in ("evictions", "held"):
            ended = max(_grown(before[node], after[node], f"artemis_lease_{name}_total") for node in nodes)
            if ended:
                self.broken.append(f"leases ran out during the renewals: {name} {ended:,.0f}")
        if beats.failed:
            self.broken.append(f"{len(beats.failed)} of {beats.sent} heartbeats failed, such as {beats.failed[0]}")
        rate = renewed / options.renewals_s
        self._add(
            f"renewals x{BATCH} for {options.renewals_s:.0f} s, TTL {options.ttl_ms / 1000:.0f} s",
            f"{rate:,.0f}/s, p50 {ms.p50:.1f} ms, p99 {ms.p99:.1f} ms, worst {ms.worst:.0f} ms",
            f">= {options.renewals_per_second:,}/s, none ends",
            not self.broken and rate >= 0.99 * options.renewals_per_second,
        )
        self._add("processor time of it, of one core", ", ".join(cpu))
        self._stalls("longest pause meanwhile", before)

    def _settle(self) -> None:
        """Until all nodes have applied the same revision: a write is answered when the node asked has applied it."""
        deadline = time.monotonic() + ALL_TIMEOUT_S
        while len({Metrics(self.cluster, node).value("artemis_registry_revision") for node in self.cluster.ids}) > 1:
            if time.monotonic() > deadline:
                raise BenchmarkError("the nodes do not reach the same revision")

    def _sample(self, node: str, load: Workload, connections: int) -> tuple[Sample, float]:
        """One run of wrk, and the processor time of all nodes per request in microseconds."""
        before = self._processor_us()
        sample = wrk.drive(
            self.cluster.addresses[node].url,
            load,
            connections=connections,
            seconds=self.options.sample_s,
            scratch=self.scratch,
        )
        return sample, (self._processor_us() - before) / sample.requests

    def _processor_us(self) -> float:
        return sum(processor_us(self.cluster.nodes[node].pid) for node in self.cluster.ids)

    def _stalls(self, name: str, before: dict[str, Metrics]) -> None:
        after = {node: Metrics(self.cluster, node) for node in before}

        def worst(family: str) -> float:
            return max(longest(before[node].buckets(family), after[node].buckets(family)) for node in before)

        work, wall = worst(WORK_LAG), worst(WALL_LAG)
        value = f"at most {1000 * work:.0f} ms of work, {1000 * wall:.0f} ms by the clock"
        self._add(name, value, f"<= {1000 * STALL_S_MAX:.0f} ms", work <= STALL_S_MAX)

    def _add(self, name: str, value: str, target: str = "", met: bool | None = None) -> None:
        self.facts.append(Fact(name=name, value=value, target=target, met=met))
        print(f"  {name}: {value}", file=sys.stderr, flush=True)


def _grown(before: Metrics, after: Metrics, name: str) -> float:
    return after.value(name) - before.value(name)


async def _ask(cluster: Cluster, node: str, path: str, body: bytes) -> Answer:
    connection = Connection(HOST, cluster.addresses[node].http_port)
    try:
        return await connection.request("POST", path, body, timeout_s=ALL_TIMEOUT_S)
    finally:
        await connection.aclose()
