"""Operations as the checkers see them, and how to get them from a recorded history.

Intervals are closed: an operation called at the very instant another returned is concurrent with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple

from jepsen_lite.history import Operation

Verdict = Literal["valid", "invalid", "unknown"]


class Op(NamedTuple):
    """One operation of one client. Which ``f``, ``arg`` and ``out`` there are is the model's business."""

    process: int | str
    f: str
    arg: Hashable
    out: Hashable
    """What was answered; means nothing when ``ret`` is None."""
    call: float
    ret: float | None
    """None: indeterminate. It took effect once, at any time from ``call`` on, or never."""

    def __str__(self) -> str:
        answered = f"-> {_short(self.out)} " if self.ret is not None else ""
        until = "?" if self.ret is None else f"{self.ret:g}"
        return f"{self.process}: {self.f}({_short(self.arg)}) {answered}[{self.call:g} .. {until}]"


class Decision(NamedTuple):
    """What a search found out about one history."""

    verdict: Verdict
    steps: int
    linearization: tuple[int, ...] = ()
    """When valid: positions of operations in an order that explains everything. Indeterminate ones that need not have
    happened are left out."""
    stuck: int | None = None
    """When not valid: the position of the operation that could not be ordered where the search got furthest."""


def set_operations(operations: Iterable[Operation]) -> list[Op]:
    """The unique-element workload for ``InstanceSet``: adds and linearizable reads.

    Left out, because they constrain nothing: adds that failed for certain, reads without an answer, stale reads.
    """
    found = []
    for operation in operations:
        invoke, done = operation.invoke, operation.completion
        if invoke.f == "add" and isinstance(invoke.value, str) and (done is None or done.type != "fail"):
            ret = done.time if done is not None and done.type == "ok" else None
            found.append(Op(invoke.process, "add", (invoke.value,), None, invoke.time, ret))
        answer = operation.ok
        if invoke.f == "read" and answer is not None and answer.consistency == "linearizable":
            seen = answer.value if isinstance(answer.value, list) else []
            found.append(Op(invoke.process, "read", None, frozenset(seen), invoke.time, answer.time))
    return found


def by_call(ops: Sequence[Op]) -> list[int]:
    """Positions in order of call."""
    return sorted(range(len(ops)), key=lambda position: ops[position].call)


def _short(value: Hashable, most: int = 6) -> str:
    if value is None:
        return ""
    if not isinstance(value, frozenset):
        return repr(value)
    shown = ", ".join(sorted(map(str, value))[:most])
    return f"{{{shown}}}" if len(value) <= most else f"{{{shown} and {len(value) - most} more}}"
