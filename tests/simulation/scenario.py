"""One run from start to verdict: a cluster, clients, faults for a while, then calm, convergence and the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from artemis.model import Compacted
from tests.simulation import history as histories
from tests.simulation.actions import Actions
from tests.simulation.clients import SERVICES, Client, Door
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults, Nemesis
from tests.simulation.history import History, Operation
from tests.simulation.invariants import ObservedEngine
from tests.simulation.lease_owners import SERVICE as LEASED
from tests.simulation.lease_owners import TTL_MS_MAX, LeaseOwner, LeaseReader
from tests.simulation.linearizability import contradictions, uncertified
from tests.simulation.settings import Settings
from tests.simulation.world import World

CALM_SECONDS_MAX = 90.0
"""From the end of all faults until every node has everything. The links dial again within a second and an election
takes two; a snapshot of 70 kB in the smallest pieces that are drawn, on the slowest network, takes 40."""

ENDING_SECONDS = 3.0
"""What began under faults comes to its end: a leader resigns for half a second, stops, and is away for two at most."""

POLL_SECONDS = 0.05
"""Between two looks at what is waited for."""

EXPIRY_SLACK = 1.5
"""Seconds beyond its TTL within which a dead instance must be gone (promised: one), on a cluster that is well."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did: a run in which nothing happened has shown nothing."""

    digest: str
    seconds: float
    events: int
    messages: int
    terms: int
    committed: int
    restarts: int
    snapshots_installed: int
    truncations: int
    faults: dict[str, int]
    acknowledged: int
    linearizable_reads: int
    unknown: int

    def __str__(self) -> str:
        faults = " ".join(f"{kind}={count}" for kind, count in sorted(self.faults.items()))
        return (
            f"{self.seconds:.0f} s, {self.events} events, {self.messages} messages, {self.terms} leaderships,"
            f" {self.committed} entries, {self.restarts} restarts, {self.snapshots_installed} snapshots installed,"
            f" {self.truncations} truncations; {self.acknowledged} writes acknowledged, {self.unknown} unknown,"
            f" {self.linearizable_reads} linearizable reads; {faults or 'no faults'}; trace {self.digest}"
        )


