"""How a call can fail: the tree of ``artemis.errors``, continued where the client knows more.

::

    ArtemisError
    ├── Unavailable
    │   └── ClusterUnavailable   no node gave an answer within the budgets; names every attempt
    ├── Refused                  a node understood the request and said no
    │   └── ConditionFailed      the instance is not what the call expected of it
    └── ClientClosed             the client was used after ``close``
"""

from __future__ import annotations

from dataclasses import dataclass

from artemis.errors import ArtemisError, Unavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request to one node that gave no usable answer."""

    node: str
    reason: str
    definite: bool
    """True: this attempt changed nothing and never will."""
    took_s: float

    def __str__(self) -> str:
        return f"{self.node} after {self.took_s:.2f} s: {self.reason}" + ("" if self.definite else " (outcome unknown)")


class ClusterUnavailable(Unavailable):
    """Every attempt failed. ``definite`` only if every attempt was: one unknown attempt may still be applied."""

    def __init__(self, what: str, stopped_by: str, attempts: tuple[Attempt, ...]) -> None:
        definite = all(attempt.definite for attempt in attempts)
        outcome = "did not happen" if definite else "may or may not happen"
        listed = "; ".join(map(str, attempts)) or "none"
        super().__init__(f"{what} {outcome}: {stopped_by}; attempts: {listed}", definite=definite)
        self.attempts = attempts


class Refused(ArtemisError):
    """A node understood the request and refused it. ``code`` is its error code (``no-permission``, ``http-404``, …)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class ConditionFailed(Refused):
    """Nothing was changed: the instance is of ``revision`` and ``epoch``; both 0 if there is none."""

    def __init__(self, code: str, message: str, *, revision: int, epoch: int) -> None:
        super().__init__(code, message)
        self.revision = revision
        self.epoch = epoch


class ClientClosed(ArtemisError):
    """The client was closed before the call (definite) or during it (not)."""


def closed_during_call() -> ClientClosed:
    """The client was closed by another thread or task. What the call had sent may still be applied."""
    error = ClientClosed("the client was closed during the call")
    error.definite = False
    return error
