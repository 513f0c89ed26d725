"""The verdict on a history of unique-element adds and whole-service reads. A pure function of its events.

What must hold (``linearizable`` reads unless said otherwise):

- **lost, stale-read**: an element is *known* from the acknowledgement of its add, or from the end of the first read
  that returned it. A read that begins later returns it. ``lost`` when no later read has it either, else ``stale-read``.
- **phantom**: no read of any kind returns an element that nobody had asked to add, or that failed for certain.
- **duplicate**: no read returns an element twice.
- **missing-at-end**: after the heal, each node returns every known element, linearizable and stale.
- **revision-went-back**: an operation's revision is not below that of an add or a read that ended before it began.
- **revision-ambiguous**: two reads of one revision return the same elements, on whatever node and at whatever level.
- **revision-shrank**: a read of a higher revision has all elements of a lower one (nothing is removed here).
- **two-leaders**: one term has one leader.
- **revision-misplaced**: a read of revision r has the acknowledged adds with a revision up to r, and no others.
- **not-linearizable**: one order of all adds and linearizable reads explains them. A second opinion that shares nothing
  with the rules above; asked when those have found nothing, because they name what they find better.

Intervals are closed: an operation that begins at the very instant another ends is concurrent with it. Read otherwise,
a clock that does not move between "ack 5" and "read" in two processes would turn a legal history into a violation.

Before any of this the harness itself is checked; a run that proves nothing is ``inconclusive``, not valid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jepsen_lite.history import Event, Operation, pair
from jepsen_lite.linearizability import set_workload
from jepsen_lite.witness import Limits, distrust, thin

Result = Literal["valid", "invalid", "inconclusive"]
EXIT_CODES: dict[Result, int] = {"valid": 0, "invalid": 1, "inconclusive": 2}


@dataclass(frozen=True, slots=True)
class Anomaly:
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    result: Result
    anomalies: tuple[Anomaly, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why the run proves nothing; empty unless inconclusive."""
    stats: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Read:
    """A successful read."""

    begin: int
    end: int
    node: str
    linearizable: bool
    final: bool
    rev: int | None
    elements: frozenset[str]
    op: int | None

    def __str__(self) -> str:
        level = "linearizable" if self.linearizable else "stale"
        return f"{level} read {self.op} on {self.node} ({len(self.elements)} elements, revision {self.rev})"


def check(events: Sequence[Event], limits: Limits | None = None) -> Verdict:
    """Judge a history. Anomalies outweigh thinness: a short run that shows a loss is invalid."""
    limits = limits or Limits()
    operations, faults = pair(events)
    faults += distrust(events, operations)
    if faults:
        return Verdict("inconclusive", reasons=tuple(f"harness: {fault}" for fault in faults[:20]))
    reads = list(_reads(operations))
    anomalies = [
        *_duplicates(operations),
        *_phantoms(operations, reads),
        *_missing(operations, reads),
        *_revision_order(operations),
        *_revision_contents(reads),
        *_two_leaders(operations),
    ]
    undecided: tuple[str, ...] = ()
    if not anomalies:
        anomalies += (Anomaly("revision-misplaced", detail) for detail in set_workload.misplaced(operations))
        searched = set_workload.search(operations)
        if searched.verdict == "invalid":
            anomalies += (Anomaly("not-linearizable", reason) for reason in searched.reasons)
        elif searched.verdict == "unknown":
            undecided = searched.reasons
    stats = _stats(operations, reads)
    if anomalies:
        return Verdict("invalid", tuple(anomalies), stats=stats)
    reasons = (*undecided, *thin(events, operations, limits))
    return Verdict("inconclusive" if reasons else "valid", reasons=reasons, stats=stats)


def _reads(operations: Sequence[Operation]) -> Iterator[_Read]:
    for operation in operations:
        done = operation.ok
        if operation.invoke.f == "read" and done is not None and isinstance(done.value, list):
            yield _Read(
                begin=operation.invoke.time,
                end=done.time,
                node=done.node or "?",
                linearizable=done.consistency == "linearizable",
                final=done.final,
                rev=done.rev,
                elements=frozenset(done.value),
                op=done.op,
            )


