"""``python -m benchmarks watchers``: thousands of WebSockets that watch one service at one node; some never read.

All clients live in this process, on the same cores as the nodes. Every change of the service goes to every socket,
which is the worst case: the time is from the start of the registration's request to the arrival of its change.
It is measured twice, before and after the stalled sockets are opened. Exit code 1 if a change was missed, a stalled
socket was not cut off, or memory grew beyond the bound per socket.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec
import uvloop

from benchmarks.cpu import seconds_of
from benchmarks.moments import Times
from benchmarks.registry_load import HOUR_MS
from benchmarks.report import as_text, machine
from benchmarks.scratch import scratch
from benchmarks.watch_sockets import Watcher, open_watcher
from benchmarks.wrk import BenchmarkError
from jepsen_lite.cluster import HOST, Cluster, ClusterError
from jepsen_lite.http1 import Connection
from jepsen_lite.registry import REGISTER, evidence_of, instance, instances_body

SERVICE = "watched"
TIMEOUT_S = 30.0
PAD_BYTES = 500
"""Of the instance's metadata."""
FILLER = "filler"
"""A service that only those watch that do not read: its changes fill their buffers, the kernels' too."""
FILL_BYTES = 50_000
FILL_S = 60.0
FILL_PAUSE_S = 0.2
CONNECTING_AT_ONCE = 50
KB_PER_SOCKET_MAX = 60
"""Of the node's memory, stalled sockets and their buffers included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    sockets: int = 5_000
    stalled: int = 10
    changes: int = 40
    interval_s: float = 0.5


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds over all sockets and changes; ``last``: until the last socket had the change, median of changes."""

    p50: float
    p99: float
    worst: float
    last: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: str
    sockets: int
    stalled: int
    changes: int
    before: Spread
    with_stalled: Spread
    rss_mb_alone: float
    rss_mb_connected: float
    rss_mb_end: float
    kb_per_socket: float
    connect_s: float
    idle_cpu_percent: float
    """Of one core, with all sockets open and nothing to tell."""
    loop_stalls: int
    """Of the node, over 100 ms, in the whole run."""
    cut_off: int
    missed: int

    @property
    def kept(self) -> bool:
        return self.missed == 0 and self.cut_off == self.stalled and self.kb_per_socket <= KB_PER_SOCKET_MAX


