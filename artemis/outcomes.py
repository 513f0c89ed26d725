"""What ``apply`` answers, one value per proposal. Rejections are values too: an entry that is refused is applied."""

from __future__ import annotations

from typing import Literal

import msgspec


class Conflict(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The instance at ``position`` of the command did not meet its condition, so nothing was done to it.

    ``revision`` and ``epoch`` are those of its record when that was decided; both 0 if there was none.
    """

    position: int
    revision: int
    epoch: int


class Registered(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=1):
    """``revision`` is the cluster revision after the command; ``lease_ids`` and ``created`` follow the order asked,
    with 0 and False at the positions that ``refused`` names."""

    revision: int
    lease_ids: tuple[int, ...]
    created: tuple[bool, ...]
    refused: tuple[Conflict, ...] = ()


class Renewed(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=2):
    """Positions (in the command) of the leases and keys that do not exist. All others run anew, except for the keys
    that ``refused`` names."""

    revision: int
    missing_leases: tuple[int, ...] = ()
    missing_keys: tuple[int, ...] = ()
    refused: tuple[Conflict, ...] = ()


class Unregistered(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=3):
    """``existed`` follows the order asked. What ``refused`` names is as it was."""

    revision: int
    existed: tuple[bool, ...]
    refused: tuple[Conflict, ...] = ()


class Announced(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=4):
    revision: int


class Configured(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=6):
    revision: int


RefusalReason = Literal["expired", "request-id-reused", "superseded"]


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=5):
    """Definitely not applied, and never will be.

    ``expired``: its time budget passed before it was ordered. ``request-id-reused``: the id names another request.
    ``superseded``: a later start of the same node has proposed since.
    """

    revision: int
    reason: RefusalReason


Outcome = Registered | Renewed | Unregistered | Announced | Configured | Refused
