"""Leases under faults: owners that stop and come back, readers that see them go, and the two tails of what they saw.

A lease is gone early if an answer shows it gone before its TTL has passed since its last acknowledged renewal was
called (P4), and late if a read shows it more than ``LATE_S`` after its TTL has run out, the time in which the canary
could not renew left out (P5). Both are certain: what was not observed counts for the cluster.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jepsen_lite import nemesis
from jepsen_lite.checker import Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Detail
from jepsen_lite.http1 import Lost, NotSent
from jepsen_lite.owners import TIMEOUT_S, Habits, Lease, Leases, Owner, service_of
from jepsen_lite.pool import Pool
from jepsen_lite.registry import (
    HEARTBEAT,
    LOOKUP,
    REGISTER,
    evidence_of,
    ids_looked_up,
    instance,
    instances_body,
    lookup_body,
    outcome_of,
    read_headers,
)
from jepsen_lite.tails import Ended, Outages

LATE_S = 1.0
"""P5. Beyond the TTL and the outages."""
CANARY_S = 0.1
READ_S = 0.06
WARM_UP_S = 10.0
"""How long all owners may take to register before the faults begin."""
DRAIN_S = 30.0
"""How long all leases may take to end when their owners are silent and all nodes are well."""
CANARY = "canary"
BALLAST = "ballast"
BALLAST_PER_OWNER = 20
"""Instances that never end, so that the ends of all others together are no mass eviction, from which the registry
protects itself (``artemis.protection``)."""
REGISTERED_AT_ONCE = 500
DAY_MS = 24 * 3600 * 1000
SHOWN_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What a run must show at least to count as a proof."""

    ended: int = 50
    """Leases that were seen to end."""
    leaderships: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    seed: int
    plan: Sequence[nemesis.Fault]
    seconds: float | None = None
    """Of faults; None: until the plan is done."""
    owners: int = 200
    habits: Habits = field(default_factory=Habits)
    least: Least = field(default_factory=lambda: Least())


@dataclass(slots=True)
class Struck:
    """A fault as it was noted."""

    kind: str
    node: str
    role: str
    since: float
    until: float | None = None
    """When its node was ready again."""


@dataclass(slots=True)
class Run:
    """What a run leaves behind, to be judged."""

    leases: list[Lease]
    outages: Outages
    leaderships: int
    renewals: int
    seconds: float
    steadfast: bool = False
    """No owner fell silent before the end."""
    struck: list[Struck] = field(default_factory=list)
    not_healed: str = ""
    """Why the nodes did not all come back after the faults."""


def leases(cluster: Cluster, settings: Settings) -> tuple[Result, str]:
    """Run on a started cluster: the verdict, and a table."""
    run = asyncio.run(_LeaseRun(cluster, settings).play())
    result, reasons = judge(run, settings.least)
    return result, "\n".join([*table(run), *reasons[:SHOWN_MAX]])


def judge(run: Run, least: Least) -> tuple[Result, list[str]]:
    """Sentences that say what is wrong, or why nothing is proved."""
    wrong: list[str] = [f"not healed: {run.not_healed}"] if run.not_healed else []
    for lease in run.leases:
        wrong += [f"{lease.name}: {fault}" for fault in lease.faults]
        if lease.gone_at is None:
            wrong.append(f"{lease.name}, TTL {lease.ttl_s:g} s, never ended; last renewed by {lease.renewed_by:.3f} s")
        elif (early := tails(run, lease).early) < 0:
            wrong.append(
                f"{lease.name}, TTL {lease.ttl_s:g} s, was gone {-early:.3f} s early: at {lease.gone_at:.3f} s,"
                f" its last acknowledged renewal was called at {lease.acknowledged_at:.3f} s"
            )
        if run.steadfast and lease.missed_while_renewing:
            wrong.append(f"{lease.name} was gone at {lease.gone_at:.3f} s, though its owner never stopped renewing it")
        if (late := certainly_late(run, lease)) > LATE_S:
            wrong.append(
                f"{lease.name}, TTL {lease.ttl_s:g} s, was seen {late:.3f} s late: at {lease.seen_at:.3f} s, its last"
                f" renewal had taken effect by {lease.renewed_by:.3f} s"
            )
    if wrong:
        return "invalid", wrong
    ended = sum(lease.gone_at is not None for lease in run.leases)
    thin: list[str] = []
    if ended < least.ended:
        thin.append(f"{ended} leases ended, {least.ended} needed")
    if run.leaderships < least.leaderships:
        thin.append(f"{run.leaderships} leaderships seen, {least.leaderships} needed")
    return ("inconclusive" if thin else "valid"), thin


