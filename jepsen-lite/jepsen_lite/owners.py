"""Owners of short leases, on real nodes: each renews for a while, falls silent, and comes back in time or too late.

What an owner knows is what it saw itself. A lease is safe from the *call* of its last acknowledged renewal on, and its
TTL has run out at the latest one TTL after the last moment at which a renewal *may* have taken effect: the answer of an
acknowledged one, the end of the time budget of one whose answer was lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jepsen_lite.http1 import Answer, Lost, NotSent
from jepsen_lite.pool import Pool
from jepsen_lite.registry import (
    HEARTBEAT,
    REGISTER,
    Evidence,
    evidence_of,
    instance,
    instances_body,
    number,
    outcome_of,
)

SERVICE_OWNERS = 5
"""Owners of one service. With 40 of them the lives that end within ten seconds would bring the service under protection
against mass eviction, and the rest would rightly not end (``artemis.protection``)."""
BUDGET_MS = 600
TIMEOUT_S = 0.8
"""Of one attempt: above the budget, so that a refusal is heard, and short enough for two attempts within any TTL."""
RETRY_S = 0.05


def service_of(owner: int) -> str:
    return f"leased-{owner // SERVICE_OWNERS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How owners behave."""

    ttls_ms: tuple[int, ...] = (2000, 3000, 5000)
    """Each life draws one."""
    beats_per_ttl: float = 4.0
    steadfast: bool = False
    """They never fall silent, so that no lease may end at all until the run does."""


@dataclass(slots=True)
class Lease:
    """One life of one owner. Times are seconds of the harness's clock."""

    name: str
    ttl_s: float
    registered_at: float
    """When the registration was known to be acknowledged."""
    acknowledged_at: float
    """When the last acknowledged renewal was called; the registration is the first."""
    renewed_by: float
    """When the last renewal had taken effect at the latest."""
    leaderships: list[int]
    """How many leaderships were known at the last renewal, and at the end."""
    seen_at: float = float("-inf")
    """When the last read that showed it was called."""
    gone_at: float | None = None
    """When the first answer that shows it gone was complete."""
    faults: list[str] = field(default_factory=list)
    renewing: bool = True
    missed_while_renewing: bool = False

    def seen(self, called_at: float) -> None:
        if self.gone_at is not None and called_at > self.gone_at:
            self.faults.append(f"seen again {called_at - self.gone_at:.3f} s after it was gone")
        self.seen_at = max(self.seen_at, called_at)

    def gone(self, returned_at: float, leaderships: int) -> None:
        if self.gone_at is None:
            self.gone_at = returned_at
            self.leaderships.append(leaderships)
            self.missed_while_renewing = self.renewing


