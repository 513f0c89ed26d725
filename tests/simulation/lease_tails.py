"""How early and how late leases end, in the world's time, while leaders come and go.

Both tails are measured from outside. Early: since the last acknowledged renewal was called. Late: since a node first
applied a renewal, less the time in which nobody could renew; that is what a canary, which renews through every node
ten times a second, has seen of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from artemis.commands import Command, Renew
from artemis.outcomes import Registered, Renewed
from jepsen_lite.tails import Ended, Outages
from tests.simulation.clients import FOREVER_MS, Answer, Door, key, register
from tests.simulation.cluster import Cluster, Machine
from tests.simulation.invariants import ObservedEngine

SERVICE = "tails"
CANARY = "canary"
CANARY_SECONDS = 0.1

BUDGET_MS = 500


@dataclass(slots=True)
class Lease:
    name: str
    ttl_ms: int
    acknowledged_at: float = float("-inf")
    """When the last renewal that was acknowledged was called; the registration is the first."""
    renewed_at: float = float("-inf")
    """When the first node applied the last renewal, acknowledged or not."""
    deadline_ms: int = 0
    ended_at: float | None = None
    leaders: list[int] = field(default_factory=list)
    """How many leaderships there had been at its last renewal and at its end."""


class LeaseTails:
    """Watches the leases of one cluster. Make it before the cluster starts."""

    def __init__(self, cluster: Cluster) -> None:
        self.leases: dict[str, Lease] = {}
        self._cluster = cluster
        self._world = cluster.world
        self._door = Door(cluster)
        self._rng = cluster.world.stream("lease tails")
        self._seen_index = 0
        self.outages = Outages(0.0)
        cluster.on_booted.append(self._watch)

    # holders of leases

    def hold(self, name: str, ttl_ms: int, renewals: int) -> None:
        """Register ``name``, renew it that often, then fall silent."""
        lease = self.leases[name] = Lease(name, ttl_ms)
        self._attempt(lease, register(SERVICE, (name,), ttl_ms), renewals)

    def _attempt(self, lease: Lease, command: Command, renewals: int) -> None:
        called_at = self._world.now

        def answered(value: Answer) -> None:
            if isinstance(value, Renewed) and value.missing_keys:
                return  # it ended; whether it might is judged by its tails
            if not isinstance(value, Registered | Renewed):
                self._world.after(0.05, partial(self._attempt, lease, command, renewals))
                return
            lease.acknowledged_at = max(lease.acknowledged_at, called_at)
            if renewals:
                renew = Renew(keys=(key(SERVICE, lease.name),))
                self._world.after(lease.ttl_ms / 4000, partial(self._attempt, lease, renew, renewals - 1))

        self._ask(self._rng.choice(self._cluster.members), command, answered)

    def _ask(self, node: str, command: Command, answered: Callable[[Answer], None]) -> None:
        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            engine.propose(command, None, BUDGET_MS, answer)

        self._door.ask(node, request, BUDGET_MS / 1000 + 0.1, answered)

    # outages

    def start_canary(self) -> None:
        """On a cluster that is well. From now on time without acknowledged renewals is known."""
        registered: list[Answer] = []
        self._ask(self._cluster.members[0], register(SERVICE, (CANARY,), FOREVER_MS), registered.append)
        assert self._world.run_until_true(lambda: bool(registered), within=1)
        assert isinstance(registered[0], Registered)
        self.outages = Outages(self._world.now)
        self._sing()

    def _sing(self) -> None:
        for node in self._cluster.members:
            self._ask(node, Renew(keys=(key(SERVICE, CANARY),)), self._heard)
        self._world.after(CANARY_SECONDS, self._sing)

    def _heard(self, value: Answer) -> None:
        if isinstance(value, Renewed) and not value.missing_keys:
            self.outages.heard(self._world.now)

    # what the nodes apply

    def _watch(self, machine: Machine) -> None:
        engine = machine.engine
        assert engine is not None
        engine.on_applied(lambda index: self._applied(engine, index))

    def _applied(self, engine: ObservedEngine, index: int) -> None:
        if index <= self._seen_index:
            return
        self._seen_index = index
        leaderships = len(self._cluster.watch.leaders)
        for lease in self.leases.values():
            if lease.ended_at is not None:
                continue
            record = engine.registry.find(key(SERVICE, lease.name))
            deadline_ms = None if record is None else engine.registry.lease_deadline_ms(record.lease_id)
            if deadline_ms is None:
                if lease.deadline_ms:
                    lease.ended_at = self._world.now
                    lease.leaders.append(leaderships)
            elif deadline_ms > lease.deadline_ms:
                lease.deadline_ms = deadline_ms
                lease.renewed_at = self._world.now
                lease.leaders = [leaderships]

    # the result

    def ended(self) -> list[Ended]:
        return [self._tails(lease) for lease in self.leases.values() if lease.ended_at is not None]

    def _tails(self, lease: Lease) -> Ended:
        ended_at, ttl = lease.ended_at, lease.ttl_ms / 1000
        assert ended_at is not None
        outage = self.outages.between(lease.renewed_at, ended_at)
        return Ended(
            early=ended_at - lease.acknowledged_at - ttl,
            late=ended_at - lease.renewed_at - ttl - outage,
            outage=outage,
            leader_changes=lease.leaders[1] - lease.leaders[0],
        )