def tails(run: Run, lease: Lease) -> Ended:
    """As it was observed: the end by the first answer without it, so ``late`` includes the time to the next read."""
    assert lease.gone_at is not None
    outage = run.outages.between(lease.renewed_by, lease.gone_at)
    return Ended(
        early=lease.gone_at - lease.acknowledged_at - lease.ttl_s,
        late=lease.gone_at - lease.renewed_by - lease.ttl_s - outage,
        outage=outage,
        leader_changes=lease.leaderships[1] - lease.leaderships[0],
    )


def certainly_late(run: Run, lease: Lease) -> float:
    """Seconds beyond TTL and outages at which the lease was still there, by the call of the last read that shows it."""
    return lease.seen_at - lease.renewed_by - lease.ttl_s - run.outages.between(lease.renewed_by, lease.seen_at)


def table(run: Run) -> list[str]:
    lines = ["fault   node  role        from      until ready"]
    for fault in run.struck:
        until = "never" if fault.until is None else f"{fault.until:7.2f} s"
        lines.append(f"{fault.kind:<7} {fault.node:<5} {fault.role:<9} {fault.since:7.2f} s  {until}")
    lines += [
        "",
        f"{'leases':<34} {len(run.leases):>8}",
        f"{'acknowledged renewals':<34} {run.renewals:>8}",
        f"{'leaderships seen':<34} {run.leaderships:>8}",
        f"{'ended while their owner tried':<34} {sum(lease.missed_while_renewing for lease in run.leases):>8}",
        f"{'no renewal acknowledged for':<34} {run.outages.between(0, run.seconds):>7.2f} s of {run.seconds:.0f} s",
        "",
        "TTL     ended  over a new leader  early: least    p50   late: p50    p99   most  certainly",
    ]
    for ttl_s in sorted({lease.ttl_s for lease in run.leases}):
        ended = [lease for lease in run.leases if lease.gone_at is not None and lease.ttl_s == ttl_s]
        lines.append(_row(run, ended, ttl_s))
    return lines


def _row(run: Run, leases: list[Lease], ttl_s: float) -> str:
    if len(leases) < 2:
        return f"{ttl_s:3.0f} s  {len(leases):>6}"
    ended = [tails(run, lease) for lease in leases]
    early, late = sorted(e.early for e in ended), sorted(e.late for e in ended)
    p99 = statistics.quantiles(late, n=100, method="inclusive")[98]
    certainly = max(certainly_late(run, lease) for lease in leases)
    return (
        f"{ttl_s:3.0f} s  {len(ended):>6}  {sum(e.leader_changes > 0 for e in ended):>17}"
        f"  {early[0]:>10.3f} s {statistics.median(early):>6.3f} {statistics.median(late):>9.3f} {p99:>8.3f}"
        f" {late[-1]:>6.3f} {certainly:>9.3f} s"
    )


