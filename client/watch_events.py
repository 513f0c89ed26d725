"""What a watch tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from artemis.client.results import Service
from artemis.errors import Unavailable
from artemis.model import ChangeType, Instance


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedChange:
    """One change. Revisions are unique over the whole cluster."""

    revision: int
    type: ChangeType
    """``new``, ``change`` (registered again) or ``delete``; a lease that ended is a ``delete``."""
    instance: Instance
    time_ms: int
    """About when, by the clock of the node that told it. Order comes from ``revision``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchState:
    """All services that are watched, as of ``revision``: whatever was known before is to be replaced by it.

    ``because``: the watch begins (``start``), changes were missed that are not kept any more (``compacted``), or the
    cluster lost its history and began a new one (``rebuilt``).
    """

    because: Literal["start", "compacted", "rebuilt"]
    services: tuple[Service, ...]
    """Those that have instances."""
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchChanges:
    """Every change of the watched services after the revision told before and up to ``revision``, in order. Changes
    that were made together are in one event."""

    changes: tuple[WatchedChange, ...]
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchBookmark:
    """Nothing has changed up to ``revision``: a watch may go on from there."""

    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchInterrupted:
    """No node answered; the watch goes on asking, and misses nothing. ``revision``: where it will go on."""

    error: Unavailable
    revision: int | None


WatchEvent = WatchState | WatchChanges | WatchBookmark | WatchInterrupted
