"""Owners of short leases, and the two lease bounds: no live instance goes, every dead one does."""

from __future__ import annotations

from collections.abc import Callable

from artemis.commands import Command, Renew
from artemis.errors import ArtemisError
from artemis.outcomes import Registered, Renewed
from tests.simulation.clients import PATIENCE, Answer, Door, elements_of, key, register
from tests.simulation.invariants import ObservedEngine

SERVICE = "leased"
TTL_MS_MAX = 4000


class LeaseOwner:
    """Registers an instance with a short TTL, renews it for a while, then dies and starts over as another one."""

    def __init__(self, name: str, door: Door, drift: float | None) -> None:
        """``drift``: the most by which clock rates differ from 1; None: too much for the bounds to mean anything."""
        self.name = name
        self._door = door
        self._world = door.cluster.world
        self._rng = self._world.stream(f"owner/{name}")
        self._drift = drift
        self._life = 0
        self._ttl_ms = 0
        self._lease_id = 0
        self._renewals_left = 0
        self._alive_from: float | None = None
        """When the last acknowledged renewal was called; None while nothing is acknowledged."""
        self._registered_at = 0.0
        self._stopped = False

    def start(self) -> None:
        self._world.after(self._rng.random(), self._register)

    def stop(self) -> None:
        self._stopped = True
        self._alive_from = None

    def check_present(self, seen: frozenset[str], called_at: float, returned_at: float) -> None:
        """A linearizable read of ``SERVICE`` between these times saw these."""
        if self._element in seen or self._registered_at > called_at:
            return
        if returned_at < self._safe_until():
            self._world.violate(f"{self._element} is gone before its lease can have ended: {self._bound()}")

    def on_deleted(self, element: str) -> None:
        """A node is the first to apply the end of this element."""
        if element == self._element and self._world.now < self._safe_until():
            self._world.violate(f"{element} is deleted before its lease can have ended: {self._bound()}")

    @property
    def _element(self) -> str:
        return f"{self.name}-{self._life}"

    def _safe_until(self) -> float:
        if self._alive_from is None or self._drift is None:
            return float("-inf")
        return self._alive_from + self._ttl_ms / 1000 * (1 - 2 * self._drift) - 0.001

    def _bound(self) -> str:
        return f"last renewal called at {self._alive_from:.4f}, TTL {self._ttl_ms} ms" if self._alive_from else "none"

    def _register(self) -> None:
        if self._stopped:
            return
        self._life += 1
        self._alive_from = None
        self._ttl_ms = self._rng.choice((1000, 2000, TTL_MS_MAX))
        self._renewals_left = self._rng.choice((0, 5, 20))
        self._send(register(SERVICE, (self._element,), self._ttl_ms), self._registered)

    def _registered(self, called_at: float, value: Answer) -> None:
        if isinstance(value, Registered):
            self._lease_id = value.lease_ids[0]
            self._alive_from = called_at
            self._registered_at = self._world.now
            self._renew_later()
        else:
            self._world.after(self._rng.random(), self._register)

    def _renew_later(self) -> None:
        if self._renewals_left > 0:
            self._world.after(self._ttl_ms / 3000, self._renew)
        else:
            self._world.after(self._rng.random() * 2, self._register)  # it died; the next one is somebody else

    def _renew(self) -> None:
        if self._stopped:
            return
        self._renewals_left -= 1
        by_id = self._rng.random() < 0.5
        command = Renew(lease_ids=(self._lease_id,)) if by_id else Renew(keys=(key(SERVICE, self._element),))
        self._send(command, self._renewed)

    def _renewed(self, called_at: float, value: Answer) -> None:
        if not isinstance(value, Renewed):
            self._renew_later()
        elif value.missing_leases or value.missing_keys:
            if self._world.now < self._safe_until():
                self._world.violate(f"{self._element} is said to be unknown too early: {self._bound()}")
            self._register()
        else:
            self._alive_from = called_at
            self._renew_later()

    def _send(self, command: Command, answered: Callable[[float, Answer], None]) -> None:
        called_at, life = self._world.now, self._life

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            engine.propose(command, None, 1000, answer)

        def on_answer(value: Answer) -> None:
            if life == self._life and not self._stopped:
                answered(called_at, value)

        node = self._rng.choice(self._door.cluster.members)
        self._door.ask(node, request, 1.0 + PATIENCE, on_answer)


class LeaseReader:
    """Reads the leased service again and again, linearizably, and tells the owners what it saw."""

    def __init__(self, door: Door, owners: list[LeaseOwner], pause: float) -> None:
        self._door = door
        self._world = door.cluster.world
        self._rng = self._world.stream("lease reader")
        self._owners = owners
        self._pause = pause
        self._stopped = False
        self.reads = 0

    def start(self) -> None:
        self._world.after(self._pause, self._read)

    def stop(self) -> None:
        self._stopped = True

    def _read(self) -> None:
        if self._stopped:
            return
        called_at = self._world.now
        seen: list[frozenset[str]] = []

        def request(engine: ObservedEngine, answer: Callable[[Answer], None]) -> None:
            def passed(error: ArtemisError | None) -> None:
                if error is None:
                    seen.append(elements_of(engine.registry, SERVICE))
                answer(error)

            engine.barrier(500, passed)

        def answered(_value: Answer) -> None:
            for elements in seen:
                self.reads += 1
                for owner in self._owners:
                    owner.check_present(elements, called_at, self._world.now)
            self._world.after(self._pause, self._read)

        self._door.ask(self._rng.choice(self._door.cluster.members), request, 0.5 + PATIENCE, answered)
