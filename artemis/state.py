"""The parts of the replicated state as one value, and how much past it keeps."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from artemis.model import Change, Member
from artemis.protection import ProtectionState
from artemis.services import ServiceView
from artemis.sessions import Remembered, Session


class StateLimits(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How much past the state keeps. Part of the replicated state, because they decide what is trimmed when: nodes
    with different limits would give different answers. A snapshot brings its own."""

    changes_max: int = 10_000
    change_bytes_max: int = 8 * 1024 * 1024
    """Encoded size of the changes kept; in memory they take about four times as much where nothing else holds them."""
    requests_max: int = 100_000
    request_window_ms: int = 600_000
    evictions_max: int = 5_000
    """Leases that end or are held in one entry; the next entries go on with the rest. Each takes some 5 µs."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if getattr(self, field) < 0:
                raise ValueError(f"{field}: must not be negative")
        if self.evictions_max == 0:
            raise ValueError("evictions_max: must not be 0, else no lease ends")


class FrozenState(NamedTuple):
    """The whole state at one index. Its containers are its own; nothing that is in them changes any more."""

    limits: StateLimits
    applied_index: int
    revision: int
    clock_ms: int
    next_lease_id: int
    digest: int
    services: list[ServiceView]
    deadlines_ms: dict[int, int]
    held_until_ms: dict[int, int]
    protection: ProtectionState
    changes_oldest: int
    changes: list[Change]
    sessions: dict[str, Session]
    members: dict[str, Member]
    requests: dict[str, Remembered]
