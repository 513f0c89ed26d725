"""Protection against mass eviction: when too many leases would end within a short time, the rest is held.

That many instances fall silent together is more often a fault between them and this cluster than the end of all of
them, and a registry that then lists nobody turns it into an outage. The scopes are each service and, for what no
protected service holds, the whole registry.

**Entering.** A scope is protected once the leases that are due, with those it lost within ``window_ms``, are at least
``leases_min`` and more than ``share_percent`` of what it had. So a scope loses at most that many per window; the death
of one instance, or of a whole service of ``leases_min - 1``, is never delayed. Unregistered instances do not count.

**Held.** While its scope is protected, a lease that comes due is held instead of ended: its instance stays listed, a
renewal makes it an ordinary lease again, unregistering and registering anew work as always.

**Leaving.** Three ways out, so nothing stays by itself:

- each lease is held until ``hold_ms`` after its own deadline and no longer: they end as spread as they came due;
- a scope that holds none any more is free at the next look, which is every ``CHECK_MS``;
- a scope that has held no more than it may lose for ``window_ms`` has its leases back: what is still silent ends.

The scope is judged by what is held and lost, not by the renewals of better times: a remembered maximum is what makes
the earlier servers stay unsafe for ever after a real loss.

Pure and part of the replicated state. Only ordinary ends count towards a scope, not those of held leases: they would
bring the protection back that has just ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec

CHECK_MS = 1_000
"""Lease time between two looks at whether protection can end. Each costs by protected services."""

_DAY_MS = 86_400_000

ProtectedScope = Literal["registry", "services"]


class ProtectionSettings(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """When to protect. Replicated, because nodes with different settings would end different leases."""

    enabled: bool = True
    share_percent: int = 15
    """1 to 100. At 100 a scope is protected only when it would lose more than it has: never."""
    leases_min: int = 50
    window_ms: int = 10_000
    hold_ms: int = 300_000

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("share_percent", self.share_percent, 1, 100),
            ("leases_min", self.leases_min, 1, 1_000_000_000),
            ("window_ms", self.window_ms, 1_000, _DAY_MS),
            ("hold_ms", self.hold_ms, 1_000, 7 * _DAY_MS),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name}: must be {least} to {most}")

    def allowance(self, leases: int) -> int:
        """How many of so many leases may end within a window."""
        return max(self.leases_min - 1, leases * self.share_percent // 100)


class Scope(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    since_ms: int
    calm_since_ms: int | None = None
    """Since when it has held no more than it may lose; None: it holds more."""


class Ended(NamedTuple):
    """Leases of one service that ended in one entry."""

    clock_ms: int
    service_id: str
    leases: int


class ProtectionState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All of it but the held leases, which the lease table has."""

    settings: ProtectionSettings
    whole: Scope | None
    services: dict[str, Scope]
    ended: list[Ended]
    check_ms: int


class ProtectedService(NamedTuple):
    service_id: str
    """Lower-cased."""
    since_ms: int
    held: int


class ProtectionView(NamedTuple):
    """What is protected at one moment. Times are on the lease clock."""

    settings: ProtectionSettings
    since_ms: int | None
    """Of the whole registry; None: it is not protected, though services may be."""
    services: tuple[ProtectedService, ...]
    """Those protected for themselves."""
    held: int
    """Leases whose deadline has passed and that have not ended, of all services."""

    @property
    def active(self) -> bool:
        return self.since_ms is not None or bool(self.services)


class Counts(Protocol):
    """What protection asks of the leases and services beside it."""

    def leases(self, service_id: str | None) -> int:
        """Of this service, or of all; held ones included."""

    def held(self, service_id: str | None) -> int: ...


