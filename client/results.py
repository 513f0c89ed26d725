"""What reads return, with what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from artemis.model import Instance

Consistency = Literal["linearizable", "session", "stale"]
CONSISTENCIES: tuple[Consistency, ...] = ("linearizable", "session", "stale")


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where an answer comes from. ``None``: the node did not say (an earlier Artemis server)."""

    node: str
    """The id of the node that answered, or its address."""
    revision: int | None = None
    """The revision of the registry the answer shows."""
    consistency: str | None = None
    """The level really given."""
    age_ms: float | None = None
    """How old the state was at most, as the node can prove it; None also if it cannot."""


@dataclass(frozen=True, slots=True)
class InstanceVersion:
    """Which registration of an instance: both numbers change with every registration of it, and with nothing else."""

    revision: int
    epoch: int
    """Of its lease."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service(Provenance):
    """One service as a node showed it. A service nobody registered has no instances."""

    service_id: str
    instances: tuple[Instance, ...]
    versions: tuple[InstanceVersion, ...] = ()
    """Of each instance, if they were asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Services(Provenance):
    """All services that have instances, from one revision."""

    services: tuple[Service, ...]

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services)

    def __len__(self) -> int:
        return len(self.services)
