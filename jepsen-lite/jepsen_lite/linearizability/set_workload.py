"""The unique-element workload of jepsen-lite before the search, and against the revisions its answers name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jepsen_lite.history import Operation
from jepsen_lite.linearizability.check import Report, check_all
from jepsen_lite.linearizability.instance_set import InstanceSet
from jepsen_lite.linearizability.operations import set_operations

STEPS_MAX = 500_000


def search(operations: Sequence[Operation], steps_max: int = STEPS_MAX) -> Report:
    """Whether one order of all adds and linearizable reads explains the history."""
    return check_all({"the set": set_operations(operations)}, InstanceSet(), steps_max=steps_max)


def misplaced(operations: Sequence[Operation]) -> Iterator[str]:
    """Where a read, of any kind, and the revision of an acknowledged add contradict each other.

    An add is one change and its answer names the revision of that change, so each has its own, and a read of revision r
    has exactly those with a revision up to r. Elements that were never acknowledged are left to the search.
    """
    revisions: dict[str, int] = {}
    taken: dict[int, str] = {}
    for operation in operations:
        done, element = operation.ok, operation.invoke.value
        if operation.invoke.f == "add" and done is not None and done.rev is not None and isinstance(element, str):
            revisions[element] = done.rev
            other = taken.setdefault(done.rev, element)
            if other != element:
                yield f"{element} and {other} were both added at revision {done.rev}"
    in_order = sorted(revisions, key=revisions.__getitem__)
    below: set[str] = set()
    position = 0
    acknowledged = frozenset(revisions)
    reads = [done for operation in operations if (done := operation.ok) and operation.invoke.f == "read"]
    for read in sorted(reads, key=lambda read: read.rev or 0):
        if read.rev is None or not isinstance(read.value, list):
            continue
        while position < len(in_order) and revisions[in_order[position]] <= read.rev:
            below.add(in_order[position])
            position += 1
        for element in sorted(acknowledged.intersection(read.value) ^ below):
            has = "has" if element in read.value else "lacks"
            yield f"read {read.op} of revision {read.rev} {has} {element}, added at revision {revisions[element]}"
