"""Keeping leases alive: which instances are due when, and what an answer changes. Pure; time and chance are given.

Times in one TTL, for one lease::

    0          0.27-0.33          0.33+0.17          1
    |-- quiet --|-- the call, at most a sixth --| ... |  lost, unless renewed
                 failed: again after a pause of 1/48-1/24, doubling up to 1/6

So an attempt begins at least every third of the TTL, and an outage shorter than a 24th of it (the failing attempts
included) delays the next renewal to half of the TTL at most.

No lease ends silently. It leaves ``active`` only with a notice, and work on it ends only when its owner closes it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from artemis.client.answers import FailedInstance
from artemis.client.errors import Refused
from artemis.client.results import InstanceVersion
from artemis.client.wire import ANYTHING, Expected
from artemis.errors import ArtemisError
from artemis.model import Instance, InstanceKey, key_of

LeaseState = Literal["active", "lost", "closed"]
BatchKind = Literal["unregister", "register", "renew"]

BATCH_INSTANCES_MAX = 500
"""Keeps a heartbeat request near 200 kB. Nodes may take less."""


@dataclass(eq=False, kw_only=True, slots=True)
class Lease:
    """One registration as its owner sees it. Only the plan changes it."""

    instance: Instance
    ttl_ms: int
    on_lost: Callable[[], None] | None = None
    on_reregistered: Callable[[], None] | None = None
    state: LeaseState = "active"
    last_renewed: float = -math.inf
    """Start of the last acknowledged renewal or registration, on the client's clock. The lease cannot have ended before
    ``last_renewed`` plus the TTL."""
    last_error: str | None = None
    due_at: float = math.inf
    must_register: bool = False
    failures: int = 0
    conditional: bool = False
    """Registered on a condition, so everything later is for this very registration: another owner's instance is neither
    renewed nor taken out, and what is gone is not registered again without its owner."""
    version: InstanceVersion | None = None
    """As the registration was answered."""

    @property
    def key(self) -> InstanceKey:
        return key_of(self.instance)

    @property
    def ttl_s(self) -> float:
        return self.ttl_ms / 1000

    @property
    def expected(self) -> Expected:
        """What its renewals and its end expect."""
        return Expected(epoch=self.version.epoch) if self.conditional and self.version is not None else ANYTHING


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the owner must learn. The shell logs ``text`` and calls ``callback``, outside of every lock."""

    text: str
    callback: Callable[[], None] | None
    is_loss: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """One request for several leases."""

    kind: BatchKind
    leases: tuple[Lease, ...]
    budget_s: float


