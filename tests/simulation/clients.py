"""Virtual clients: each has one operation open at most, through any node, and retries like a careful client library.

A request reaches its node after a short hop that no fault touches, and so does the answer; what a node cannot do it
says, and a node that ends takes its open requests with it: for their clients those are unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from artemis.commands import Command, Register, Registration, RequestId, Unregister
from artemis.errors import ArtemisError, Unavailable
from artemis.model import Instance, InstanceKey
from artemis.outcomes import Outcome, Refused, Registered, Renewed, Unregistered
from artemis.registry import Registry
from tests.simulation.cluster import Cluster
from tests.simulation.history import History, Kind, Operation
from tests.simulation.invariants import ObservedEngine

HOP = 0.0005
"""Seconds from a client to a node and back again."""

PATIENCE = 0.5
"""Seconds that a client waits beyond the time budget it gave the node."""

FOREVER_MS = 3_600_000
SERVICES = ("alpha", "beta")
ATTEMPTS_MAX = 4

Answer = Outcome | ArtemisError | None
"""None: no answer came, and none will."""


def key(service: str, element: str) -> InstanceKey:
    return InstanceKey("", service, element)


def register(service: str, elements: tuple[str, ...], ttl_ms: int) -> Register:
    return Register(tuple(Registration(Instance(service_id=service, instance_id=e), ttl_ms) for e in elements))


def elements_of(registry: Registry, service: str) -> frozenset[str]:
    view = registry.service(service)
    return frozenset() if view is None else frozenset(record.instance.instance_id for record in view.records)


class Door:
    """The way from clients to nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._open: dict[str, dict[int, Callable[[Answer], None]]] = {name: {} for name in cluster.members}
        self._numbers = 0
        cluster.on_ended.append(self._node_ended)

    def ask(
        self,
        node: str,
        request: Callable[[ObservedEngine, Callable[[Answer], None]], None],
        patience: float,
        answered: Callable[[Answer], None],
    ) -> None:
        """Have ``request`` called on the node's engine with what to call for its answer; ``answered`` gets it, once.

        ``Unavailable`` (definite) at once if nothing listens there, None when patience ends or the node does.
        """
        self._numbers += 1
        number, world = self._numbers, self.cluster.world
        waiting = self._open[node]
        waiting[number] = answered

        def answer(value: Answer) -> None:
            if isinstance(value, Unavailable) and str(value).startswith("overtaken"):
                world.violate(f"{node} answers: {value}. Proposals of one node are ordered as it made them")
            world.after(HOP, partial(self._close, node, number, value))

        def arrive() -> None:
            machine = self.cluster.machines[node]
            if machine.process is None:
                self._close(node, number, NOBODY)
            else:
                machine.process.run(deliver)

        def deliver() -> None:
            engine = self.cluster.machines[node].engine
            if engine is None:
                answer(NOBODY)
                return
            try:
                request(engine, answer)
            except ArtemisError as exc:
                answer(exc)

        world.after(HOP, arrive)
        world.after(patience, partial(self._close, node, number, None))

    def _close(self, node: str, number: int, value: Answer) -> None:
        answered = self._open[node].pop(number, None)
        if answered is not None:
            answered(value)

    def _node_ended(self, node: str) -> None:
        # The reset travels as long as an answer: one that was sent just before still comes first.
        numbers = list(self._open[node])
        for number in numbers:
            self.cluster.world.after(HOP * 1.5, partial(self._close, node, number, None))


class _Nobody(ArtemisError):
    """Connection refused: the request left nobody's hands."""


NOBODY = _Nobody("nothing listens there")