def _adds(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    adds: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.invoke.f == "add" and isinstance(operation.invoke.value, str):
            adds.setdefault(operation.invoke.value, []).append(operation)
    return adds


def _duplicates(operations: Sequence[Operation]) -> Iterator[Anomaly]:
    for operation in operations:
        done = operation.ok
        if done is not None and isinstance(done.value, list) and len(set(done.value)) != len(done.value):
            twice = [element for element, count in Counter(done.value).items() if count > 1]
            yield Anomaly("duplicate", f"read {done.op} on {done.node} returned {_some(twice)} more than once")


def _phantoms(operations: Sequence[Operation], reads: Sequence[_Read]) -> Iterator[Anomaly]:
    adds = _adds(operations)
    first_asked = {element: min(add.invoke.time for add in tries) for element, tries in adds.items()}
    refused = {
        element
        for element, tries in adds.items()
        if all(add.completion is not None and add.completion.type == "fail" for add in tries)
    }
    reported: set[str] = set()
    for read in reads:
        for element in sorted(read.elements - reported):
            asked = first_asked.get(element)
            if asked is None:
                why = "which nobody added"
            elif read.end < asked:
                why = "whose add had not begun"
            elif element in refused:
                why = "whose add was refused for certain"
            else:
                continue
            reported.add(element)
            yield Anomaly("phantom", f"{read} has {element}, {why}")


def _missing(operations: Sequence[Operation], reads: Sequence[_Read]) -> Iterator[Anomaly]:
    known = _known_since(operations, reads)
    in_order = sorted((since, element) for element, since in known.items())
    linearizable = sorted((read for read in reads if read.linearizable), key=lambda read: read.begin)
    last_seen: dict[str, int] = {}
    for read in linearizable:
        for element in read.elements:
            last_seen[element] = read.begin
    due: set[str] = set()
    position = 0
    reported: set[str] = set()
    for read in linearizable:
        while position < len(in_order) and in_order[position][0] < read.begin:
            due.add(in_order[position][1])
            position += 1
        absent = due - read.elements - reported
        reported |= absent
        lost = sorted(element for element in absent if last_seen.get(element, -1) < read.begin)
        stale = sorted(absent.difference(lost))
        if lost:
            yield Anomaly("lost", f"{read} and every later one lack {_some(lost)}, known before it began")
        if stale:
            yield Anomaly("stale-read", f"{read} lacks {_some(stale)}, known before it began")
    for read in reads:
        gone = sorted(set(known) - read.elements) if read.final else []
        if gone:
            yield Anomaly("missing-at-end", f"final {read} lacks {_some(gone)}")


def _known_since(operations: Sequence[Operation], reads: Sequence[_Read]) -> dict[str, int]:
    known: dict[str, int] = {}
    for operation in operations:
        done, element = operation.ok, operation.invoke.value
        if operation.invoke.f == "add" and done is not None and isinstance(element, str):
            known[element] = min(done.time, known.get(element, done.time))
    for read in sorted(reads, key=lambda read: read.end):
        for element in read.elements:
            # A stale read counts too: what it shows is committed, so a linearizable read after it must show it.
            if known.get(element, read.end + 1) > read.end:
                known[element] = read.end
    return known


def _revision_order(operations: Sequence[Operation]) -> Iterator[Anomaly]:
    """Real time against revisions: adds and linearizable reads only, a stale read may be old."""
    done = [
        (operation.invoke, operation.ok)
        for operation in operations
        if operation.ok is not None and (operation.invoke.f == "add" or operation.ok.consistency == "linearizable")
    ]
    ended = sorted(done, key=lambda pair: pair[1].time)
    position = 0
    highest: Event | None = None
    for invoke, completion in sorted(done, key=lambda pair: pair[0].time):
        while position < len(ended) and ended[position][1].time < invoke.time:
            other = ended[position][1]
            if other.rev is not None and (highest is None or other.rev > (highest.rev or 0)):
                highest = other
            position += 1
        if highest is None or highest.rev is None or completion.rev is None:
            continue
        if completion.rev < highest.rev or (invoke.f == "add" and completion.rev == highest.rev):
            yield Anomaly(
                "revision-went-back",
                f"{invoke.f} {invoke.op} on {invoke.node} has revision {completion.rev}, "
                f"but {highest.f} {highest.op} on {highest.node} had {highest.rev} before it began",
            )


def _revision_contents(reads: Sequence[_Read]) -> Iterator[Anomaly]:
    previous: _Read | None = None
    for read in sorted((read for read in reads if read.rev is not None), key=lambda read: read.rev or 0):
        if previous is not None and not previous.elements <= read.elements:
            some = _some(sorted(previous.elements - read.elements))
            kind = "revision-ambiguous" if previous.rev == read.rev else "revision-shrank"
            yield Anomaly(kind, f"{read} lacks {some} of {previous}")
        elif previous is not None and previous.rev == read.rev and previous.elements != read.elements:
            some = _some(sorted(read.elements - previous.elements))
            yield Anomaly("revision-ambiguous", f"{previous} lacks {some} of {read}")
        previous = read


def _two_leaders(operations: Sequence[Operation]) -> Iterator[Anomaly]:
    leaders: dict[int, str] = {}
    for operation in operations:
        done = operation.ok
        if done is None or done.term is None or not done.leader:
            continue
        first = leaders.setdefault(done.term, done.leader)
        if first != done.leader:
            yield Anomaly("two-leaders", f"term {done.term}: {first}, and {done.leader} by operation {done.op}")


def _stats(operations: Sequence[Operation], reads: Sequence[_Read]) -> dict[str, int]:
    kinds = Counter(
        (operation.invoke.f, operation.completion.type if operation.completion else "info") for operation in operations
    )
    terms = {done.term for operation in operations if (done := operation.ok) and done.term is not None}
    return {
        **{f"{f} {kind}": count for (f, kind), count in sorted(kinds.items())},
        "linearizable reads": sum(read.linearizable for read in reads),
        "terms seen": len(terms),
        "elements at the end": max((len(read.elements) for read in reads if read.final), default=0),
    }


def _some(elements: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(elements[:most])
    return shown if len(elements) <= most else f"{shown} and {len(elements) - most} more"