class Protection:
    """Decides; the registry holds and ends."""

    __slots__ = ("_check_ms", "_counts", "_ended", "_ended_of", "_ended_sum", "_services", "_settings", "_whole")

    def __init__(self, counts: Counts, state: ProtectionState | None = None) -> None:
        self._counts = counts
        self._settings = ProtectionSettings() if state is None else state.settings
        self._whole: Scope | None = None if state is None else state.whole
        self._services: dict[str, Scope] = {} if state is None else dict(state.services)
        self._check_ms = 0 if state is None else state.check_ms
        self._ended: deque[Ended] = deque() if state is None else deque(state.ended)
        self._ended_of: dict[str, int] = {}
        self._ended_sum = 0
        for each in self._ended:
            self._count(each.service_id, each.leases)

    @property
    def active(self) -> bool:
        return self._whole is not None or bool(self._services)

    @property
    def scope(self) -> ProtectedScope | None:
        """The widest that is protected."""
        if self._whole is not None:
            return "registry"
        return "services" if self._services else None

    @property
    def settings(self) -> ProtectionSettings:
        return self._settings

    def state(self) -> ProtectionState:
        """A copy that later calls do not touch."""
        return ProtectionState(self._settings, self._whole, self._services.copy(), list(self._ended), self._check_ms)

    def view(self) -> ProtectionView:
        services = tuple(
            ProtectedService(service_id, scope.since_ms, self._counts.held(service_id))
            for service_id, scope in self._services.items()
        )
        since_ms = None if self._whole is None else self._whole.since_ms
        return ProtectionView(self._settings, since_ms, services, self._counts.held(None))

    def configure(self, settings: ProtectionSettings) -> bool:
        """Take these settings. True if every held lease is to be let go."""
        self._settings = settings
        if settings.enabled:
            return False
        self._whole = None
        self._services.clear()
        self._ended.clear()
        self._ended_of.clear()
        self._ended_sum = 0
        return True

    def protects(self, service_id: str) -> bool:
        return self._whole is not None or service_id in self._services

    def judge(self, due: Mapping[str, int], clock_ms: int) -> None:
        """So many leases are due, by service: protect the scopes that would lose too many. Services come first, so that
        one that is held for itself does not bring the others under protection."""
        if not self._settings.enabled:
            return
        self._forget_before(clock_ms - self._settings.window_ms)
        loose = 0
        for service_id, count in due.items():
            if service_id not in self._services:
                lost = self._ended_of.get(service_id, 0)
                if count + lost > self._settings.allowance(self._counts.leases(service_id) + lost):
                    self._enter(service_id, clock_ms)
                else:
                    loose += count
        lost = self._ended_sum
        if self._whole is None and loose + lost > self._settings.allowance(self._counts.leases(None) + lost):
            self._enter(None, clock_ms)

    def on_ended(self, ended: Mapping[str, int], clock_ms: int) -> None:
        """So many leases were ended at their deadlines, by service."""
        if self._settings.enabled:
            for service_id, count in ended.items():
                self._ended.append(Ended(clock_ms, service_id, count))
                self._count(service_id, count)

    def leave(self, clock_ms: int, holding: Iterable[str]) -> list[str]:
        """End the protection of scopes that may. ``holding``: the services with held leases. Returns those of them
        whose held leases nothing protects any more."""
        if not self.active or clock_ms < self._check_ms:
            return []
        self._check_ms = clock_ms + CHECK_MS
        self._forget_before(clock_ms - self._settings.window_ms)
        held_by_services = 0
        for service_id, scope in list(self._services.items()):
            held = self._counts.held(service_id)
            held_by_services += held
            after = self._judged(scope, held, self._counts.leases(service_id), clock_ms)
            if after is None:
                del self._services[service_id]
            else:
                self._services[service_id] = after
        if self._whole is not None:
            held = self._counts.held(None) - held_by_services
            self._whole = self._judged(self._whole, held, self._counts.leases(None), clock_ms)
        return [service_id for service_id in holding if not self.protects(service_id)]

    def _judged(self, scope: Scope, held: int, leases: int, clock_ms: int) -> Scope | None:
        """The scope after this look; None: it needs no protection any more."""
        if held == 0:
            return None
        if held > self._settings.allowance(leases):
            return Scope(scope.since_ms)
        if scope.calm_since_ms is None:
            return Scope(scope.since_ms, clock_ms)
        return scope if clock_ms - scope.calm_since_ms < self._settings.window_ms else None

    def _enter(self, service_id: str | None, clock_ms: int) -> None:
        if not self.active:
            self._check_ms = clock_ms + CHECK_MS
        if service_id is None:
            self._whole = Scope(clock_ms)
        else:
            self._services[service_id] = Scope(clock_ms)

    def _count(self, service_id: str, leases: int) -> None:
        self._ended_sum += leases
        self._ended_of[service_id] = self._ended_of.get(service_id, 0) + leases

    def _forget_before(self, clock_ms: int) -> None:
        while self._ended and self._ended[0].clock_ms < clock_ms:
            _, service_id, leases = self._ended.popleft()
            self._ended_sum -= leases
            self._ended_of[service_id] -= leases
            if not self._ended_of[service_id]:
                del self._ended_of[service_id]
