"""Faults on real processes, of the leader and of followers: ``kill -9``, SIGSTOP, and links that are cut.

The plan is drawn from a seed before the run, so that one number repeats it; which process it hits depends on who leads
at that moment and is noted. A fault is noted after it acted, and its end before it is ended: the noted interval lies
within the real one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Detail, Event, Recorder
from jepsen_lite.proxy import SeverableCluster

Kind = Literal["kill", "pause", "cut", "mute", "deaf"]
"""``cut``: no byte between the node and any other; ``mute``: none from it; ``deaf``: none to it."""
Target = Literal["leader", "follower", "followers"]
"""``followers``: all of them, so that no majority is left."""
PROCESS_FAULTS: tuple[tuple[Kind, Target], ...] = (
    ("kill", "leader"),
    ("pause", "leader"),
    ("kill", "follower"),
    ("pause", "follower"),
)
ALL_FAULTS: tuple[tuple[Kind, Target], ...] = (
    *PROCESS_FAULTS,
    ("cut", "leader"),
    ("mute", "leader"),
    ("deaf", "leader"),
    ("cut", "follower"),
    ("mute", "follower"),
    ("pause", "followers"),
)
"""With faults of links, for a ``SeverableCluster``."""
ENDS: dict[Kind, str] = {"kill": "restart", "pause": "resume", "cut": "heal", "mute": "heal", "deaf": "heal"}
LONGEST_S = 4.0
"""Longer than several election timeouts, shorter than any lease of the set workload."""
Note = Callable[[str, str | None, Mapping[str, Detail]], None]
"""Takes what happened, to which node, and details."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: Kind
    target: Target
    lasts_s: float
    then_quiet_s: float
    """Time from the heal to the next fault."""


def plan(seed: int, seconds: float, kinds: Sequence[tuple[Kind, Target]] = PROCESS_FAULTS) -> list[Fault]:
    """Faults for a run of that length: every one of ``kinds`` comes before any is repeated, the leader's first."""
    rng = random.Random(seed)
    shortest, longest = 0.8, min(LONGEST_S, max(1.2, seconds / 6))
    faults: list[Fault] = []
    used = 0.0
    while used < seconds:
        round_of_all = list(kinds)
        rng.shuffle(round_of_all)
        round_of_all.sort(key=lambda kind: kind[1] != "leader")
        for kind, target in round_of_all:
            lasts, quiet = rng.uniform(shortest, longest), rng.uniform(0.5, 1.5)
            faults.append(Fault(kind=kind, target=target, lasts_s=lasts, then_quiet_s=quiet))
            used += lasts + quiet
    return faults


def leader_kills(seed: int, kills: int) -> list[Fault]:
    """Whoever leads is killed, that many times."""
    rng = random.Random(seed)
    return [
        Fault(kind="kill", target="leader", lasts_s=rng.uniform(0.5, 2.0), then_quiet_s=rng.uniform(0.2, 1.0))
        for _ in range(kills)
    ]


def recorded_in(recorder: Recorder) -> Note:
    def note(f: str, node: str | None, value: Mapping[str, Detail]) -> None:
        recorder.record(Event(index=0, time=0, process="nemesis", type="info", f=f, node=node, value=dict(value)))

    return note


async def unleash(cluster: Cluster, faults: list[Fault], note: Note, stop: asyncio.Event, seed: int) -> None:
    """Carry out the plan until it ends or ``stop`` is set. Waits for healed nodes to be ready before the next fault,
    because faults that pile up leave no majority and the run would only measure waiting."""
    rng = random.Random(seed)
    for fault in faults:
        if stop.is_set():
            return
        try:
            leader = await asyncio.to_thread(cluster.leader)
        except ClusterError as exc:
            note("no-leader", None, {"error": str(exc)[:300]})
            continue
        nodes = [leader]
        if fault.target != "leader":
            nodes = [other for other in cluster.running() if other != leader]
        if fault.target == "follower":
            nodes = [rng.choice(nodes)]
        await _strike(cluster, fault, nodes, note, stop)
        await _until(stop, fault.then_quiet_s)


async def _strike(cluster: Cluster, fault: Fault, nodes: list[str], note: Note, stop: asyncio.Event) -> None:
    pids = {node: cluster.nodes[node].pid for node in nodes}
    await asyncio.to_thread(_begin, cluster, fault.kind, nodes)
    role = "leader" if fault.target == "leader" else "follower"
    for node in nodes:
        note(fault.kind, node, {"role": role, "pid": pids[node], "for_s": round(fault.lasts_s, 3)})
    await _until(stop, fault.lasts_s)
    for node in nodes:
        note(ENDS[fault.kind], node, {})
    await asyncio.to_thread(_end, cluster, fault.kind, nodes)
    for node in nodes:
        try:
            if fault.kind == "pause":
                # It serves at once. Readiness comes seconds later, for a node that stood still is watched for a while.
                await asyncio.to_thread(cluster.leader)
            else:
                await asyncio.to_thread(cluster.wait_ready, [node])
            note("ready", node, {"pid": cluster.nodes[node].pid})
        except ClusterError as exc:
            note("not-ready", node, {"error": str(exc)[-300:]})


def _begin(cluster: Cluster, kind: Kind, nodes: list[str]) -> None:
    match kind:
        case "kill":
            cluster.kill(*nodes)
        case "pause":
            for node in nodes:
                cluster.pause(node)
        case "cut" | "mute" | "deaf":
            if not isinstance(cluster, SeverableCluster):
                raise ClusterError(f"{kind}: the links of this cluster cannot be cut")
            for node in nodes:
                for other in cluster.ids:
                    if other != node and kind != "deaf":
                        cluster.links.cut(node, other)
                    if other != node and kind != "mute":
                        cluster.links.cut(other, node)


def _end(cluster: Cluster, kind: Kind, nodes: list[str]) -> None:
    match kind:
        case "kill":
            for node in nodes:
                cluster.restart(node)
        case "pause":
            for node in nodes:
                cluster.resume(node)
        case "cut" | "mute" | "deaf":
            assert isinstance(cluster, SeverableCluster)
            cluster.links.heal()


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Wait for the stop signal, at most ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
