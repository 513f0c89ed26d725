"""Leases under faults: owners that stop and come back, readers that see their leases go, and a canary that tells when
nobody could renew. ``lease_report`` judges what they saw."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jepsen_lite import nemesis
from jepsen_lite.checker import Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Detail
from jepsen_lite.http1 import Lost, NotSent
from jepsen_lite.lease_report import Least, Run, Struck, judge, table
from jepsen_lite.owners import TIMEOUT_S, Habits, Leases, Owner, service_of
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
from jepsen_lite.tails import Outages

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
class Settings:
    seed: int
    plan: Sequence[nemesis.Fault]
    seconds: float | None = None
    """Of faults; None: until the plan is done."""
    owners: int = 200
    habits: Habits = field(default_factory=Habits)
    least: Least = field(default_factory=Least)


def leases(cluster: Cluster, settings: Settings) -> tuple[Result, str]:
    """Run on a started cluster: the verdict, and a table."""
    run = asyncio.run(_LeaseRun(cluster, settings).play())
    result, reasons = judge(run, settings.least)
    return result, "\n".join([*table(run), *reasons[:SHOWN_MAX]])


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
