"""Failures as values that say whether the operation may have happened.

::

    ArtemisError                 abstract; carries ``definite``
    ├── InvalidInput             the caller's data is wrong; nothing was sent anywhere (definite)
    ├── Unavailable              no leader, no majority, not ready, overload, time budget used up (definite or not)
    ├── RequestIdReused          the request id belongs to a different earlier request (definite)
    └── DataDamaged              bytes on disk or on the wire are not what was written (definite)

*Definite* means: it did not happen and never will. When in doubt an error is indefinite, which is always safe.
"""

from __future__ import annotations


class ArtemisError(Exception):
    """Base of every failure of this project. Never raised itself."""

    definite: bool = True

    def __init__(self, message: str) -> None:
        if type(self) is ArtemisError:
            raise TypeError("raise one of the subclasses of ArtemisError")
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self)


class InvalidInput(ArtemisError):
    """The caller's data breaks a rule. ``field`` names the part that does."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class Unavailable(ArtemisError):
    """The cluster or this node cannot do it now; another node or a later attempt may.

    ``definite`` is an instance value here: False as soon as the proposal has left the node that took it.
    """

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class RequestIdReused(ArtemisError):
    """A request id came back with a different request. Nothing was changed."""


class DataDamaged(ArtemisError):
    """Stored or received bytes fail their checksum, their format version or their own structure."""
