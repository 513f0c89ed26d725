"""The vocabulary between the core and a shell: the core asks for an action, the shell does it and tells the event.

A shell is this loop and nothing more::

    event = None
    while True:
        match call.step(event, clock()):
            case Send() as send:   event = exchange(send)        # Answer or Failure
            case Wait(delay_s=d):  sleep(d); event = Waited()
            case Done(value=v):    return v
            case Fail(error=e):    raise e
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from artemis.errors import ArtemisError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt in seconds; their sum never exceeds what the call has left."""

    connect_s: float
    read_s: float

    @property
    def total_s(self) -> float:
        return self.connect_s + self.read_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Send:
    """Send ``body`` to ``node + path``."""

    method: Literal["GET", "POST"]
    node: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    timeouts: Timeouts

    @property
    def url(self) -> str:
        return self.node + self.path


@dataclass(frozen=True, slots=True)
class Wait:
    delay_s: float


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    value: T_co


@dataclass(frozen=True, slots=True)
class Fail:
    error: ArtemisError


Action = Send | Wait | Done[T] | Fail


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A complete HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No complete answer came. ``definite``: no byte of the request left this machine."""

    reason: str
    definite: bool


@dataclass(frozen=True, slots=True)
class Waited:
    """The asked delay has passed."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The owner of the call does not want it any more, so it must end now, without another attempt."""

    reason: str


Event = Answer | Failure | Waited | Abandoned
