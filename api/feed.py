"""The change feed of a node: who waits for which changes, and what it gets.

Nothing is queued for anybody. A subscription is a position, a revision up to which its reader has seen everything; what
follows is read from the registry's ring of changes when the reader asks. So a reader that stands still costs the same
few hundred bytes as one that keeps up, and one that stood still for too long is told so (``Behind``), never given a
stream with a gap. The same answer follows when a snapshot took the place of the state and the changes between are
not known here.

A node applies an entry of the log as a whole, so the state between two turns of the event loop ends with a whole entry,
and so does everything read from it.

What wakes a reader is an index from service to idle subscriptions: a change of one service costs nothing to readers of
another. An idle subscription is complete up to the feed's own revision although its position stays where it was;
it is set forward when the subscription is called, so no reader ever looks through changes that are not for it. Readers
are called in slices: five thousand at once would keep the loop from everything else for longer than a heartbeat.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple

from artemis.api.feed_index import ServiceChanges
from artemis.api.ports import ReplicatedRegistry
from artemis.model import Change, Compacted

CALLED_AT_ONCE = 128
"""Readers that are called in one turn of the event loop: some milliseconds of work."""
BATCH_CHANGES_MAX = 250
"""A batch is cut here, behind the last change of an entry; a longer entry is not cut. Each of thousands of sockets may
have one such message in its buffer."""


class Batch(NamedTuple):
    """Every change that the subscription is for, after the revision of the batch before and up to ``revision``.

    Changes are in order, and those of one entry of the log are in one batch. None at all: nothing happened until the
    time given to ``next`` was over, and ``revision`` is a bookmark.
    """

    changes: tuple[Change, ...]
    revision: int


class Behind(NamedTuple):
    """Some of the changes are not kept any more: the reader has to read the state again.

    Every further ``next`` says so too, until ``seek`` names the revision of the state that was read.
    """

    oldest: int
    """The smallest revision from which this node can still list every change."""


class ChangeFeed:
    """One per application. Everything happens on the thread of the event loop."""

    def __init__(self, node: ReplicatedRegistry) -> None:
        self._node = node
        self._revision = node.registry.revision
        self._index: ServiceChanges | None = None
        """Made for the first reader of single services."""
        self._idle_of: dict[str, dict[Subscription, None]] = {}
        self._idle_of_all: dict[Subscription, None] = {}
        self._idle = 0
        self._called: deque[Subscription] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop
        """That of the readers. Entries may be applied outside of it."""
        self._open = 0
        self.draining = False
        """The node is about to stop: whoever waits with a time limit gets its bookmark now."""
        node.on_applied(self._on_applied)

    @property
    def subscriptions(self) -> int:
        """How many are open."""
        return self._open

    @property
    def revision(self) -> int:
        """Of the state that readers can get now."""
        return self._node.registry.revision

    @property
    def oldest(self) -> int:
        """The smallest revision that can be subscribed to without being ``Behind``."""
        return self._node.registry.changes_oldest

    def subscribe(self, since: int | None = None, services: Iterable[str] | None = None) -> Subscription:
        """Changes after revision ``since`` (None: after the current one) of ``services`` (None: of all).

        ``services`` are canonical (``model.canonical``). A ``since`` that this node has not reached is allowed: nothing
        comes before it has.
        """
        self._open += 1
        position = self.revision if since is None else since
        return Subscription(self, position, None if services is None else frozenset(services))

    def drain(self) -> None:
        """See ``draining``."""
        self.draining = True
        waiting = [subscription for idle in self._idle_of.values() for subscription in idle]
        for subscription in (*self._idle_of_all, *waiting):
            subscription._call()

    # Waking

    def _on_applied(self, _index: int) -> None:
        if self._idle and self._scheduled is None and self._node.registry.revision != self._revision:
            self._scheduled = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._advance()
        for _ in range(min(len(self._called), CALLED_AT_ONCE)):
            self._called.popleft()._call()
        # Behind everything that the readers called in this turn have to do.
        self._scheduled = self._loop.call_soon(self._turn) if self._called else None

    def _advance(self) -> None:
        """Look at what was applied since the last look, and mark the idle readers it is for."""
        registry = self._node.registry
        before, self._revision = self._revision, registry.revision
        if before == registry.revision:
            return
        changes = registry.changes_since(before)
        if isinstance(changes, Compacted):
            if self._index is not None:
                self._index = ServiceChanges(registry)
            for idle in (self._idle_of_all, *self._idle_of.values()):
                self._mark(idle, before)
            return
        if self._index is not None:
            self._index.add(registry, changes)
        if not self._idle:
            return
        if changes and self._idle_of_all:
            self._mark(self._idle_of_all, before)
        if self._idle_of:
            for change in changes:
                waiting = self._idle_of.get(change.instance.service_id.lower())
                if waiting:
                    self._mark(waiting, before)

    def _mark(self, waiting: dict[Subscription, None], complete_to: int) -> None:
        """Take all of ``waiting``, which have seen everything up to ``complete_to``, for the next turns."""
        for subscription in waiting:
            if subscription._mark(complete_to):
                self._idle -= 1
                self._called.append(subscription)
        waiting.clear()
        if self._called and self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._turn)

    # For subscriptions

    def _wait(self, subscription: Subscription, services: Iterable[str] | None) -> None:
        """``subscription`` has seen everything up to now and waits for changes of ``services``."""
        self._idle += 1
        self._loop = asyncio.get_running_loop()
        self._enlist(subscription, services)

    def _enlist(self, subscription: Subscription, services: Iterable[str] | None) -> None:
        if services is None:
            self._idle_of_all[subscription] = None
            return
        for service in services:
            self._idle_of.setdefault(service, {})[subscription] = None

    def _leave(self, subscription: Subscription, services: Iterable[str] | None) -> None:
        """``subscription`` is not for ``services`` any more."""
        if services is None:
            self._idle_of_all.pop(subscription, None)
            return
        for service in services:
            waiting = self._idle_of.get(service)
            if waiting is not None:
                waiting.pop(subscription, None)
                if not waiting:
                    del self._idle_of[service]

    def _read(self, position: int, services: frozenset[str] | None) -> Sequence[Change] | Compacted:
        self._advance()
        registry = self._node.registry
        if services is None or position < registry.changes_oldest:
            return registry.changes_since(position)
        if registry.revision - position <= len(services):
            changes = registry.changes_since(position)
            assert not isinstance(changes, Compacted)
            return [change for change in changes if change.instance.service_id.lower() in services]
        if self._index is None:
            self._index = ServiceChanges(registry)
        return self._index.since(position, services)


class Subscription:
    """A position in the feed. One reader; a context manager that closes it."""

    __slots__ = ("_feed", "_idle", "_position", "_services", "_waiter")

    def __init__(self, feed: ChangeFeed, position: int, services: frozenset[str] | None) -> None:
        self._feed: ChangeFeed | None = feed
        self._position = position
        self._services = services
        self._idle = False
        """Enlisted for its services, having seen everything up to the feed's revision."""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def revision(self) -> int:
        """The reader has been given every change up to this one that is for it."""
        if self._idle and self._feed is not None:
            return max(self._position, self._feed._revision)
        return self._position

    @property
    def services(self) -> frozenset[str] | None:
        return self._services

    async def next(self, wait_s: float | None = None) -> Batch | Behind:
        """What follows, as soon as there is something; after ``wait_s`` seconds (None: never) a bookmark.

        May be cancelled: what it would have returned comes with the next call.
        """
        timer: asyncio.TimerHandle | None = None
        timed_out = False

        def expire() -> None:
            nonlocal timed_out
            timed_out = True
            self._call()

        try:
            while (found := self._take()) is None:
                if timed_out or (self._feed is not None and self._feed.draining and wait_s is not None):
                    return Batch((), self.revision)
                loop = asyncio.get_running_loop()
                self._waiter = loop.create_future()
                if timer is None and wait_s is not None:
                    timer = loop.call_later(wait_s, expire)
                await self._waiter
            return found
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def seek(self, revision: int) -> None:
        """Go on after ``revision``: that of the state which was read because the position was too old."""
        self._stop_waiting()
        self._position = revision

    def narrow(self, services: Iterable[str] | None) -> None:
        """Be for these services from here on; of one that is added, changes after ``revision`` are given."""
        self._stop_waiting()
        if self._feed is not None:
            self._feed._leave(self, self._services)
        self._services = None if services is None else frozenset(services)
        self._call()

    def add(self, services: Iterable[str]) -> None:
        """Be for these services as well. No meaning for a subscription to all.

        At the cost of those that are new: clients subscribe to one service after the other, thousands of them."""
        if self._services is None:
            return
        new = frozenset(services) - self._services
        self._services |= new
        if self._idle and self._feed is not None:
            self._feed._advance()
            if self._idle:
                self._feed._enlist(self, new)

    def remove(self, services: Iterable[str]) -> None:
        if self._services is not None:
            self.narrow(self._services.difference(services))

    def close(self) -> None:
        """Forget it. A pending ``next`` does not return any more: cancel it."""
        if self._feed is not None:
            self._stop_waiting()
            self._feed._leave(self, self._services)
            self._feed._open -= 1
            self._feed = None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> Batch | Behind | None:
        feed = self._feed
        if feed is None:
            raise RuntimeError("the subscription is closed")
        if self._idle:
            feed._advance()
            if self._idle:
                return None
        changes = feed._read(self._position, self._services)
        if isinstance(changes, Compacted):
            return Behind(changes.oldest)
        if changes:
            return self._cut(changes, feed._revision)
        self._position = max(self._position, feed._revision)
        self._idle = True
        feed._wait(self, self._services)
        return None

    def _cut(self, changes: Sequence[Change], revision: int) -> Batch:
        """A batch from the beginning of ``changes``, which reach to ``revision``.

        Entries cannot be told apart in the ring, but their clocks can: changes with different clocks are of different
        entries.
        """
        end = BATCH_CHANGES_MAX
        while end < len(changes) and changes[end].clock_ms == changes[end - 1].clock_ms:
            end += 1
        if end < len(changes):
            changes, revision = changes[:end], changes[end - 1].revision
        self._position = revision
        return Batch(tuple(changes), revision)

    def _mark(self, complete_to: int) -> bool:
        """Something has come. False if that is known already."""
        if not self._idle:
            return False
        self._idle = False
        self._position = max(self._position, complete_to)
        return True

    def _call(self) -> None:
        """Let the reader look."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_waiting(self) -> None:
        if self._feed is not None:
            self._feed._advance()
            if self._idle:
                self._position = self.revision
                self._idle = False
                self._feed._idle -= 1
