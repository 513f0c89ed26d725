"""Faults on real processes: ``kill -9`` and SIGSTOP of the leader and of followers, one node at a time.

The plan is drawn from a seed before the run, so that one number repeats it; which process it hits depends on who leads
at that moment and is recorded. A fault's event is recorded after it acted, the event that ends it before it acts: the
recorded interval lies within the real one.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Literal

from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Event, Recorder

Kind = Literal["kill", "pause"]
Target = Literal["leader", "follower"]
LONGEST_S = 4.0
"""Longer than several election timeouts, shorter than any lease of the workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: Kind
    target: Target
    lasts_s: float
    then_quiet_s: float
    """Time from the heal to the next fault."""


def plan(seed: int, seconds: float) -> list[Fault]:
    """Faults for a run of that length: every kind on every target comes before any is repeated, the leader first."""
    rng = random.Random(seed)
    shortest, longest = 0.8, min(LONGEST_S, max(1.2, seconds / 6))
    faults: list[Fault] = []
    used = 0.0
    while used < seconds:
        kinds: list[tuple[Kind, Target]] = [
            ("kill", "leader"),
            ("pause", "leader"),
            ("kill", "follower"),
            ("pause", "follower"),
        ]
        rng.shuffle(kinds)
        kinds.sort(key=lambda kind: kind[1] == "follower")
        for kind, target in kinds:
            lasts, quiet = rng.uniform(shortest, longest), rng.uniform(0.5, 1.5)
            faults.append(Fault(kind=kind, target=target, lasts_s=lasts, then_quiet_s=quiet))
            used += lasts + quiet
    return faults


async def unleash(cluster: Cluster, faults: list[Fault], recorder: Recorder, stop: asyncio.Event, seed: int) -> None:
    """Carry out the plan until it ends or ``stop`` is set. Waits for a healed node to be ready before the next fault,
    because two nodes down at once leave no majority and the run would only measure waiting."""
    rng = random.Random(seed)
    for fault in faults:
        if stop.is_set():
            return
        try:
            leader = await asyncio.to_thread(cluster.leader)
        except ClusterError as exc:
            _record(recorder, "no-leader", None, {"error": str(exc)[:300]})
            continue
        node = leader
        if fault.target == "follower":
            node = rng.choice([other for other in cluster.running() if other != leader])
        await _strike(cluster, fault, node, recorder, stop)
        await _until(stop, fault.then_quiet_s)


async def _strike(cluster: Cluster, fault: Fault, node: str, recorder: Recorder, stop: asyncio.Event) -> None:
    pid = cluster.nodes[node].pid
    if fault.kind == "kill":
        await asyncio.to_thread(cluster.kill, node)
    else:
        await asyncio.to_thread(cluster.pause, node)
    _record(recorder, fault.kind, node, {"role": fault.target, "pid": pid, "for_s": round(fault.lasts_s, 3)})
    await _until(stop, fault.lasts_s)
    if fault.kind == "kill":
        _record(recorder, "restart", node, {})
        cluster.restart(node)
    else:
        _record(recorder, "resume", node, {})
        cluster.resume(node)
    try:
        await asyncio.to_thread(cluster.wait_ready, [node])
        _record(recorder, "ready", node, {"pid": cluster.nodes[node].pid})
    except ClusterError as exc:
        _record(recorder, "not-ready", node, {"error": str(exc)[-300:]})


def _record(recorder: Recorder, f: str, node: str | None, value: dict[str, str | int | float | list[str]]) -> None:
    recorder.record(Event(index=0, time=0, process="nemesis", type="info", f=f, node=node, value=value))


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait for the stop signal, at most ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
