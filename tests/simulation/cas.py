"""Clients that compare and set: what they were told must have one order, and be what the committed log gives.

Each key is one instance. Every registration carries a new value, so a revision names a value, and "register if the
revision is r" is a compare-and-set of values; "unregister if it is r" sets it to nothing. Retries keep their id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from artemis.commands import Command, Condition, Register, Registration, RequestId, Unregister
from artemis.errors import ArtemisError
from artemis.model import Instance, InstanceKey
from artemis.outcomes import Outcome, Refused, Registered, Renewed, Unregistered
from jepsen_lite.linearizability import certificate
from jepsen_lite.linearizability.certificate import Applied, Write
from jepsen_lite.linearizability.check import check_all
from jepsen_lite.linearizability.operations import Op
from jepsen_lite.linearizability.register import Register as RegisterModel
from tests.simulation.clients import ATTEMPTS_MAX, FOREVER_MS, PATIENCE, Answer, Client, Door
from tests.simulation.history import History
from tests.simulation.invariants import Invariants, ObservedEngine

SERVICE = "cas"
KEYS = ("k0", "k1")
Values: TypeAlias = dict[tuple[str, int], str | None]
"""(key, revision) -> value"""
STEPS_MAX = 400_000


@dataclass(slots=True)
class Attempt:
    """One read (``command`` None) or one conditional write, retries included."""

    client: str
    key: str
    called_at: float
    command: Command | None = None
    revision: int = 0
    """Of the instance when it was read, or as the write expects it."""
    value: str | None = None
    """Read or to be written; None: nothing there."""
    request: RequestId | None = None
    outcome: Outcome | None = None
    """None of a write: it failed for certain, or nobody knows."""
    returned_at: float | None = None
    attempts: int = 0

    @property
    def refused(self) -> bool:
        return isinstance(self.outcome, Registered | Unregistered) and bool(self.outcome.refused)


class CasClient(Client):
    """Reads a key, and sets it if it is still what was read: now, or what an earlier read saw."""

    def __init__(self, name: str, door: Door, think: float, attempts: list[Attempt]) -> None:
        super().__init__(name, door, History(), think)
        self._attempts = attempts
        self._known: dict[str, list[int]] = {key: [0] for key in KEYS}
        """Revisions seen of each key."""
        self._values = 0

    def _next(self) -> None:
        if self._stopped:
            return
        self.idle = False
        key = self._rng.choice(KEYS)
        if self._rng.random() < 0.35:
            self._read(key)
            return
        known = self._known[key]
        expected = known[-1] if self._rng.random() < 0.8 else self._rng.choice(known)
        condition = (Condition(0, revision=expected),)
        if expected and self._rng.random() < 0.25:
            command: Command = Unregister((InstanceKey("", SERVICE, key),), condition)
            value = None
        else:
            self._values += 1
            value = f"{self.name}-{self._values}"
            instance = Instance(service_id=SERVICE, instance_id=key, machine_name=value)
            command = Register((Registration(instance, FOREVER_MS),), condition)
        attempt = Attempt(self.name, key, self._world.now, command, expected, value)
        if self._rng.random() < self._door.cluster.settings.request_ids:
            number = len(self._attempts)
            attempt.request = RequestId(f"{self.name}/cas/{number}", number.to_bytes(8, "big"))
        self._attempts.append(attempt)
        self._write(attempt)

    def _read(self, key: str) -> None:
        attempt = Attempt(self.name, key, self._world.now)
        budget_ms = self._budget_ms()
        seen: list[tuple[int, str | None]] = []

        def look(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            record = engine.registry.find(InstanceKey("", SERVICE, key))
            seen.append((0, None) if record is None else (record.revision, record.instance.machine_name))
            answer(Renewed(engine.registry.revision))

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            engine.barrier(budget_ms, lambda error: look(engine, answer) if error is None else answer(error))

        def answered(value: Answer) -> None:
            if isinstance(value, Renewed):
                attempt.revision, attempt.value = seen[-1]
                self._known[key].append(attempt.revision)
                attempt.returned_at = self._world.now
                self._attempts.append(attempt)
            self._done()

        self._door.ask(self._pick(), request, budget_ms / 1000 + PATIENCE, answered)

    def _write(self, attempt: Attempt, unknown: bool = False) -> None:
        attempt.attempts += 1
        budget_ms = self._budget_ms()
        command = attempt.command
        assert command is not None

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            engine.propose(command, attempt.request, budget_ms, answer)

        self._door.ask(self._pick(), request, budget_ms / 1000 + PATIENCE, partial(self._settle, attempt, unknown))

    def _settle(self, attempt: Attempt, unknown: bool, value: Answer) -> None:
        """``unknown``: an earlier attempt may have happened or may still."""
        if isinstance(value, Registered | Unregistered):
            attempt.outcome, attempt.returned_at = value, self._world.now
            if value.refused:
                self._known[attempt.key].append(value.refused[0].revision)
            else:
                self._known[attempt.key].append(value.revision if isinstance(value, Registered) else 0)
            self._done()
            return
        if isinstance(value, Refused) and value.reason == "request-id-reused":
            self._world.violate(f"{attempt}: its request id is said to belong to another request")
        unknown = unknown or value is None or (isinstance(value, ArtemisError) and not value.definite)
        if attempt.request is not None and attempt.attempts < ATTEMPTS_MAX:
            self._node = self._rng.choice(self._nodes)
            self._world.after(self._rng.random() * 0.3, partial(self._write, attempt, unknown))
            return
        if not unknown:
            attempt.returned_at = self._world.now
        self._done()

    def _done(self) -> None:
        self.idle = True
        if not self._stopped:
            self._world.after(self._rng.expovariate(1 / self._think), self._next)


def contradictions(attempts: list[Attempt], steps_max: int = STEPS_MAX) -> list[str]:
    """Why no order of compare-and-sets explains what the clients saw of each key; empty when there is one."""
    values: Values = {(key, 0): None for key in KEYS}
    for attempt in attempts:
        if attempt.command is None:
            values[attempt.key, attempt.revision] = attempt.value
        elif isinstance(attempt.outcome, Registered) and not attempt.refused:
            values[attempt.key, attempt.outcome.revision] = attempt.value
    keys: dict[str, list[Op]] = {key: [] for key in KEYS}
    for attempt in attempts:
        keys[attempt.key].extend(_ops(attempt, values))
    return list(check_all(keys, RegisterModel(), steps_max=steps_max).reasons)


def _ops(attempt: Attempt, values: Values) -> list[Op]:
    client, called_at, returned_at = attempt.client, attempt.called_at, attempt.returned_at
    if attempt.command is None:
        return [Op(client, "read", None, attempt.value, called_at, returned_at)]
    if attempt.outcome is None and returned_at is not None:
        return []  # it failed for certain
    expected = (attempt.key, attempt.revision)
    if expected in values:
        arguments = (values[expected], attempt.value)
        ops = [Op(client, "cas", arguments, not attempt.refused, called_at, returned_at)]
    elif attempt.refused:
        ops = []
    elif attempt.value is None:
        # The value of that revision nobody can name: its writer was never told, and only refusals spoke of it.
        ops = [Op(client, "delete", None, None, called_at, returned_at)]
    else:
        ops = [Op(client, "write", attempt.value, None, called_at, returned_at)]
    if isinstance(attempt.outcome, Registered | Unregistered) and attempt.outcome.refused:
        present = (attempt.key, attempt.outcome.refused[0].revision)
        if present in values:
            ops.append(Op(client, "read", None, values[present], called_at, returned_at))
    return ops


def uncertified(attempts: list[Attempt], watch: Invariants) -> list[str]:
    """Where the committed log, replayed through the specification, gives another answer: also another present revision
    or epoch in a refusal."""
    log = [Applied(index, term, payload) for index, (term, payload) in sorted(watch.committed.items())]
    writes = [
        Write(a.client, a.command, a.request, a.outcome, a.called_at, a.returned_at)
        for a in attempts
        if a.command is not None
    ]
    found = certificate.check({"the committed log": log}, writes, [], first_index=log[0].index if log else 1)
    return [f"{anomaly.kind}: {anomaly.detail}" for anomaly in found.anomalies]
