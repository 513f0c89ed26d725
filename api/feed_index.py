"""The kept changes by service: a reader of a few services does not look through those of all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

from artemis.model import Change, Compacted
from artemis.registry import Registry

_by_revision = attrgetter("revision")


class ServiceChanges:
    """What the registry's ring holds, by canonical service id. As long as the ring, and trimmed with it."""

    def __init__(self, registry: Registry) -> None:
        self._of: dict[str, deque[Change]] = {}
        self._order: deque[tuple[int, str]] = deque()
        changes = registry.changes_since(registry.changes_oldest)
        assert not isinstance(changes, Compacted)
        self.add(registry, changes)

    def add(self, registry: Registry, changes: Iterable[Change]) -> None:
        """``changes`` follow those that are here."""
        for change in changes:
            service = change.instance.service_id.lower()
            kept = self._of.get(service)
            if kept is None:
                kept = self._of[service] = deque()
            kept.append(change)
            self._order.append((change.revision, service))
        oldest = registry.changes_oldest
        while self._order and self._order[0][0] <= oldest:
            service = self._order.popleft()[1]
            kept = self._of[service]
            kept.popleft()
            if not kept:
                del self._of[service]

    def since(self, revision: int, services: Iterable[str]) -> Sequence[Change]:
        """Changes of ``services`` after ``revision``, in order. Costs what it returns, and a look at each service."""
        found: list[Change] = []
        for service in services:
            for change in reversed(self._of.get(service, ())):
                if change.revision <= revision:
                    break
                found.append(change)
        found.sort(key=_by_revision)
        return found
