"""What happens when an entry is applied, and when a snapshot takes the place of the applied state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Protocol

from artemis import snapshot
from artemis.commands import decode_entry
from artemis.consensus.digests import StateDigests
from artemis.consensus.leadership import Leadership
from artemis.consensus.proposing import Proposing
from artemis.consensus.reading import Reading
from artemis.registry import Registry

LET_GO_AT_ONCE = 500
"""Records of a replaced state that go with each entry: about 1 ms."""


class Host(Protocol):
    """The engine, as far as it depends on what is applied."""

    registry: Registry
    leadership: Leadership
    digests: StateDigests
    proposing: Proposing
    reading: Reading

    def now(self) -> float: ...


class Applying:
    def __init__(self, host: Host, now: float) -> None:
        self._host = host
        self._listeners: list[Callable[[int], None]] = []
        self.clock_moved_at = now
        """When this node, since it started, first applied the lease clock's present value."""
        self._replaced: Iterator[object] = iter(())
        """What is left of the state that a snapshot replaced."""

    def listen(self, listener: Callable[[int], None]) -> None:
        """``listener`` gets the index up to which everything is applied, whenever that grows. Must not raise."""
        self._listeners.append(listener)

    def apply(self, index: int, payload: bytes) -> None:
        """A committed entry, ``payload`` being empty for a leader's no-op."""
        host, now = self._host, self._host.now()
        for _ in islice(self._replaced, LET_GO_AT_ONCE):
            pass
        if payload:
            entry = decode_entry(payload)
            clock_ms = host.registry.clock_ms
            outcomes = host.registry.apply(index, entry)
            if host.registry.clock_ms != clock_ms:
                self.clock_moved_at = now
            host.proposing.on_applied(entry, outcomes)
        host.digests.on_applied(index)
        host.leadership.on_applied(index, now)
        self._tell(index)

    def replace(self, registry: Registry, index: int) -> None:
        """``registry`` is the state after entry ``index``."""
        host = self._host
        registry.lease_stats = host.registry.lease_stats
        self._replaced = chain(self._replaced, snapshot.take_apart(host.registry))
        host.registry = registry
        host.digests.on_replaced()
        self.clock_moved_at = host.now()
        host.proposing.on_replaced(registry)
        self._tell(index)

    def _tell(self, index: int) -> None:
        self._host.reading.revisions.release(self._host.registry.revision)
        for listener in self._listeners:
            listener(index)