class _LeaseRun:
    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._nodes = cluster.ids
        started = time.monotonic()
        self._clock: Callable[[], float] = lambda: time.monotonic() - started
        self._leases = Leases(self._clock)
        self._pool = Pool(cluster.addresses, TIMEOUT_S)
        self._outages = Outages(0.0)
        self._struck: list[Struck] = []
        self._not_healed = ""

    async def play(self) -> Run:
        settings = self._settings
        rng = random.Random(settings.seed)
        owners = [
            Owner(at, self._pool, self._nodes, self._leases, settings.habits, random.Random(rng.random()))
            for at in range(settings.owners)
        ]
        await self._register_others()
        watching = [asyncio.create_task(each(node)) for node in self._nodes for each in (self._beat, self._read)]
        try:
            async with asyncio.TaskGroup() as tasks:
                for owner in owners:
                    tasks.create_task(owner.run())
                await self._until(lambda: len(self._leases.by_name) >= len(owners), WARM_UP_S, watching)
                await self._break()
                self._leases.stopping.set()
            # What is left when the time is up is judged as never ended.
            await self._until(self._all_gone, DRAIN_S, watching)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self._pool.aclose()
        for owner in owners:
            owner.settle()
        return Run(
            leases=list(self._leases.by_name.values()),
            outages=self._outages,
            leaderships=len(self._leases.terms),
            renewals=self._leases.renewals,
            seconds=self._clock(),
            steadfast=settings.habits.steadfast,
            struck=self._struck,
            not_healed=self._not_healed,
        )

    async def _break(self) -> None:
        settings, stop = self._settings, asyncio.Event()
        plan = list(settings.plan)
        faults = asyncio.create_task(nemesis.unleash(self._cluster, plan, self._note, stop, settings.seed))
        await asyncio.wait([faults], timeout=settings.seconds)
        stop.set()
        await faults
        try:
            await asyncio.to_thread(self._cluster.heal)
        except ClusterError as exc:
            self._not_healed = str(exc)

    def _note(self, f: str, node: str | None, value: Mapping[str, Detail]) -> None:
        if node is None:
            return
        if f in nemesis.ENDS:
            self._struck.append(Struck(f, node, str(value["role"]), self._clock()))
        elif f == "ready":
            fault = next(fault for fault in reversed(self._struck) if fault.node == node)
            fault.until = self._clock()
            if fault.kind == "pause":
                self._leases.pauses.append((node, fault.since, fault.until))

    def _all_gone(self) -> bool:
        return all(lease.gone_at is not None for lease in self._leases.by_name.values())

    async def _until(
        self, condition: Callable[[], bool], seconds: float, watching: Sequence[asyncio.Task[None]]
    ) -> None:
        """Wait for a condition, so long at most. Raises what a task that should never end has raised."""
        deadline = self._clock() + seconds
        while not condition() and self._clock() < deadline:
            for task in watching:
                if task.done():
                    task.result()
            await asyncio.sleep(READ_S)

    async def _register_others(self) -> None:
        names = [(BALLAST, f"b{at}") for at in range(self._settings.owners * BALLAST_PER_OWNER)] + [(CANARY, CANARY)]
        for start in range(0, len(names), REGISTERED_AT_ONCE):
            items = [instance(*name, ttl_ms=DAY_MS) for name in names[start : start + REGISTERED_AT_ONCE]]
            answer = await self._pool.request(self._nodes[0], "POST", REGISTER, instances_body(items))
            if outcome_of(evidence_of(answer)) != "ok":
                raise ClusterError(f"a healthy cluster refused a registration: {answer.body[:300]!r}")
        self._outages.heard(self._clock())

    async def _beat(self, node: str) -> None:
        body = instances_body([instance(CANARY, CANARY)])
        while True:
            try:
                answer = await self._pool.request(node, "POST", HEARTBEAT, body)
            except (NotSent, Lost):
                pass  # the other nodes' beats tell whether anybody could renew
            else:
                if outcome_of(evidence_of(answer)) == "ok":
                    self._outages.heard(self._clock())
            await asyncio.sleep(CANARY_S)

    async def _read(self, node: str) -> None:
        services = {service_of(at) for at in range(self._settings.owners)}
        body, headers = lookup_body(sorted(services)), read_headers("linearizable")
        while True:
            called_at = self._clock()
            try:
                answer = await self._pool.request(node, "POST", LOOKUP, body, headers)
            except (NotSent, Lost):
                answer = None
            names = None if answer is None else ids_looked_up(answer)
            if answer is not None and names is not None:
                self._leases.heard(answer)
                self._observe(frozenset(names), called_at, self._clock())
            await asyncio.sleep(READ_S)

    def _observe(self, names: frozenset[str], called_at: float, returned_at: float) -> None:
        """A linearizable read between these times saw these."""
        leaderships = len(self._leases.terms)
        for name, lease in self._leases.by_name.items():
            if name in names:
                lease.seen(called_at)
            elif lease.gone_at is None and lease.registered_at <= called_at:
                lease.gone(returned_at, leaderships)