class Run:
    """``run()`` does it all; its parts are there for tests that do other things in between."""

    def __init__(
        self, seed: int | str, settings: Settings, engine_class: type[ObservedEngine] = ObservedEngine
    ) -> None:
        self.world = World(seed)
        self.settings = settings
        self.cluster = Cluster(self.world, settings, engine_class)
        self.door = Door(self.cluster)
        self.history = History()
        self.clients = [
            Client(f"c{number}", self.door, self.history, settings.think) for number in range(settings.clients)
        ]
        drift = None if "clock-rate" in settings.faults else settings.clock_drift
        self.cluster.watch.age_drift = drift
        self.owners = [LeaseOwner(f"owner{number}", self.door, drift) for number in range(settings.lease_owners)]
        self.cluster.watch.on_deleted.extend(owner.on_deleted for owner in self.owners)
        self.lease_reader = LeaseReader(self.door, self.owners, max(0.5, settings.think))
        self._goal = 0
        self.actions = Actions(self.cluster)
        self.nemesis: Faults = Nemesis(
            self.actions, self.cluster, settings.faults, settings.fault_pause, settings.fault_length
        )

    def run(self, seconds: float) -> Report:
        """Raises ``Violation``."""
        self.start()
        self.world.run_for(seconds)
        self.finish()
        return self.report()

    def start(self) -> None:
        self.cluster.start_all()
        for client in self.clients:
            client.start()
        for owner in self.owners:
            owner.start()
        if self.owners:
            self.lease_reader.start()
        self.nemesis.start()

    def finish(self) -> None:
        """Calm, convergence, and every check that needs the end."""
        self.nemesis.stop()
        self.lease_reader.stop()
        for owner in self.owners:
            owner.stop()
        for client in self.clients:
            client.stop()
        self.cluster.calm()
        self.world.run_for(ENDING_SECONDS)
        self._require(self._caught_up, "the nodes do not agree after all faults ended")
        self._require(lambda: all(client.idle for client in self.clients), "a request was never answered")
        if self.owners:
            self.world.run_for(TTL_MS_MAX / 1000 + EXPIRY_SLACK)
        for engine in self.cluster.engines():
            if engine.registry.service(LEASED) is not None:
                self._violate(f"{engine.node_id} still has instances whose owners died")
        self._read_everywhere()
        self._compare_states()
        self._applied_once()
        found = histories.check(self.history)
        found += self._unexplained() + uncertified(self.history, self.cluster.watch)
        if found:
            self._violate(histories.violations_text(found))

    def _unexplained(self) -> list[str]:
        return contradictions(self.history)

    def report(self) -> Report:
        watch = self.cluster.watch
        writes = [operation for operation in self.history.operations if operation.kind in ("add", "remove")]
        return Report(
            digest=self.world.trace.digest,
            seconds=self.world.now,
            events=self.world.events,
            messages=self.cluster.network.messages,
            terms=len(watch.leaders),
            committed=watch.highest_committed,
            restarts=sum(machine.lives - 1 for machine in self.cluster.machines.values()),
            snapshots_installed=watch.snapshots_installed,
            truncations=watch.truncations,
            faults=dict(self.nemesis.done),
            acknowledged=sum(1 for operation in writes if operation.outcome == "ok"),
            linearizable_reads=self.history.ok("read"),
            unknown=sum(1 for operation in writes if operation.outcome == "info"),
        )

    def _read_everywhere(self) -> None:
        """The last reads: every node must answer them, and with everything that was acknowledged."""
        for name in self.cluster.members:
            reader = Client(f"last reader of {name}", self.door, self.history, 1.0, budgets_ms=(10_000,), home=name)
            reader.stop()
            for service in SERVICES:
                self._must_succeed(reader, reader.read(service, "read"))

    def _write_last(self) -> None:
        """The cluster takes writes again. (Without leases the log would rest otherwise.)"""
        writer = Client("last writer", self.door, self.history, 1.0, budgets_ms=(10_000,))
        writer.stop()
        self._must_succeed(writer, writer.add(SERVICES[0], 1))

    def _must_succeed(self, client: Client, operation: Operation) -> None:
        self._require(lambda: client.idle, f"{operation} was never answered")
        if operation.outcome != "ok":
            self._violate(f"{operation} failed on a cluster without faults")

    def _caught_up(self) -> bool:
        """Everybody follows one leader and has applied what its log held when that was first seen."""
        leader = self.cluster.agreed_leader()
        if leader is None:
            self._goal = 0
            return False
        self._goal = self._goal or leader.journal.last_index
        return all(engine.core.applied_index >= self._goal for engine in self.cluster.engines())

    def _compare_states(self) -> None:
        """All nodes hold the same bytes at the same index: those that follow now, as the lease clock still moves."""
        watch = self.cluster.watch
        leader = self.cluster.agreed_leader()
        watch.record_bytes_from = leader.journal.last_index + 1 if leader is not None else 0
        states = watch.state_bytes
        self._write_last()

        def compared() -> bool:
            return any(len(by_node) == len(self.cluster.members) for by_node in states.values())

        self._require(compared, "no entry was applied by all nodes")
        watch.record_bytes_from = None
        for index, by_node in states.items():
            if len(set(by_node.values())) > 1:
                self._violate(f"the nodes' states differ in their snapshot bytes at entry {index}")

    def _applied_once(self) -> None:
        """Every element is added once and removed once at most, so no change replaces what is there."""
        engine = self.cluster.engines()[0]
        changes = engine.registry.changes_since(0)
        if isinstance(changes, Compacted):
            changes = engine.registry.changes_since(changes.oldest)
        assert not isinstance(changes, Compacted)
        twice = [c.instance.instance_id for c in changes if c.type == "change" and c.instance.service_id in SERVICES]
        if twice:
            self._violate(f"applied more than once: {', '.join(twice[:5])}")

    def _require(self, condition: Callable[[], bool], otherwise: str) -> None:
        if not self.world.run_until_true(condition, CALM_SECONDS_MAX, POLL_SECONDS):
            self._violate(f"{otherwise} (waited {CALM_SECONDS_MAX:.0f} s)")

    def _violate(self, text: str) -> None:
        self.world.violate(text)
        self.world.run_for(0.001)