class Leases:
    """All leases of a run, and what its clients have learned of the cluster."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.by_name: dict[str, Lease] = {}
        """Every lease whose registration was acknowledged."""
        self.renewals = 0
        self.terms: set[int] = set()
        self.pauses: list[tuple[str, float, float]] = []
        """(node, from, to) of each SIGSTOP, to the moment at which the node was ready again."""
        self.stopping = asyncio.Event()

    def heard(self, answer: Answer) -> None:
        term = number(answer, "x-artemis-term")
        if term is not None and answer.headers.get("x-artemis-known-leader") == "true":
            self.terms.add(term)

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def may_act_until(self, node: str, called_at: float, returned_at: float) -> float:
        """The latest time at which a request of unknown outcome takes effect, outages not counted.

        A stopped node finds the request when it goes on, though its client is long gone, and its budget begins then.
        """
        latest = max(returned_at, called_at + BUDGET_MS / 1000)
        for stopped, since, until in self.pauses:
            if stopped == node and since <= latest and until >= called_at:
                latest = max(latest, until + BUDGET_MS / 1000)
        return latest


class Owner:
    """One client with at most one lease. ``run`` ends, with no request open, soon after ``Leases.stopping`` is set."""

    def __init__(
        self, at: int, pool: Pool, nodes: Sequence[str], leases: Leases, habits: Habits, rng: random.Random
    ) -> None:
        self.name = f"i{at}"
        self._service = service_of(at)
        self._pool = pool
        self._nodes = nodes
        self._leases = leases
        self._habits = habits
        self._rng = rng
        self._life = 0
        self._unknown: list[tuple[Lease, str, float, float]] = []

    async def run(self) -> None:
        await self._leases.pause(self._rng.random() * 2)
        while not self._leases.stopping.is_set():
            lease = await self._register()
            while lease is not None and lease.gone_at is None:
                ttls = float("inf") if self._habits.steadfast else self._rng.uniform(0.5, 3.0)
                await self._renew_for(lease, ttls * lease.ttl_s)
                lease.renewing = False
                # Back in time, or too late: the next attempt tells.
                silence = self._rng.choice((self._rng.uniform(0.3, 0.8), self._rng.uniform(1.0, 1.8)))
                await self._leases.pause(silence * lease.ttl_s)
                if self._leases.stopping.is_set():
                    return

    def settle(self) -> None:
        """Judge renewals of unknown outcome, now that every pause of a node is known."""
        for lease, node, called_at, returned_at in self._unknown:
            lease.renewed_by = max(lease.renewed_by, self._leases.may_act_until(node, called_at, returned_at))

    async def _register(self) -> Lease | None:
        self._life += 1
        name, ttl_ms = f"{self.name}-{self._life}", self._rng.choice(self._habits.ttls_ms)
        body = instances_body([instance(self._service, name, ttl_ms=ttl_ms)])
        # All copies are one request: the lease may have begun with the first of them.
        headers = {"x-artemis-request-id": f"lease-{name}"}
        first_called_at = self._leases.clock()
        while not self._leases.stopping.is_set():
            for node in self._rng.sample(self._nodes, len(self._nodes)):
                evidence, _, returned_at = await self._attempt(node, REGISTER, body, headers)
                if outcome_of(evidence) == "ok":
                    lease = Lease(
                        name,
                        ttl_ms / 1000,
                        registered_at=returned_at,
                        acknowledged_at=first_called_at,
                        renewed_by=returned_at,
                        leaderships=[len(self._leases.terms)],
                    )
                    self._leases.by_name[name] = lease
                    return lease
            await self._leases.pause(RETRY_S)
        return None

    async def _renew_for(self, lease: Lease, seconds: float) -> None:
        clock = self._leases.clock
        end = clock() + seconds
        while clock() < end and lease.gone_at is None and not self._leases.stopping.is_set():
            renewed = await self._renew(lease)
            await self._leases.pause(lease.ttl_s / self._habits.beats_per_ttl if renewed else RETRY_S)

    async def _renew(self, lease: Lease) -> bool:
        """Try every node once. False if none acknowledged it."""
        body = instances_body([instance(self._service, lease.name)])
        for node in self._rng.sample(self._nodes, len(self._nodes)):
            evidence, called_at, returned_at = await self._attempt(node, HEARTBEAT, body, {})
            outcome = outcome_of(evidence)
            if evidence.failed:
                lease.gone(returned_at, len(self._leases.terms))
                return False
            if outcome == "ok":
                if lease.gone_at is not None and called_at > lease.gone_at:
                    lease.faults.append("renewed after it was gone")
                lease.acknowledged_at = max(lease.acknowledged_at, called_at)
                lease.renewed_by = max(lease.renewed_by, returned_at)
                lease.leaderships[0] = len(self._leases.terms)
                lease.renewing = True
                self._leases.renewals += 1
                return True
            if outcome == "info":
                self._unknown.append((lease, node, called_at, returned_at))
        return False

    async def _attempt(
        self, node: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[Evidence, float, float]:
        """What the attempt proves, when it was called and when it was over."""
        called_at = self._leases.clock()
        try:
            answer = await self._pool.request(
                node, "POST", path, body, {"x-artemis-timeout-ms": str(BUDGET_MS), **headers}
            )
        except NotSent:
            return Evidence(sent=False), called_at, self._leases.clock()
        except Lost:
            return Evidence(sent=True), called_at, self._leases.clock()
        self._leases.heard(answer)
        return evidence_of(answer), called_at, self._leases.clock()
