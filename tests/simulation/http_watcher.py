"""A watcher: it keeps a copy of services by long polls, each at another node, and never reads them again unless told.

Each answer makes a state, which enters the history as what a read of that revision saw. So a change that is missing,
comes twice, in another order or only in part contradicts the other reads and the committed log; and so does a bookmark
of a node that had not applied what it vouched for.
"""

from __future__ import annotations

from typing import Any

from tests.simulation.clients import SERVICES
from tests.simulation.history import History
from tests.simulation.http_calls import Exchange, Reply, Request, get
from tests.simulation.http_clients import Caller
from tests.simulation.world import World

BUDGET_MS = 1000
WAITS_MS = (0, 100, 1500)


class Watcher:
    """``services``: those it watches; it checks nothing about others."""

    def __init__(
        self,
        name: str,
        services: tuple[str, ...],
        world: World,
        nodes: tuple[str, ...],
        caller: Caller,
        history: History,
    ) -> None:
        self.idle = True
        self.batches = 0
        self.bookmarks = 0
        self.resets = 0
        """How often it was told that its revision is too old."""
        self.hops = 0
        """How often it went on at another node than the one that gave its revision."""
        self._name = name
        self._services = services
        self._world = world
        self._rng = world.stream(name)
        self._nodes = nodes
        self._caller = caller
        self._history = history
        self._revision: int | None = None
        self._given_by = ""
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
        called_at, node = self._world.now, self._rng.choice(self._nodes)
        wait_ms = 0 if self._revision is None else self._rng.choice(WAITS_MS)

        def answered(exchange: Exchange) -> None:
            if exchange.reply is not None and self._take(exchange.reply, node):
                self._record(exchange, called_at)
            self.idle = True
            self._world.after(self._rng.expovariate(20.0), self._ask)

        self._caller.call(node, self._request(wait_ms), BUDGET_MS + wait_ms, answered)

    def _request(self, wait_ms: int) -> Request:
        path = "/artemis/api" if self._rng.random() < 0.5 else "/api"
        headers = {"x-artemis-timeout-ms": str(BUDGET_MS)}
        if self._revision is None:
            return Request(method="GET", path=f"{path}/discovery/services.json", headers=headers)
        services = "" if self._services == SERVICES else f"&services={','.join(self._services)}"
        return Request(
            method="GET", path=f"{path}/watch?since={self._revision}&wait={wait_ms}{services}", headers=headers
        )

    def _take(self, reply: Reply, node: str) -> bool:
        """Whether the copy is now of the answer's revision."""
        body = reply.body or {}
        if reply.code == "service-unavailable":
            return False
        if body.get("compacted"):
            self.resets += 1
            self._revision = None
            return False
        if reply.code != "success":
            self._world.violate(f"{self._name} asks from revision {self._revision} and is told {reply.body}")
            return False
        if self._revision is None:
            self._copy = {
                get(service, "serviceId"): {get(instance, "instanceId") for instance in get(service, "instances")}
                for service in get(body, "services")
            }
            self._revision = get(body, "version")
        else:
            self.hops += node != self._given_by
            self._follow(body["changes"], body["revision"])
        self._given_by = node
        return True

    def _follow(self, changes: list[dict[str, Any]], revision: int) -> None:
        last = self._revision
        assert last is not None
        for change in changes:
            if change["revision"] <= last:
                self._world.violate(f"{self._name} gets revision {change['revision']} after {last}")
            last = change["revision"]
            self._change(change)
        if revision < last:
            self._world.violate(f"{self._name} is at revision {last} and is told to go on from {revision}")
        self.batches += bool(changes)
        self.bookmarks += not changes
        self._revision = revision

    def _change(self, change: dict[str, Any]) -> None:
        instance, kind = change["instance"], get(change, "changeType")
        service_id, element = get(instance, "serviceId"), get(instance, "instanceId")
        if self._services != SERVICES and service_id not in self._services:
            self._world.violate(f"{self._name} did not ask for {service_id}")
        elements = self._copy.setdefault(service_id, set())
        if (kind == "new") == (element in elements):
            self._world.violate(f"{self._name} at revision {change['revision']} gets {kind} of {element} out of turn")
        if kind == "delete":
            elements.discard(element)
        else:
            elements.add(element)

    def _record(self, exchange: Exchange, called_at: float) -> None:
        for service_id in self._services:
            operation = self._history.call(self._name, "stale-read", service_id, called_at)
            assert self._revision is not None
            operation.node, operation.revision = exchange.node, self._revision
            operation.seen = frozenset(self._copy.get(service_id, ()))
            operation.outcome, operation.returned_at = "ok", self._world.now