class Client:
    """Adds, removes and reads elements of sets until it is told to stop."""

    def __init__(
        self,
        name: str,
        door: Door,
        history: History,
        think: float,
        *,
        services: tuple[str, ...] = SERVICES,
        budgets_ms: tuple[int, ...] = (200, 1000, 3000),
        home: str | None = None,
    ) -> None:
        """``home``: the only node it talks to, if given."""
        self.name = name
        self.idle = True
        self._door = door
        self._settings = door.cluster.settings
        self._world = door.cluster.world
        self._rng = self._world.stream(f"client/{name}")
        self._history = history
        self._think = think
        self._services = services
        self._budgets_ms = budgets_ms
        self._mine: list[tuple[str, str]] = []
        """(service, element) acknowledged and not removed."""
        self._added = 0
        self.operations_left: int | None = None
        """How many it still begins by itself; None: no limit."""
        self._stopped = False
        self._nodes = door.cluster.members if home is None else (home,)
        self._node = self._rng.choice(self._nodes)

    def start(self) -> None:
        self._world.after(self._rng.expovariate(1 / self._think), self._next)

    def stop(self) -> None:
        """No new operations. Open ones end by themselves."""
        self._stopped = True

    def _next(self) -> None:
        if self._stopped or self.operations_left == 0:
            return
        rest = self._settings.rest(self._world.now)
        if rest:
            self._world.after(rest + self._rng.expovariate(1 / self._think), self._next)
            return
        if self.operations_left is not None:
            self.operations_left -= 1
        draw = self._rng.random()
        if draw < 0.45:
            self.add(self._rng.choice(self._services), self._rng.choice((1, 1, 1, 3)))
        elif draw < 0.6 and self._mine:
            self.remove(*self._mine.pop(self._rng.randrange(len(self._mine))))
        elif draw < 0.85:
            self.read(self._rng.choice(self._services), "read")
        else:
            self.read(self._rng.choice(self._services), "stale-read")

    # operations

    def add(self, service: str, count: int) -> Operation:
        elements = tuple(f"{self.name}-{self._added + i}" for i in range(count))
        self._added += count
        operation = self._call("add", service, elements)
        self._attempt(operation, register(service, elements, FOREVER_MS), self._request_id(operation))
        return operation

    def remove(self, service: str, element: str) -> Operation:
        operation = self._call("remove", service, (element,))
        self._attempt(operation, Unregister((key(service, element),)), self._request_id(operation))
        return operation

    def read(self, service: str, kind: Kind) -> Operation:
        operation = self._call(kind, service, ())
        operation.node = self._pick()
        budget_ms = self._budget_ms()
        seen: list[tuple[int, frozenset[str]]] = []

        def look(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            seen.append((engine.registry.revision, elements_of(engine.registry, service)))
            answer(Renewed(engine.registry.revision))

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            if kind == "stale-read":
                look(engine, answer)
            else:
                engine.barrier(budget_ms, lambda error: look(engine, answer) if error is None else answer(error))

        def answered(value: Answer) -> None:
            if isinstance(value, Renewed):
                operation.revision, operation.seen = seen[-1]
                self._return(operation, "ok")
            else:
                self._return(operation, "fail")

        self._door.ask(operation.node, request, budget_ms / 1000 + PATIENCE, answered)
        return operation

    # one write, attempt by attempt

    def _attempt(
        self, operation: Operation, command: Command, request_id: RequestId | None, unknown: bool = False
    ) -> None:
        operation.attempts += 1
        operation.node = self._pick()
        budget_ms = self._budget_ms()

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            engine.propose(command, request_id, budget_ms, answer)

        def answered(value: Answer) -> None:
            self._judge(operation, command, request_id, unknown, value)

        self._door.ask(operation.node, request, budget_ms / 1000 + PATIENCE, answered)

    def _judge(
        self, operation: Operation, command: Command, request_id: RequestId | None, unknown: bool, value: Answer
    ) -> None:
        """``unknown``: an earlier attempt may have happened or may still."""
        match value:
            case Registered(revision=revision):
                operation.revision = revision
                self._mine.extend((operation.service, element) for element in operation.elements)
                self._return(operation, "ok")
                return
            case Unregistered(revision=revision, existed=existed):
                operation.revision = revision
                operation.missing = tuple(e for e, was in zip(operation.elements, existed, strict=True) if not was)
                self._return(operation, "ok")
                return
            case Refused(reason="request-id-reused"):
                self._world.violate(f"{operation}: its request id is said to belong to another request")
            case None:
                unknown = True
            case ArtemisError(definite=False):
                unknown = True
            case _:
                pass
        retry = request_id is not None and operation.attempts < ATTEMPTS_MAX and self._rng.random() < 0.7
        if retry:
            self._node = self._rng.choice(self._nodes)
            pause = self._rng.random() * 0.3
            self._world.after(pause, partial(self._attempt, operation, command, request_id, unknown))
        else:
            self._return(operation, "info" if unknown else "fail")

    def _call(self, kind: Kind, service: str, elements: tuple[str, ...]) -> Operation:
        self.idle = False
        return self._history.call(self.name, kind, service, self._world.now, elements)

    def _return(self, operation: Operation, outcome: str) -> None:
        assert outcome in ("ok", "fail", "info")
        operation.outcome = outcome  # type: ignore[assignment]
        operation.returned_at = self._world.now
        self._world.note(str(operation))
        self.idle = True
        if not self._stopped:
            self._world.after(self._rng.expovariate(1 / self._think), self._next)

    def _pick(self) -> str:
        if self._rng.random() < 0.3:
            self._node = self._rng.choice(self._nodes)
        return self._node

    def _budget_ms(self) -> int:
        return self._rng.choice(self._budgets_ms)

    def _request_id(self, operation: Operation) -> RequestId | None:
        if self._rng.random() >= self._door.cluster.settings.request_ids:
            return None
        return RequestId(f"{self.name}/{operation.number}", operation.number.to_bytes(8, "big"))
