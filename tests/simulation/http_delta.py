"""A consumer of changes: it keeps a copy of the registry by deltas, asking another node each time.

Each delta makes a state, which enters the history as what a read of that revision saw: a change that is missing, comes
twice or belongs to another revision then contradicts the other reads and the committed log.
"""

from __future__ import annotations

from typing import Any

from tests.simulation.clients import SERVICES
from tests.simulation.history import History
from tests.simulation.http_calls import Exchange, Reply, Request, get
from tests.simulation.http_clients import Caller, spelled
from tests.simulation.world import World

BUDGET_MS = 1000


class DeltaReader:
    def __init__(self, name: str, world: World, nodes: tuple[str, ...], caller: Caller, history: History) -> None:
        self.idle = True
        self.deltas = 0
        self.resets = 0
        """How often it was told that its version is too old to go on from."""
        self._name = name
        self._world = world
        self._rng = world.stream(name)
        self._nodes = nodes
        self._caller = caller
        self._history = history
        self._version = 0
        self._copy: dict[str, set[str]] = {}
        self._stopped = False

    def start(self) -> None:
        self._world.after(self._rng.random(), self._ask)

    def stop(self) -> None:
        self._stopped = True

    def _ask(self) -> None:
        if self._stopped:
            return
        self.idle = False
        called_at, snake = self._world.now, self._rng.random() < 0.5
        level = self._rng.choice(("linearizable", "session"))
        what = "services-delta" if self._version else "services"
        body = {"regionId": "r", "zoneId": "z", "version": self._version}
        headers = {"x-artemis-consistency": level, "x-artemis-timeout-ms": str(BUDGET_MS)}
        if level == "session":
            headers["x-artemis-min-revision"] = str(self._version)
        request = Request(
            method="POST",
            path=f"/api/discovery/{what}" if snake else f"/artemis/api/discovery/{what}.json",
            headers=headers,
            body=spelled(body, snake=snake),
        )

        def answered(exchange: Exchange) -> None:
            if exchange.reply is not None and self._take(exchange.reply):
                self._record(exchange, called_at, linearizable=level == "linearizable")
            self.idle = True
            self._world.after(self._rng.expovariate(4.0), self._ask)

        self._caller.call(self._rng.choice(self._nodes), request, BUDGET_MS, answered)

    def _take(self, reply: Reply) -> bool:
        """Whether the copy is now of the answer's revision."""
        body = reply.body or {}
        if "x-artemis-compacted" in reply.headers:
            self.resets += 1
            self._version = 0
            return False
        if reply.code == "service-unavailable":
            return False
        if reply.code != "success":
            self._world.violate(f"{self._name} asks from version {self._version} and is told {reply.body}")
            return False
        if get(body, "version") != reply.revision:
            self._world.violate(f"{self._name} gets version {get(body, 'version')} of revision {reply.revision}")
        if self._version:
            self.deltas += 1
            for service_id, changes in get(body, "delta").items():
                for change in changes:
                    self._change(service_id, change)
        else:
            self._copy = {
                get(service, "serviceId"): {get(instance, "instanceId") for instance in get(service, "instances")}
                for service in get(body, "services")
            }
        self._version = reply.revision
        return True

    def _change(self, service_id: str, change: dict[str, Any]) -> None:
        elements = self._copy.setdefault(service_id, set())
        element, kind = get(get(change, "instance"), "instanceId"), get(change, "changeType")
        if (kind == "new") == (element in elements):
            self._world.violate(f"{self._name} at version {self._version} gets {kind} of {element} out of turn")
        if kind == "delete":
            elements.discard(element)
        else:
            elements.add(element)

    def _record(self, exchange: Exchange, called_at: float, *, linearizable: bool) -> None:
        for service_id in SERVICES:
            operation = self._history.call(self._name, "read" if linearizable else "stale-read", service_id, called_at)
            operation.node, operation.revision = exchange.node, self._version
            operation.seen = frozenset(self._copy.get(service_id, ()))
            operation.outcome, operation.returned_at = "ok", self._world.now
