"""A run of ``scenario`` whose clients come over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from artemis.api.settings import HttpSettings
from tests.simulation.clients import FOREVER_MS, SERVICES
from tests.simulation.history import Operation, violations_text
from tests.simulation.http import Frontends
from tests.simulation.http_clients import Caller, Heartbeat, HttpClient, HttpLeaseOwner, Shared, TroubleRates
from tests.simulation.http_delta import DeltaReader
from tests.simulation.http_watch import HttpWatch
from tests.simulation.http_watcher import Watcher
from tests.simulation.invariants import ObservedEngine
from tests.simulation.lease_owners import LeaseReader
from tests.simulation.scenario import Report, Run
from tests.simulation.settings import Settings, log_uniform, swarm, with_leases
from tests.simulation.world import World

REPEATED_AT_THE_END = 100


@dataclass(kw_only=True)
class HttpWays:
    """How requests travel in one run."""

    latency_max: float = 0.002
    rates: TroubleRates = field(default_factory=TroubleRates)


class HttpRun(Run):
    def __init__(
        self,
        seed: int | str,
        settings: Settings,
        ways: HttpWays | None = None,
        engine_class: type[ObservedEngine] = ObservedEngine,
    ) -> None:
        ways = ways or HttpWays()
        super().__init__(seed, replace(settings, clients=0, lease_owners=0), engine_class)
        self.settings = settings
        self.rates = ways.rates
        self.frontends = Frontends(self.cluster, HttpSettings(default_ttl_ms=FOREVER_MS), ways.latency_max)
        self.http = HttpWatch(self.frontends, settings)
        self.shared = Shared()
        self.undecided = 0
        """Services whose history no search could decide."""
        self.clients.extend(self.client(f"c{number}") for number in range(settings.clients))
        drift = None if "clock-rate" in settings.faults else settings.clock_drift
        self.owners.extend(
            HttpLeaseOwner(f"owner{number}", self.door, drift, self._caller(f"owner{number}"))
            for number in range(settings.lease_owners)
        )
        self.cluster.watch.on_deleted.extend(owner.on_deleted for owner in self.owners)
        self.delta_reader = DeltaReader(
            "delta reader", self.world, self.cluster.members, self._caller("delta reader"), self.history
        )
        self.watchers = [
            Watcher(name, services, self.world, self.cluster.members, self._caller(name), self.history)
            for name, services in (("watcher of all", SERVICES), ("watcher of one", SERVICES[:1]))
        ]
        self.lease_reader = LeaseReader(self.door, self.owners, max(0.5, settings.think))

    def client(self, name: str, home: str | None = None) -> HttpClient:
        return HttpClient(
            name,
            self.door,
            self.history,
            self.settings.think,
            caller=self._caller(name),
            watch=self.http,
            shared=self.shared,
            home=home,
        )

    def run(self, seconds: float) -> Report:
        try:
            return super().run(seconds)
        finally:
            self.frontends.close()

    def start(self) -> None:
        super().start()
        if self.clients:
            self.delta_reader.start()
            for watcher in self.watchers:
                watcher.start()

    def finish(self) -> None:
        """Also: every request was answered, and repeating them all changes nothing."""
        self._check_heartbeats()
        self.nemesis.stop()
        self.delta_reader.stop()
        for watcher in self.watchers:
            watcher.stop()
        for client in self.clients:
            client.stop()
        self.cluster.calm()
        self._require(lambda: all(client.idle for client in self.clients), "a request was never answered")
        self._require(lambda: self.delta_reader.idle, "a request for changes was never answered")
        self._require(lambda: all(watcher.idle for watcher in self.watchers), "a watch was never answered")
        self._require(self._caught_up, "the nodes do not agree after all faults ended")
        self._repeat()
        super().finish()
        self.world.run_for(self.http.allowed(3000))
        stuck = self.http.open_requests()
        if stuck:
            self._violate(f"requests are never answered: {', '.join(stuck[:5])}")

    def _unexplained(self) -> list[str]:
        """With every third answer lost a search may end undecided; the committed log decides such a history too."""
        found = super()._unexplained()
        decided = [text for text in found if ": undecided after" not in text]
        self.undecided = len(found) - len(decided)
        return decided

    def _caller(self, name: str) -> Caller:
        return Caller(self.frontends, self.world.stream(f"caller/{name}"), self.rates)

    def _repeat(self) -> None:
        repeater = self.client("repeater")
        repeater.stop()
        for operation, request in self.shared.repeatable[-REPEATED_AT_THE_END:]:
            repeater.repeat(operation, request)
            self._require(lambda: repeater.idle, f"{operation}: repeated, it is never answered")

    def _check_heartbeats(self) -> None:
        found = list(contradictions(self.shared.heartbeats, self.history.operations))
        if found:
            self._violate(violations_text(found))


def contradictions(heartbeats: list[Heartbeat], operations: list[Operation]) -> Iterator[str]:
    """Heartbeats that found what was gone, or did not find what was there."""
    added: dict[str, Operation] = {}
    removed: dict[str, Operation] = {}
    for operation in operations:
        if operation.kind in ("add", "remove") and operation.outcome != "fail":
            by_element = added if operation.kind == "add" else removed
            by_element.update(dict.fromkeys(operation.elements, operation))
    for heartbeat in heartbeats:
        for element in heartbeat.present:
            add, remove = added.get(element), removed.get(element)
            if add is None or add.called_at > heartbeat.returned_at:
                yield f"{heartbeat} renews {element}, which nobody added by then"
            elif remove is not None and remove.outcome == "ok" and remove.returned_at < heartbeat.called_at:
                yield f"{heartbeat} renews {element} after {remove}"
        for element in heartbeat.absent:
            add, remove = added.get(element), removed.get(element)
            there = add is not None and add.outcome == "ok" and add.returned_at < heartbeat.called_at
            if there and (remove is None or remove.called_at > heartbeat.returned_at):
                yield f"{heartbeat} does not find {element}, acknowledged by {add}"


def drawn(seed: int, engine_class: type[ObservedEngine] = ObservedEngine) -> HttpRun:
    """The run that a seed stands for."""
    rng = World(seed).stream("http")
    ways = HttpWays(latency_max=log_uniform(rng, 0.0002, 0.03))
    # Requests, heartbeats and watchers need more to happen than what goes on beneath them.
    busy = with_leases(swarm(World(seed).stream("swarm"), lulls=False))
    busy = replace(busy, clients=busy.clients + 3, think=min(busy.think, 0.25))
    return HttpRun(seed, busy, ways, engine_class)
