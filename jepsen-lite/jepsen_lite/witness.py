"""Did the run prove anything? Checks of the harness (``distrust``) and of the run's weight (``thin``).

A harness that records the wrong outcome, loses completions or strikes no node makes every run pass. Each of those is
told from the history alone:

- outcomes are derived again from the recorded evidence;
- the clock is compared with the seconds the run was asked to take;
- a node that was killed or stopped must not have answered anything asked and answered within that time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jepsen_lite.history import Event, Operation
from jepsen_lite.registry import outcome_of

NANOSECONDS = 1_000_000_000
BEGINS = {"kill": "restart", "pause": "resume"}
"""Each fault and the event that ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run must show at least to count as a proof."""

    ok_adds: int = 50
    ok_reads: int = 20
    """Linearizable, before the final ones."""
    leader_changes: int = 1
    faults: int = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """A time during which a node was dead or stopped. ``end`` is None when the history ends before."""

    kind: str
    node: str
    role: str
    begin: int
    end: int | None


def faults_of(events: Sequence[Event]) -> list[Fault]:
    """The nemesis's events as intervals."""
    found: list[Fault] = []
    for position, event in enumerate(events):
        if event.process != "nemesis" or event.f not in BEGINS or not isinstance(event.value, dict):
            continue
        ends = (
            later.time
            for later in events[position + 1 :]
            if later.process == "nemesis" and later.f == BEGINS[event.f] and later.node == event.node
        )
        role = str(event.value.get("role", "?"))
        found.append(Fault(event.f, event.node or "?", role, event.time, next(ends, None)))
    return found


def distrust(events: Sequence[Event], operations: Sequence[Operation]) -> list[str]:
    """What makes the history itself unbelievable, one sentence each."""
    return [*_clock(events), *_outcomes(operations), *_idle_faults(events, operations), *_revisions(operations)]


def thin(events: Sequence[Event], operations: Sequence[Operation], limits: Limits) -> Iterator[str]:
    """Why a history without anomalies still proves too little."""
    adds = [operation for operation in operations if operation.invoke.f == "add" and operation.ok]
    reads = [operation.ok for operation in operations if operation.invoke.f == "read" and operation.ok]
    linearizable = [read for read in reads if read.consistency == "linearizable" and not read.final]
    if len(adds) < limits.ok_adds:
        yield f"{len(adds)} acknowledged adds, {limits.ok_adds} needed"
    if len(linearizable) < limits.ok_reads:
        yield f"{len(linearizable)} linearizable reads, {limits.ok_reads} needed"
    for node in _nodes(events):
        for level in ("linearizable", "stale"):
            if not any(read.final and read.node == node and read.consistency == level for read in reads):
                yield f"no final {level} read from {node}"
    faults = faults_of(events)
    if len(faults) < limits.faults:
        yield f"{len(faults)} faults, {limits.faults} needed"
    if limits.leader_changes and not any(fault.role == "leader" for fault in faults):
        yield "no fault hit a leader"
    changes = leader_changes(operations)
    if changes < limits.leader_changes:
        yield f"{changes} leader changes seen, {limits.leader_changes} needed"


def leader_changes(operations: Sequence[Operation]) -> int:
    """How often a higher term came with another leader, as told by successful answers in term order."""
    leaders = {
        done.term: done.leader for operation in operations if (done := operation.ok) and done.term and done.leader
    }
    in_order = [leaders[term] for term in sorted(leaders)]
    return sum(before != after for before, after in itertools.pairwise(in_order))


def _clock(events: Sequence[Event]) -> Iterator[str]:
    start = next((event for event in events if event.process == "harness" and event.f == "start"), None)
    asked = start.value.get("seconds") if start is not None and isinstance(start.value, dict) else None
    if not isinstance(asked, int | float):
        yield "no start event with the seconds asked for"
        return
    took = (events[-1].time - events[0].time) / NANOSECONDS
    if not 0.5 * asked <= took <= asked + 600:
        yield f"the clock shows {took:g} s for a run of {asked:g} s"


def _outcomes(operations: Sequence[Operation]) -> Iterator[str]:
    for operation in operations:
        done = operation.completion
        if operation.invoke.f != "add" or done is None:
            continue
        if done.evidence is None:
            yield f"operation {done.op}: no evidence for its outcome"
        elif outcome_of(done.evidence) != done.type:
            yield f"operation {done.op}: recorded as {done.type}, its evidence says {outcome_of(done.evidence)}"


def _idle_faults(events: Sequence[Event], operations: Sequence[Operation]) -> Iterator[str]:
    for fault in faults_of(events):
        for operation in operations:
            done = operation.ok
            if done is None or operation.invoke.node != fault.node or operation.invoke.time <= fault.begin:
                continue
            if fault.end is None or done.time < fault.end:
                yield f"{fault.node} answered operation {done.op} after its {fault.kind}: the fault did nothing"
                break


def _revisions(operations: Sequence[Operation]) -> Iterator[str]:
    blind = sum(1 for operation in operations if operation.ok is not None and operation.ok.rev is None)
    if blind:
        yield f"{blind} answers without a revision"


def _nodes(events: Sequence[Event]) -> list[str]:
    start = next((event for event in events if event.process == "harness" and event.f == "start"), None)
    nodes = start.value.get("nodes") if start is not None and isinstance(start.value, dict) else None
    return nodes if isinstance(nodes, list) else []
