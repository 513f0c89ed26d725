"""One watch without IO: which call comes next, and what its answer means. Pure.

A watch is a revision. Each long poll goes to whichever node works and asks for what came after it, so changing nodes
needs nothing of them but that they reach it. Only when a node says that the changes are not kept any more, or that the
cluster's history is not the one the revision is of, are the services read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

from artemis.client import wire
from artemis.client.answers import Interpret, interpreter
from artemis.client.call import Call
from artemis.client.results import Provenance, Services
from artemis.client.watch_events import (
    WatchBookmark,
    WatchChanges,
    WatchedChange,
    WatchEvent,
    WatchInterrupted,
    WatchState,
)
from artemis.errors import InvalidInput, Unavailable

WAIT_S = 10.0
"""A node that stopped answering is noticed when this and the read time-out have passed."""
WAIT_S_MAX = 300.0
"""Nodes refuse to be asked for more, unless configured otherwise; one that allows less is asked for less."""

Because = Literal["start", "compacted", "rebuilt"]


class Compacted:
    """The answer to a revision that is too old."""


Found = WatchChanges | Compacted
Heard = Found | Services
Poll = Callable[[int, int], Call[Found]]
"""``(revision, wait_ms)`` -> a call for what came after it, which may be kept waiting so long."""
Read = Callable[[], Call[Services]]
"""A call for the watched services."""


class Watching:
    """``take_pause_s``, ``next_call``, then ``answered``, ``failed`` or ``refused``, and so on for ever."""

    def __init__(self, since: int | None, wait_s: float, poll: Poll, read: Read, pause_s: Callable[[], float]) -> None:
        """``pause_s`` draws the seconds between a call that failed and the next one."""
        self._revision = since
        self._draw_pause_s = pause_s
        self._pause_s = 0.0
        self._wait_ms = max(1, int(wait_s * 1000))
        self._poll = poll
        self._read = read
        self._reads: Because | None = "start" if since is None else None
        """Why the services are to be read."""

    def next_call(self) -> Call[Heard]:
        # A call is only asked for its value, so one of a part of the union is one of the union.
        if self._reads is not None or self._revision is None:
            return cast(Call[Heard], self._read())
        return cast(Call[Heard], self._poll(self._revision, self._wait_ms))

    def take_pause_s(self) -> float:
        """Seconds to wait before ``next_call``. A client without tokens for retries fails at once where connections are
        refused, and a watch that went on at once would do so a hundred times a second."""
        pause_s, self._pause_s = self._pause_s, 0.0
        return pause_s

    def answered(self, answer: Heard) -> WatchEvent | None:
        """What to tell; None: nothing yet, another call is needed first."""
        match answer:
            case Services():
                return self._state(answer)
            case WatchChanges():
                self._revision = answer.revision
                return answer if answer.changes else WatchBookmark(revision=answer.revision)
            case Compacted():
                self._reads = "compacted"
                return None

    def failed(self, error: Unavailable) -> WatchInterrupted:
        self._pause_s = self._draw_pause_s()
        if self._revision is not None and self._reads is None:
            # Perhaps no node will ever reach the revision, because it is of a history that is gone: a read shows it.
            self._reads = "rebuilt"
        return WatchInterrupted(error=error, revision=self._revision)

    def refused(self, error: InvalidInput) -> None:
        """Raises ``error``, unless it is about the wait, of which a node may allow as little as a millisecond."""
        if error.field != "wait" or self._wait_ms == 1:
            raise error
        self._wait_ms //= 2

    def _state(self, state: Services) -> WatchEvent | None:
        because, self._reads = self._reads or "start", None
        revision = state.revision or 0
        if because == "rebuilt" and self._revision is not None and revision >= self._revision:
            return None  # an outage like others: the watch goes on where it was
        self._revision = revision
        services = tuple(service for service in state.services if service.instances)
        return WatchState(because=because, services=services, revision=revision)


def checked(services: str | Sequence[str] | None, since: int | None, wait_s: float) -> tuple[str, ...] | None:
    """The services as asked, without repetitions. Raises ``InvalidInput``."""
    if since is not None and (isinstance(since, bool) or not isinstance(since, int) or since < 0):
        raise InvalidInput("since", f"must be a revision, 0 or more, not {since!r}")
    if not isinstance(wait_s, int | float) or not 0 < wait_s <= WAIT_S_MAX:
        raise InvalidInput("wait_s", f"must be above 0 and at most {WAIT_S_MAX:g} seconds, not {wait_s!r}")
    if services is None:
        return None
    if not isinstance(services, Iterable):
        raise InvalidInput("services", f"must be ids of services, not {services!r}")
    names = (services,) if isinstance(services, str) else tuple(services)
    for name in names:
        if not isinstance(name, str) or not name.strip() or "," in name:
            raise InvalidInput("services", f"each must be the id of a service, without commas, not {name!r}")
    if not names:
        raise InvalidInput("services", "must name a service; None watches all of them")
    return tuple(dict.fromkeys(names))


def _accept(response: wire.WatchResponse, provenance: Provenance) -> Found:
    if response.compacted:
        return Compacted()
    changes = tuple(
        WatchedChange(
            revision=change.revision,
            type=change.change_type,
            instance=wire.instance_of(change.instance),
            time_ms=change.change_time,
        )
        for change in response.changes or ()
    )
    return WatchChanges(changes=changes, revision=response.revision)


FOUND: Interpret[Found] = interpreter(wire.WatchResponse, _accept, empty_on_not_found=True)