class HeartbeatPlan:
    """All leases of one client. One batch is out at a time: ``take``, send, then ``settle`` or ``fail``."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._leases: dict[InstanceKey, Lease] = {}
        self._orphans: list[Lease] = []
        self.batch_max = BATCH_INSTANCES_MAX
        """Instances in one request; less once a node has refused more."""

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    @property
    def has_orphans(self) -> bool:
        """Instances to take out because their owner unregistered them during a registration."""
        return bool(self._orphans)

    def add(self, lease: Lease, registered_at: float) -> None:
        """``lease`` was registered by a call that began at ``registered_at``. It replaces an earlier one of its key,
        as the registry did; closing that one must not end the new one."""
        replaced = self._leases.pop(lease.key, None)
        if replaced is not None:
            replaced.state = "closed"
        self._leases[lease.key] = lease
        self._renewed(lease, registered_at, self._beat_factor())

    def close(self, lease: Lease) -> bool:
        """Stop keeping ``lease``. False if this plan does not keep it (closed or replaced before, or kept by the parent
        of this process): then there is nothing to unregister."""
        if self._leases.get(lease.key) is not lease:
            return False
        lease.state = "closed"
        del self._leases[lease.key]
        return True

    def close_all(self) -> tuple[Lease, ...]:
        """Close every lease; returns those to unregister."""
        closed = (*self._leases.values(), *self._orphans)
        for lease in closed:
            lease.state = "closed"
        self._leases.clear()
        self._orphans.clear()
        return closed

    def delay_s(self, now: float) -> float | None:
        """Seconds until there is something to do; None: nothing until a lease is added."""
        if self._orphans:
            return 0.0
        times = [min(lease.due_at, self._loss_at(lease)) for lease in self._leases.values()]
        return max(0.0, min(times) - now) if times else None

    def take(self, now: float) -> Batch | None:
        """The next batch, if one is due. Renewals that would be due soon travel with it: leases registered one by one
        end up in one request."""
        orphans = [lease for lease in self._orphans if lease.key not in self._leases]
        self._orphans = []
        if orphans:
            return self._batch("unregister", orphans)
        due = [lease for lease in self._leases.values() if lease.due_at <= now]
        registers = [lease for lease in due if lease.must_register]
        if registers:
            return self._batch("register", registers)
        if not due:
            return None
        soon = [
            lease
            for lease in self._leases.values()
            if now < lease.due_at <= now + lease.ttl_s / 6 and not lease.must_register
        ]
        return self._batch("renew", due + soon)

    def expire(self, now: float) -> list[Notice]:
        """Leases whose TTL has passed without an acknowledged renewal. They may still exist (the registry's clock stops
        while it has no majority), but nobody can be sure of it."""
        return [
            self._lost(lease, f"no renewal was acknowledged for {lease.ttl_ms} ms ({lease.last_error or 'no answer'})")
            for lease in self._leases.values()
            if self._loss_at(lease) <= now
        ]

    def settle(self, batch: Batch, failed: Sequence[FailedInstance], began_at: float, now: float) -> list[Notice]:
        """The registry answered ``batch``. ``began_at``: for a renewal the start of the answered attempt; for a
        registration that of the first one, because a repeated request id answers with the first outcome."""
        by_lease = _matched(failed, batch.leases)
        factor = self._beat_factor()
        notices: list[Notice] = []
        for lease in batch.leases:
            if lease.state == "closed":
                self._settle_closed(lease, batch, now)
                continue
            failure = by_lease.get(lease)
            if failure is None:
                notices += self._kept(lease, batch, began_at, factor)
            elif lease.conditional and (failure.is_unknown or failure.is_conflict):
                lease.due_at = math.inf
                notices += self._lost_once(lease, failure.message)
            elif failure.is_unknown and batch.kind == "renew":
                lease.must_register = True
                lease.due_at = now
                notices += self._lost_once(lease, failure.message)
            else:
                self._retry_later(lease, f"{failure.code}: {failure.message}", now)
        return notices

    def fail(self, batch: Batch, error: ArtemisError | Exception, now: float) -> None:
        """No node answered ``batch``, or all of it was refused."""
        cut = is_too_large(error) and len(batch.leases) > 1
        if cut:
            self.batch_max = len(batch.leases) // 2
        for lease in batch.leases:
            if lease.state == "closed":
                self._settle_closed(lease, batch, now)
            elif cut:
                lease.due_at = now
            else:
                self._retry_later(lease, str(error), now)

    def _batch(self, kind: BatchKind, leases: Sequence[Lease]) -> Batch:
        taken = tuple(leases[: self.batch_max])
        if kind == "unregister":
            self._orphans += leases[self.batch_max :]
        else:
            for lease in taken:
                lease.due_at = math.inf
        return Batch(kind, taken, min(lease.ttl_s for lease in taken) / 6)

    def _kept(self, lease: Lease, batch: Batch, began_at: float, factor: float) -> list[Notice]:
        was_lost = lease.state == "lost"
        lease.state = "active"
        self._renewed(lease, began_at, factor)
        if not was_lost:
            return []
        how = "is registered again" if batch.kind == "register" else "was still registered and is renewed again"
        return [Notice(f"{_name(lease)} {how}", lease.on_reregistered, is_loss=False)]

    def _settle_closed(self, lease: Lease, batch: Batch, now: float) -> None:
        """The owner unregistered while a registration was on its way. The registry may have ordered it last, so an
        instance nobody owns would stay for a TTL: unregister again. If a new lease has the key, register that one
        again instead: the registry may hold the data of the old one."""
        if batch.kind != "register":
            return
        successor = self._leases.get(lease.key)
        if successor is None:
            self._orphans.append(lease)
        else:
            successor.must_register = True
            successor.due_at = now

    def _retry_later(self, lease: Lease, reason: str, now: float) -> None:
        lease.last_error = reason
        # Beyond 2**8 the cap of a sixth rules anyway.
        ceiling_s = min(lease.ttl_s / 6, lease.ttl_s / 24 * 2.0 ** min(lease.failures, 8))
        lease.failures += 1
        lease.due_at = now + self._rng.uniform(ceiling_s / 2, ceiling_s)

    def _renewed(self, lease: Lease, began_at: float, factor: float) -> None:
        lease.last_renewed = began_at
        lease.last_error = None
        lease.must_register = False
        lease.failures = 0
        lease.due_at = began_at + lease.ttl_s / 3 * factor

    def _beat_factor(self) -> float:
        """Drawn once per batch, so that leases which travel together stay together."""
        return self._rng.uniform(0.8, 1.0)

    def _loss_at(self, lease: Lease) -> float:
        return lease.last_renewed + lease.ttl_s if lease.state == "active" else math.inf

    def _lost_once(self, lease: Lease, reason: str) -> list[Notice]:
        return [self._lost(lease, reason)] if lease.state == "active" else []

    def _lost(self, lease: Lease, reason: str) -> Notice:
        lease.state = "lost"
        lease.last_error = reason
        return Notice(f"{_name(lease)}: lease lost: {reason}", lease.on_lost, is_loss=True)


def is_too_large(error: Exception) -> bool:
    """Nodes bound the instances of a request and its bytes, as their operators decide."""
    return isinstance(error, Refused) and error.code == "http-413"


def _name(lease: Lease) -> str:
    return f"{lease.instance.service_id}/{lease.instance.instance_id}"


def _matched(failed: Sequence[FailedInstance], leases: Sequence[Lease]) -> dict[Lease, FailedInstance]:
    """Which failure is about which lease. A region is compared only if both sides have one: a node may fill in its
    own. A failure that fits no lease is taken to be about all that have none: it must not pass for success."""
    by_ids: dict[tuple[str, str], list[Lease]] = {}
    for lease in leases:
        by_ids.setdefault(_ids(lease.key), []).append(lease)
    matched: dict[Lease, FailedInstance] = {}
    stray: FailedInstance | None = None
    for failure in failed:
        key = failure.key
        fitting = [] if key is None else [lease for lease in by_ids.get(_ids(key), ()) if _same_region(lease.key, key)]
        matched.update((lease, failure) for lease in fitting)
        if not fitting:
            stray = failure
    return matched if stray is None else {lease: matched.get(lease, stray) for lease in leases}


def _ids(key: InstanceKey) -> tuple[str, str]:
    return key.service_id, key.instance_id


def _same_region(ours: InstanceKey, theirs: InstanceKey) -> bool:
    return not ours.region_id or not theirs.region_id or ours.region_id == theirs.region_id
