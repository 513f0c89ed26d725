"""What the clients saw, and whether a linearizable registry can have answered like that.

The workload is sets of unique elements: each instance id is registered by one operation only. A lost write, one applied
twice, one from nowhere and a stale read are then all visible in what reads return, without a search.

Outcomes: ``ok`` = happened; ``fail`` = did not and never will; ``info`` = unknown, it
may happen at any time from its call on. Touching intervals are concurrent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from artemis.commands import Command

Kind = Literal["add", "remove", "read", "stale-read"]
Outcome = Literal["ok", "fail", "info"]


@dataclass(slots=True)
class Operation:
    number: int
    client: str
    kind: Kind
    service: str
    called_at: float
    elements: tuple[str, ...] = ()
    """What it adds or removes: all of it at one point in time."""
    returned_at: float = float("inf")
    outcome: Outcome = "info"
    revision: int = 0
    """Of the state that the answer was computed from."""
    seen: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    """Of a remove: what was not there."""
    node: str = ""
    attempts: int = 0
    command: Command | None = None
    """What is ordered for it, if it is not what clients of the engine send."""

    def __str__(self) -> str:
        what = ",".join(self.elements)
        return (
            f"#{self.number} {self.client} {self.kind} {self.service} {what} [{self.called_at:.4f} .. "
            f"{self.returned_at:.4f}] {self.outcome} at revision {self.revision} by {self.node}"
        )


@dataclass(slots=True)
class History:
    operations: list[Operation] = field(default_factory=list)

    def call(self, client: str, kind: Kind, service: str, now: float, elements: tuple[str, ...] = ()) -> Operation:
        operation = Operation(len(self.operations), client, kind, service, now, elements)
        self.operations.append(operation)
        return operation

    def ok(self, kind: Kind) -> int:
        return sum(1 for operation in self.operations if operation.kind == kind and operation.outcome == "ok")


@dataclass(slots=True)
class _Element:
    added: Operation
    removed: Operation | None = None


def check(history: History) -> list[str]:
    """Every contradiction found, in words; empty when there is none."""
    return [*_real_time(history), *_one_state_per_revision(history), *_elements(history)]


def _real_time(history: History) -> Iterator[str]:
    """Revisions follow real time: what was called after an answer is not computed from an older state."""
    answered = sorted((o for o in history.operations if o.outcome == "ok"), key=lambda o: o.returned_at)
    called = sorted((o for o in answered if o.kind in ("add", "remove", "read")), key=lambda o: (o.called_at, o.number))
    latest: Operation | None = None
    position = 0
    for operation in called:
        while position < len(answered) and answered[position].returned_at < operation.called_at:
            candidate = answered[position]
            if candidate.kind != "stale-read" and (latest is None or candidate.revision > latest.revision):
                latest = candidate
            position += 1
        # A retried write returns the outcome of its first copy, which is as old as its own call at most.
        if latest is not None and operation.revision < latest.revision:
            yield f"{operation} is older than {latest}"


def _one_state_per_revision(history: History) -> Iterator[str]:
    """Any two reads of one service at one revision see the same, linearizable or not."""
    first: dict[tuple[str, int], Operation] = {}
    for operation in history.operations:
        if operation.outcome == "ok" and operation.kind in ("read", "stale-read"):
            other = first.setdefault((operation.service, operation.revision), operation)
            if other.seen != operation.seen:
                difference = sorted(other.seen ^ operation.seen)
                yield f"{operation} and {other} differ at one revision in {difference}"


def _elements(history: History) -> Iterator[str]:
    by_service: dict[str, dict[str, _Element]] = {}
    several: set[str] = set()
    for operation in history.operations:
        elements = by_service.setdefault(operation.service, {})
        for element in operation.elements:
            if operation.kind == "add":
                elements[element] = _Element(operation)
                if len(operation.elements) > 1:
                    several.add(element)
            elif operation.outcome != "fail":
                elements[element].removed = operation
    for operation in history.operations:
        elements = by_service[operation.service]
        if operation.missing and operation.outcome == "ok":
            # Elements are removed once, by a client that saw them acknowledged.
            yield f"{operation} did not find {operation.missing}"
        if operation.outcome == "ok" and operation.kind in ("read", "stale-read"):
            yield from _invented(operation, elements)
            if operation.kind == "read":
                yield from _lost(operation, elements)
            yield from _torn(operation, elements, several)


def _invented(read: Operation, elements: dict[str, _Element]) -> Iterator[str]:
    for name in sorted(read.seen):
        element = elements.get(name)
        if element is None:
            yield f"{read} sees {name}, which nobody added"
        elif element.added.outcome == "fail":
            yield f"{read} sees {name}, but {element.added} definitely failed"
        elif element.added.called_at > read.returned_at:
            yield f"{read} sees {name} before {element.added} was called"
        elif read.kind == "read" and element.removed is not None:
            removed = element.removed
            if removed.outcome == "ok" and removed.returned_at < read.called_at:
                yield f"{read} sees {name} after {removed}"


def _lost(read: Operation, elements: dict[str, _Element]) -> Iterator[str]:
    for name in sorted(elements.keys() - read.seen):
        added, removed = elements[name].added, elements[name].removed
        acknowledged = added.outcome == "ok" and added.returned_at < read.called_at
        if acknowledged and (removed is None or removed.called_at > read.returned_at):
            yield f"{read} lacks {name}, acknowledged by {added}"


def _torn(read: Operation, elements: dict[str, _Element], several: set[str]) -> Iterator[str]:
    """The elements of one add appear together, unless some of them are being removed. ``several``: those that were
    added with others."""
    for name in sorted(read.seen & several):
        missing = [other for other in elements[name].added.elements if other not in read.seen]
        untouched = [other for other in missing if elements[other].removed is None]
        if untouched:
            yield f"{read} sees {name} without {untouched} of the same request"


def violations_text(found: Iterable[str], limit: int = 5) -> str:
    lines = list(found)
    more = f"\n... and {len(lines) - limit} more" if len(lines) > limit else ""
    return "\n".join(lines[:limit]) + more
