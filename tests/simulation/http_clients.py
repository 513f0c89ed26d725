"""The clients of ``clients`` and ``lease_owners``, over HTTP: both dialects, all levels, broken connections.

Beside what those do, these remove what others added (also while its owner does not know yet that it was added), renew
it, and repeat requests long after their end under the same request id, as a queue in between might.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from artemis.commands import Command, Register, Registration, Renew, RequestId, Unregister
from artemis.errors import Unavailable
from artemis.model import Instance
from artemis.outcomes import Refused, Registered, Renewed, Unregistered
from tests.simulation.clients import PATIENCE, SERVICES, Answer, Client, Door, key
from tests.simulation.history import History, Kind, Operation
from tests.simulation.http import Connection, Frontends
from tests.simulation.http_calls import WELL, Exchange, Reply, Request, Trouble, get, write_outcome
from tests.simulation.http_watch import HttpWatch
from tests.simulation.lease_owners import SERVICE as LEASED
from tests.simulation.lease_owners import LeaseOwner

URL = "http://10.0.0.1"
"""Clients that write camelCase must name one."""

BUDGETS_MS = (200, 1000, 3000)


@dataclass(kw_only=True)
class TroubleRates:
    """Shares of requests to which each thing happens."""

    request_cut: float = 0.08
    answer_lost: float = 0.3
    answer_cut: float = 0.08
    silently: float = 0.3
    """Of those: how many go without a packet that says so."""

    def draw(self, rng: Random, request: Request) -> Trouble:
        draw, silently = rng.random(), rng.random() < self.silently
        if draw < self.request_cut:
            return Trouble(request_bytes=rng.randint(1, len(request.encoded()) - 1), silently=silently)
        draw -= self.request_cut
        if draw < self.answer_lost:
            if rng.random() < 0.5:
                return Trouble(answer_bytes=0, silently=silently)
            return Trouble(gone_after=rng.random() * rng.choice((0.0, 0.01, 0.5)), silently=silently)
        draw -= self.answer_lost
        if draw < self.answer_cut:
            return Trouble(answer_bytes=rng.randint(1, 400), silently=silently)
        return WELL


class Caller:
    """Sends requests, keeps connections open when it can, and suffers what ``rates`` say."""

    def __init__(self, frontends: Frontends, rng: Random, rates: TroubleRates) -> None:
        self.frontends = frontends
        self.rates = rates
        self._rng = rng
        self._kept: dict[str, Connection] = {}

    def call(self, node: str, request: Request, budget_ms: int, done: Callable[[Exchange], None]) -> None:
        def finished(exchange: Exchange) -> None:
            if exchange.reusable:
                self._kept[node] = exchange.connection
            done(exchange)

        Exchange(
            self.frontends,
            node,
            request,
            patience=budget_ms / 1000 + PATIENCE,
            done=finished,
            rng=self._rng,
            trouble=self.rates.draw(self._rng, request),
            kept=self._kept.pop(node, None),
        )

    def write(self, kind: str, command: Command, headers: dict[str, str], *, snake: bool) -> Request:
        return Request(
            method="POST",
            path=f"/api/registry/{kind}" if snake else f"/artemis/api/registry/{kind}.json",
            headers=headers,
            body=body_of(command, snake=snake),
            chunked=self._rng.random() < 0.3,
            zipped=self._rng.random() < 0.2,
            close=self._rng.random() < 0.1,
        )


def body_of(command: Command, *, snake: bool) -> dict[str, Any]:
    """A register, unregister or renewal as a client of that dialect sends it."""
    if isinstance(command, Register):
        instances = [
            {
                "serviceId": i.instance.service_id,
                "instanceId": i.instance.instance_id,
                "url": URL,
                "leaseTtlMs": i.ttl_ms,
            }
            for i in command.items
        ]
        return {"instances": [spelled(instance, snake=snake) for instance in instances]}
    assert isinstance(command, Renew | Unregister)
    keys = [{"regionId": "", "serviceId": k.service_id, "instanceId": k.instance_id} for k in command.keys]
    if snake:
        return {"instance_keys": [spelled(key, snake=True) for key in keys]}
    return {"instances": [{**key, "url": URL} for key in keys]}


def spelled(document: dict[str, Any], *, snake: bool) -> dict[str, Any]:
    if not snake:
        return document
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in document.items()}


def missing_of(reply: Reply) -> set[str]:
    """Instance ids that a heartbeat did not find."""
    body = reply.body or {}
    failed = [*(get(body, "failedInstances") or ()), *(get(body, "failedInstanceKeys") or ())]
    return {str(get(get(item, "instance") or item, "instanceId")) for item in failed}


class Shared:
    """What the clients of one run know of each other: who removes what, and who has seen which revision."""

    def __init__(self) -> None:
        self._claimed: set[tuple[str, str]] = set()
        self.seen: list[tuple[str, str]] = []
        """(service, element) that somebody read, in the order first seen."""
        self._known: set[tuple[str, str]] = set()
        self.heartbeats: list[Heartbeat] = []
        self.repeatable: list[tuple[Operation, Request]] = []

    def claim(self, service: str, element: str) -> bool:
        """Whether the caller may remove it: everything is removed by one operation at most."""
        if (service, element) in self._claimed:
            return False
        self._claimed.add((service, element))
        return True

    def saw(self, service: str, elements: frozenset[str]) -> None:
        for element in sorted(elements):
            if (service, element) not in self._known:
                self._known.add((service, element))
                self.seen.append((service, element))


@dataclass(slots=True)
class Heartbeat:
    """An observation at one point in time between its call and its return."""

    service: str
    called_at: float
    returned_at: float
    present: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        return f"heartbeat of {self.service} [{self.called_at:.4f} .. {self.returned_at:.4f}]"


class HttpClient(Client):
    def __init__(
        self,
        name: str,
        door: Door,
        history: History,
        think: float,
        *,
        caller: Caller,
        watch: HttpWatch,
        shared: Shared,
        home: str | None = None,
    ) -> None:
        super().__init__(name, door, history, think, budgets_ms=BUDGETS_MS, home=home)
        self._caller = caller
        self._watch = watch
        self._shared = shared
        self._ways = self._world.stream(f"client/{name}/http")
        self._session_revision = 0
        self._requests: dict[int, Request] = {}

    def _next(self) -> None:
        draw = self._ways.random()
        if not self._stopped and self._shared.seen and draw < 0.2:
            service, element = self._ways.choice(self._shared.seen[-30:])
            if draw < 0.12:
                self.heartbeat(service, [element, f"never-{self.name}"] if self._ways.random() < 0.3 else [element])
            else:
                self.remove(service, element)
        elif not self._stopped and self._shared.repeatable and draw < 0.27:
            self.repeat(*self._ways.choice(self._shared.repeatable[-100:]))
        else:
            super()._next()

    # operations

    def remove(self, service: str, element: str) -> Operation:
        if not self._shared.claim(service, element):
            return self.read(service, "read")
        return super().remove(service, element)

    def read(self, service: str, kind: Kind) -> Operation:
        operation = self._call(kind, service, ())
        operation.node = self._pick()
        budget_ms = self._budget_ms()
        level, headers, max_stale_ms = "linearizable", {"x-artemis-timeout-ms": str(budget_ms)}, None
        if kind == "stale-read":
            level = self._ways.choice(("session", "stale"))
        headers["x-artemis-consistency"] = level
        min_revision = self._session_revision if level == "session" else 0
        if level == "session":
            headers["x-artemis-min-revision"] = str(min_revision)
        elif level == "stale" and self._ways.random() < 0.5:
            max_stale_ms = self._ways.choice((50, 200, 1000))
            headers["x-artemis-max-stale-ms"] = str(max_stale_ms)

        def answered(exchange: Exchange) -> None:
            seen = None if exchange.reply is None else seen_in(exchange.reply, service)
            if exchange.reply is None or seen is None:
                self._return(operation, "fail")
                return
            self._watch.check_read(exchange, level, min_revision=min_revision, max_stale_ms=max_stale_ms)
            operation.revision, operation.seen = exchange.reply.revision, seen
            self._session_revision = max(self._session_revision, operation.revision)
            self._shared.saw(service, seen)
            self._return(operation, "ok")

        self._caller.call(operation.node, self._look_up(service, headers), budget_ms, answered)
        return operation

    def heartbeat(self, service: str, elements: list[str]) -> None:
        self.idle = False
        called_at, budget_ms = self._world.now, self._budget_ms()
        command = Renew((), tuple(key(service, element) for element in elements))
        headers = {"x-artemis-timeout-ms": str(budget_ms)}
        request = self._caller.write("heartbeat", command, headers, snake=self._ways.random() < 0.5)

        def answered(exchange: Exchange) -> None:
            reply = exchange.reply
            if reply is not None and reply.code in ("success", "partial_fail"):
                missing = missing_of(reply)
                absent = tuple(element for element in elements if element in missing)
                present = tuple(element for element in elements if element not in missing)
                self._shared.heartbeats.append(Heartbeat(service, called_at, self._world.now, present, absent))
            elif reply is not None:
                self._watch.check_refusal(exchange)
            self.idle = True
            if not self._stopped:
                self._world.after(self._rng.expovariate(1 / self._think), self._next)

        self._caller.call(self._pick(), request, budget_ms, answered)

    def repeat(self, operation: Operation, request: Request) -> None:
        """Its first answer again, and no effect; or nothing, if nobody answers now."""
        self.idle = False

        def answered(exchange: Exchange) -> None:
            reply = exchange.reply
            if reply is not None and reply.code == "success" and operation.outcome == "ok":
                self._check_same(operation, reply)
            self.idle = True
            if not self._stopped:
                self._world.after(self._rng.expovariate(1 / self._think), self._next)

        self._caller.call(self._pick(), request, max(BUDGETS_MS), answered)

    def _check_same(self, operation: Operation, reply: Reply) -> None:
        if reply.revision != operation.revision:
            self._world.violate(f"{operation}: repeated under its request id it is of revision {reply.revision}")

    # one write, attempt by attempt

    def _attempt(
        self, operation: Operation, command: Command, request_id: RequestId | None, unknown: bool = False
    ) -> None:
        if isinstance(command, Register):
            command = operation.command = _with_url(command)
        operation.attempts += 1
        operation.node = self._pick()
        budget_ms = self._budget_ms()
        request = self._requests.get(operation.number)
        if request is None:
            headers = {"x-artemis-timeout-ms": str(budget_ms)}
            if request_id is not None:
                headers["x-artemis-request-id"] = request_id.id
            kind = "register" if isinstance(command, Register) else "unregister"
            request = self._caller.write(kind, command, headers, snake=self._ways.random() < 0.5)
            self._requests[operation.number] = request

        def answered(exchange: Exchange) -> None:
            self._judge(operation, command, request_id, unknown, self._value(exchange, command, operation))

        self._caller.call(operation.node, request, budget_ms, answered)

    def _value(self, exchange: Exchange, command: Command, operation: Operation) -> Answer:
        reply, outcome = exchange.reply, write_outcome(exchange)
        if reply is not None and outcome == "ok":
            self._session_revision = max(self._session_revision, reply.revision)
            if isinstance(command, Register):
                return Registered(reply.revision, (), ())
            return Unregistered(reply.revision, (True,) * len(operation.elements))
        if reply is not None:
            self._watch.check_refusal(exchange)
            if reply.code == "request-id-reused" or (reply.code == "bad-request" and "request-id" in str(reply.body)):
                return Refused(reply.revision, "request-id-reused")
        return None if outcome == "info" else Unavailable("refused", definite=True)

    def _return(self, operation: Operation, outcome: str) -> None:
        request = self._requests.pop(operation.number, None)
        # What was told to have failed is not sent again: it would happen then.
        if request is not None and outcome != "fail" and "x-artemis-request-id" in request.headers:
            self._shared.repeatable.append((operation, request))
        super()._return(operation, outcome)

    def _look_up(self, service: str, headers: dict[str, str]) -> Request:
        way = self._ways.choice(("camel", "snake", "get", "lookup"))
        if way == "get":
            return Request(method="GET", path=f"/api/discovery/service?serviceId={service}", headers=headers)
        if way == "lookup":
            body: dict[str, Any] = {"discovery_configs": [{"service_id": name} for name in SERVICES]}
            return Request(method="POST", path="/api/discovery/lookup", headers=headers, body=body)
        config = spelled({"serviceId": service, "regionId": "r", "zoneId": "z"}, snake=way == "snake")
        path = "/api/discovery/service" if way == "snake" else "/artemis/api/discovery/service.json"
        return Request(
            method="POST",
            path=path,
            headers=headers,
            body=spelled({"discoveryConfig": config}, snake=way == "snake"),
        )


def _with_url(command: Register) -> Register:
    """As it is ordered when it comes over HTTP."""
    return Register(
        tuple(
            Registration(
                Instance(service_id=item.instance.service_id, instance_id=item.instance.instance_id, url=URL),
                item.ttl_ms,
            )
            for item in command.items
        )
    )


def seen_in(reply: Reply, service: str) -> frozenset[str] | None:
    """The instance ids of ``service`` in the answer to a look-up; None if it was refused."""
    body = reply.body or {}
    if reply.code == "bad-request" and "not found" in str(body):
        return frozenset()  # the snake_case contract's word for a service without instances
    if reply.status != 200 or reply.code != "success":
        return None
    services = get(body, "services")
    found = [get(body, "service")] if services is None else services
    for item in found:
        if get(item, "serviceId") == service:
            return frozenset(str(get(instance, "instanceId")) for instance in get(item, "instances") or ())
    return None


class HttpLeaseOwner(LeaseOwner):
    """Renews by heartbeat, through any node: the lease it had on another one is none of its business."""

    def __init__(self, name: str, door: Door, drift: float | None, caller: Caller) -> None:
        super().__init__(name, door, drift)
        self._caller = caller

    def _send(self, command: Command, answered: Callable[[float, Answer], None]) -> None:
        called_at, life = self._world.now, self._life
        kind = "register" if isinstance(command, Register) else "heartbeat"
        if isinstance(command, Renew):
            command = Renew((), (key(LEASED, self._element),))

        def on_answer(exchange: Exchange) -> None:
            if life == self._life and not self._stopped:
                answered(called_at, self._value(exchange, kind))

        request = self._caller.write(kind, command, {"x-artemis-timeout-ms": "1000"}, snake=self._rng.random() < 0.5)
        node = self._rng.choice(self._door.cluster.members)
        self._world.soon(partial(self._caller.call, node, request, 1000, on_answer))

    def _value(self, exchange: Exchange, kind: str) -> Answer:
        reply = exchange.reply
        if reply is None or reply.code not in ("success", "partial_fail"):
            return None
        if kind == "register":
            return Registered(reply.revision, (0,), (True,)) if reply.code == "success" else None
        return Renewed(reply.revision, missing_keys=(0,) if missing_of(reply) else ())
