"""The crash sweep: one scripted run, again and again, with a node that ends at another moment each time.

The script has everything that touches a disk: founding, an election, writes, a snapshot on every node, compaction, a
follower that was away and gets a snapshot, a second election. For each node, each of its disk operations (write, fsync,
rename, remove, truncate …) and each message it sends in turn gets a kill or a power cut. Every such run must converge
with all invariants, and everything acknowledged must be there. No randomness decides what is tried: the sweep of a
stride starts at its offset and takes every ``stride``-th.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from artemis.consensus.timing import Bounds
from tests.simulation.clients import SERVICES, Client
from tests.simulation.disk import Crashed
from tests.simulation.scenario import Run
from tests.simulation.settings import Settings
from tests.simulation.world import Violation

Kind = Literal["disk", "send"]

SECONDS = 3.2
RESTART_SECONDS = 0.3
TORN_BYTES = 7
"""A write that is cut leaves this much in the page cache."""


class Crash(NamedTuple):
    """``node`` ends at its operation number ``step`` of that kind (from 1), with its machine's power or without."""

    node: str
    kind: Kind
    step: int
    power: bool


@dataclass(frozen=True, slots=True)
class Range:
    stride: int
    offset: int


@dataclass(slots=True)
class Steps:
    """How many operations the script makes when nothing happens, by node."""

    disk: dict[str, int]
    sends: dict[str, int]

    def crashes(self) -> Iterator[Crash]:
        kinds: tuple[tuple[Kind, dict[str, int]], ...] = (("disk", self.disk), ("send", self.sends))
        for kind, counts in kinds:
            for node, count in counts.items():
                for step in range(1, count + 1):
                    for power in (False, True):
                        yield Crash(node, kind, step, power)


def settings() -> Settings:
    bounds = Bounds(snapshot_log_entries=6, snapshot_trailing_entries=1, snapshot_chunk_bytes=600)
    return Settings(bounds=bounds, clients=0, lease_owners=0, request_ids=1.0)


class ScriptedRun(Run):
    """Writes through every node, a follower away, a leader killed, at fixed times."""

    def __init__(self, crash: Crash | None) -> None:
        super().__init__("sweep", settings())
        self.crash = crash
        self.crashed = False
        self.sends = Counter[str]()
        cluster = self.cluster
        cluster.restart_after = lambda: RESTART_SECONDS
        cluster.network.on_send = self._sending
        if crash is not None and crash.kind == "disk":
            torn = TORN_BYTES if crash.step % 2 else None
            cluster.machines[crash.node].crash_cuts_power = crash.power
            cluster.machines[crash.node].disk.crash_at(crash.step, torn)
        after, act = self.world.after, self.actions.do
        for number in range(36):
            after(1.0 + number * 0.05, partial(self._write, number))
        after(1.6, partial(act, "kill", node="n3"))
        after(2.1, partial(act, "start", node="n3"))
        after(2.2, partial(act, "snapshot", node="n1"))
        after(2.3, partial(act, "kill", node="leader"))
        for name in cluster.members:
            after(2.6, partial(act, "start", node=name))
        cluster.on_ended.append(self._ended)

    def _write(self, number: int) -> None:
        home = self.cluster.members[number % 3]
        client = Client(f"w{number}", self.door, self.history, 1.0, home=home, budgets_ms=(2000,))
        client.stop()
        self.clients.append(client)
        client.add(SERVICES[number % 2], 1)

    def _sending(self, name: str) -> None:
        self.sends[name] += 1
        crash = self.crash
        if self.crashed or self.world.now > SECONDS:
            return
        if crash is not None and crash.kind == "send" and crash.node == name and self.sends[name] == crash.step:
            self.cluster.machines[name].crash_cuts_power = crash.power
            raise Crashed

    def _ended(self, name: str) -> None:
        """The script kills too, but by a verb of the log; a crash is none."""
        killed = self.actions.log and self.actions.log[-1].do == "kill" and self.actions.log[-1].at == self.world.now
        self.crashed = self.crashed or (self.crash is not None and name == self.crash.node and not killed)


def steps() -> Steps:
    """Raises ``AssertionError`` if the script does not meet what it is for."""
    run = ScriptedRun(None)
    run.start()
    run.world.run_for(SECONDS)
    disks = {name: machine.disk.steps for name, machine in run.cluster.machines.items()}
    sends = dict(run.sends)
    run.finish()
    watch = run.cluster.watch
    if not watch.snapshots_installed or len(watch.leaders) < 2 or not watch.highest_committed > 20:
        raise AssertionError(f"the script does not do what it is for: {run.report()}")
    return Steps(disks, sends)


class Outcome(NamedTuple):
    happened: bool
    """Nodes that end early do less: the last operations of the script may not come."""
    violation: str | None


def run_crash(crash: Crash) -> Outcome:
    run = ScriptedRun(crash)
    try:
        run.run(SECONDS)
    except Violation as violation:
        return Outcome(run.crashed, f"{crash}: {violation}")
    return Outcome(run.crashed, None)


def chosen(which: Range) -> list[Crash]:
    return list(steps().crashes())[which.offset :: which.stride]


def sweep(which: Range, jobs: int | None = None, seconds_max: float = 1e9) -> tuple[str, list[str]]:
    """(what was done, every violation). ``jobs``: processes; None: this one."""
    crashes = chosen(which)
    deadline = time.monotonic() + seconds_max
    found: list[str] = []
    done = Counter[str]()
    if jobs is None:
        outcomes = map(run_crash, crashes)
        for crash, outcome in zip(crashes, outcomes, strict=True):
            _count(done, found, crash, outcome)
    else:
        from tests.simulation.soak import quiet_worker

        with ProcessPoolExecutor(jobs, initializer=quiet_worker) as pool:
            for crash, outcome in zip(crashes, pool.map(run_crash, crashes, chunksize=8), strict=True):
                _count(done, found, crash, outcome)
                if time.monotonic() > deadline:
                    pool.shutdown(cancel_futures=True)
                    break
    counts = ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    return f"{sum(done.values())} of {len(crashes)} crashes ({counts}), {len(found)} violations", found


def _count(done: Counter[str], found: list[str], crash: Crash, outcome: Outcome) -> None:
    what = f"{'power cuts' if crash.power else 'kills'} at a {crash.kind} operation"
    done[what if outcome.happened else "that did not come about"] += 1
    if outcome.violation is not None:
        found.append(outcome.violation)


def stride_of_this_run(usual: int) -> Range:
    """``ARTEMIS_SWEEP_STRIDE`` and ``ARTEMIS_SWEEP_OFFSET`` choose which crashes a test tries."""
    stride = int(os.environ.get("ARTEMIS_SWEEP_STRIDE", usual))
    return Range(stride, int(os.environ.get("ARTEMIS_SWEEP_OFFSET", "0")) % stride)