@click.command()
@click.option("--sockets", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--stalled", type=click.IntRange(0), default=10, show_default=True, help="Beside them: never read.")
@click.option("--changes", type=click.IntRange(1), default=40, show_default=True, help="In each of two rounds.")
@click.option(
    "--interval", type=click.FloatRange(0.05), default=0.5, show_default=True, help="Seconds between changes."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def main(sockets: int, stalled: int, changes: int, interval: float, as_json: bool) -> None:
    """Watch one service over thousands of WebSockets at one follower of a three-node cluster."""
    options = Options(sockets=sockets, stalled=stalled, changes=changes, interval_s=interval)
    try:
        figures = measure(options)
    except (BenchmarkError, ClusterError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    print(as_text(figures) if as_json else shown(figures))
    if not figures.kept:
        sys.exit(1)


def measure(options: Options) -> Figures:
    """Start everything, measure, end and remove everything again. Raises ``BenchmarkError``, ``ClusterError``."""
    with scratch("watchers") as directory:
        about = machine(directory, None, "clients in the measuring process")
        limit = str(2 * (options.sockets + options.stalled) + 1_000)
        with Cluster(directory, arguments=["--connections-max", limit, "--sockets-max", limit]) as cluster:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_Bench(cluster, options).run(about))


@dataclass
class _Round:
    """One change under way: who has it, and when."""

    began: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    all_arrived: asyncio.Event = field(default_factory=asyncio.Event)


class _Bench:
    def __init__(self, cluster: Cluster, options: Options) -> None:
        self._cluster = cluster
        self._options = options
        self._node = cluster.followers()[0]
        self._port = cluster.addresses[self._node].http_port
        self._pid = cluster.nodes[self._node].pid
        self._watchers: list[Watcher] = []
        self._round = _Round()
        self._sent = 0

    async def run(self, about: str) -> Figures:
        options = self._options
        writer = Connection(HOST, self._cluster.addresses[self._cluster.leader()].http_port)
        await self._change(writer)
        alone = self._rss_mb()
        began = time.perf_counter()
        await self._open(options.sockets, stalled=False)
        connect_s = time.perf_counter() - began
        idle = await self._idle_cpu()
        connected = self._rss_mb()
        before = await self._measure(writer)
        await self._open(options.stalled, stalled=True)
        with_stalled = await self._measure(writer)
        await self._fill(writer)
        end = self._rss_mb()
        await writer.aclose()
        figures = Figures(
            machine=about,
            sockets=options.sockets,
            stalled=options.stalled,
            changes=2 * options.changes,
            before=before,
            with_stalled=with_stalled,
            rss_mb_alone=alone,
            rss_mb_connected=connected,
            rss_mb_end=end,
            kb_per_socket=(end - alone) * 1024 / (options.sockets + options.stalled),
            connect_s=connect_s,
            idle_cpu_percent=idle,
            loop_stalls=int(self._metric("artemis_event_loop_stall_seconds_count")),
            cut_off=self._cut_off(),
            missed=sum(self._sent - watcher.changes for watcher in self._watchers if not watcher.stalled),
        )
        for watcher in self._watchers:
            watcher.abort()
        return figures

    async def _open(self, count: int, *, stalled: bool) -> None:
        for first in range(0, count, CONNECTING_AT_ONCE):
            batch = range(first, min(count, first + CONNECTING_AT_ONCE))
            services = f"{SERVICE},{FILLER}" if stalled else SERVICE
            opening = [open_watcher(self._port, services, self._told, stalled=stalled) for _ in batch]
            self._watchers += await asyncio.gather(*opening)
        # Changes count from here on, for everybody.
        for watcher in self._watchers:
            watcher.changes = 0
        self._sent = 0

    def _told(self, watcher: Watcher, changes: int) -> None:
        current = self._round
        if changes == self._sent:
            current.arrivals_s.append(time.perf_counter() - current.began)
            if len(current.arrivals_s) == self._options.sockets:
                current.all_arrived.set()

    async def _measure(self, writer: Connection) -> Spread:
        arrivals_s: list[float] = []
        last_s: list[float] = []
        for _ in range(self._options.changes):
            self._round = current = _Round(time.perf_counter())
            self._sent += 1
            await self._change(writer)
            try:
                await asyncio.wait_for(current.all_arrived.wait(), TIMEOUT_S)
            except TimeoutError as exc:
                missing = self._options.sockets - len(current.arrivals_s)
                raise BenchmarkError(f"{missing} sockets were not told of a change within {TIMEOUT_S:g} s") from exc
            arrivals_s += current.arrivals_s
            last_s.append(current.arrivals_s[-1])
            await asyncio.sleep(self._options.interval_s)
        times, last = Times.of([one * 1000 for one in arrivals_s]), Times.of([one * 1000 for one in last_s])
        return Spread(p50=times.percentile(50), p99=times.percentile(99), worst=times.ms[-1], last=last.percentile(50))

    async def _fill(self, writer: Connection) -> None:
        """Go on with changes for those that do not read until they were cut off, for ``FILL_S`` at most."""
        deadline = time.perf_counter() + FILL_S
        while self._cut_off() < self._options.stalled and time.perf_counter() < deadline:
            await self._change(writer, FILLER, FILL_BYTES)
            await asyncio.sleep(FILL_PAUSE_S)

    def _cut_off(self) -> int:
        """Sockets that are gone: their buffers stayed full for too long, or they did not answer a ping."""
        opened = self._options.sockets + self._options.stalled
        return opened - int(self._metric('artemis_sockets{kind="watch"}'))

    async def _change(self, writer: Connection, service: str = SERVICE, pad_bytes: int = PAD_BYTES) -> None:
        one = instance(service, "i1", {"pad": "x" * pad_bytes}, ttl_ms=HOUR_MS)
        answer = await writer.request("POST", REGISTER, instances_body([one]), {}, timeout_s=TIMEOUT_S)
        if evidence_of(answer).code != "success":
            raise BenchmarkError(f"register: {answer.status} {answer.body[:300]!r}")

    async def _idle_cpu(self) -> float:
        """Over fifteen seconds: longer than the time between two bookmarks."""
        before, began = seconds_of(self._pid), time.perf_counter()
        await asyncio.sleep(15.0)
        after = seconds_of(self._pid)
        assert before is not None
        assert after is not None
        return 100 * (after - before) / (time.perf_counter() - began)

    def _rss_mb(self) -> float:
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise BenchmarkError("no VmRSS")

    def _metric(self, name: str) -> float:
        for line in self._cluster.text(self._node, "/metrics", timeout_s=10.0).splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise BenchmarkError(f"no metric {name}")


def shown(figures: Figures) -> str:
    def spread(name: str, values: Spread) -> str:
        return (
            f"{name:<24}p50 {values.p50:>7.1f} ms   p99 {values.p99:>7.1f} ms   worst {values.worst:>7.1f} ms   "
            f"all have it after {values.last:>7.1f} ms"
        )

    return "\n".join(
        (
            figures.machine,
            "",
            f"{figures.sockets} sockets at one follower, opened in {figures.connect_s:.1f} s; "
            f"{figures.changes} changes, each to all of them",
            spread("everybody reads", figures.before),
            spread(f"and {figures.stalled} that never read", figures.with_stalled),
            f"memory of the node: {figures.rss_mb_alone:.0f} MB alone, {figures.rss_mb_connected:.0f} MB with the "
            f"sockets, {figures.rss_mb_end:.0f} MB at the end: {figures.kb_per_socket:.1f} kB per socket",
            f"idle: {figures.idle_cpu_percent:.1f} % of a core; loop stalls over 100 ms: {figures.loop_stalls}; "
            f"cut off: {figures.cut_off} of {figures.stalled}; changes missed: {figures.missed}",
        )
    )
