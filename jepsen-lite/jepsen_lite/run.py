"""One run: start the cluster, load it, break it, heal it, read everything back, judge.

Warm-up ends when the first adds are acknowledged; then the plan of faults begins. After the last heal the run waits
until each node has caught up (its stale reads are at the highest revision any client has seen) and only then takes the
final reads, because a missing element must mean loss and not lag.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jepsen_lite import nemesis
from jepsen_lite.checker import Verdict, check
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Event, Recorder, load
from jepsen_lite.witness import Limits
from jepsen_lite.workload import Counters, Worker, keep_adding, keep_reading

WARM_UP_S = 30.0
SETTLE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run does. ``adders`` and ``readers`` are concurrent clients, ``*_pause_s`` their mean think time."""

    seed: int
    seconds: float = 60.0
    adders: int = 6
    readers: int = 4
    add_pause_s: float = 0.03
    read_pause_s: float = 0.15
    warm_up_adds: int = 50
    limits: Limits = field(default_factory=Limits)


def run(cluster: Cluster, settings: Settings, history: Path, say: Callable[[str], None] = print) -> Verdict:
    """Run the set workload on a started cluster and check its history, which is written to ``history``.

    The cluster is left running, and healed if it could be.
    """
    with Recorder(history) as recorder:
        asyncio.run(_Run(cluster, settings, recorder, say).play())
    return check(load(history), settings.limits)


class _Run:
    def __init__(self, cluster: Cluster, settings: Settings, recorder: Recorder, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._settings = settings
        self._recorder = recorder
        self._say = say
        self._counters = Counters(warm_up_adds=settings.warm_up_adds)
        self._nodes = cluster.ids
        self._concurrency = settings.adders + settings.readers + 1
        self._workers = [
            Worker(process, self._concurrency, cluster.addresses, recorder, self._counters)
            for process in range(self._concurrency)
        ]

    async def play(self) -> None:
        settings = self._settings
        self._mark("start", {"seed": settings.seed, "seconds": settings.seconds, "nodes": self._nodes})
        try:
            async with asyncio.TaskGroup() as tasks:
                self._start_clients(tasks)
                if await self._warm_up():
                    self._say(f"warm: {self._counters.ok_adds} adds acknowledged; faults begin")
                    await self._break()
                self._counters.stopping = True
            self._say(f"{self._counters.ok_adds} adds acknowledged; final reads")
            await self._read_back()
        finally:
            for worker in self._workers:
                await worker.close()
        self._mark("end", {})

    def _start_clients(self, tasks: asyncio.TaskGroup) -> None:
        settings = self._settings
        for at, worker in enumerate(self._workers[: settings.adders + settings.readers]):
            rng = random.Random(settings.seed * 1000 + at)
            if at < settings.adders:
                nodes = self._round(at)
                tasks.create_task(keep_adding(worker, nodes, self._counters, settings.add_pause_s, rng))
            else:
                nodes = self._round(at - settings.adders)
                tasks.create_task(keep_reading(worker, nodes, self._counters, settings.read_pause_s, rng))

    def _round(self, at: int) -> list[str]:
        """The nodes of the ``at``-th client of a kind: the first ones stay with one node each, the rest visit all.

        If all of them visited all, they would soon all wait for the node that is stopped, and nobody would see what
        the others do meanwhile.
        """
        return [self._nodes[at]] if at < len(self._nodes) else self._nodes

    async def _warm_up(self) -> bool:
        try:
            async with asyncio.timeout(WARM_UP_S):
                await self._counters.warm.wait()
        except TimeoutError:
            return False
        return True

    async def _break(self) -> None:
        """Carry out the plan of faults for the time asked, then heal."""
        settings, stop = self._settings, asyncio.Event()
        plan, note = nemesis.plan(settings.seed, settings.seconds), nemesis.recorded_in(self._recorder)
        faults = asyncio.create_task(nemesis.unleash(self._cluster, plan, note, stop, settings.seed))
        await asyncio.wait([faults], timeout=settings.seconds)
        stop.set()
        await faults
        try:
            await asyncio.to_thread(self._cluster.heal)
        except ClusterError as exc:
            # Judged all the same: what was acknowledged so far must be readable from the others.
            self._say(f"not healed: {exc}")

    async def _read_back(self) -> None:
        """Wait for each node to catch up, then read it. One that does not is read all the same: the reads show it."""
        reader = self._workers[-1]
        for node in self._nodes:
            deadline = asyncio.get_running_loop().time() + SETTLE_S
            while asyncio.get_running_loop().time() < deadline:
                seen = (await reader.read(node, "stale")).rev
                if seen is not None and seen >= self._counters.highest_rev:
                    break
                await asyncio.sleep(0.05)
        for node in self._nodes:
            await reader.read(node, "linearizable", final=True)
            await reader.read(node, "stale", final=True)

    def _mark(self, f: str, value: dict[str, str | int | float | list[str]]) -> None:
        self._recorder.record(Event(index=0, time=0, process="harness", type="info", f=f, value=value))
