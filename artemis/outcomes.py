"""What ``apply`` answers, one value per proposal. Rejections are values too: an entry that is refused is applied."""

from __future__ import annotations

from typing import Literal

import msgspec


class Registered(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=1):
    """``revision`` is the cluster revision after the command; ``lease_ids`` and ``created`` follow the order asked."""

    revision: int
    lease_ids: tuple[int, ...]
    created: tuple[bool, ...]


class Renewed(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=2):
    """Positions (in the command) of the leases and keys that do not exist. All others run anew."""

    revision: int
    missing_leases: tuple[int, ...] = ()
    missing_keys: tuple[int, ...] = ()


class Unregistered(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=3):
    revision: int
    existed: tuple[bool, ...]


class Announced(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=4):
    revision: int


RefusalReason = Literal["expired", "request-id-reused", "superseded"]


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=5):
    """Definitely not applied, and never will be.

    ``expired``: its time budget passed before it was ordered. ``request-id-reused``: the id names another request.
    ``superseded``: a later start of the same node has proposed since.
    """

    revision: int
    reason: RefusalReason


Outcome = Registered | Renewed | Unregistered | Announced | Refused
