"""Sequential models: what one operation does to the state, in a form that a search can run through quickly.

A model is a value without state of its own. ``simplify`` leaves out and narrows operations without changing the
verdict; ``compile`` turns each operation into a ``Step``. ``brute`` defines the same semantics a second time, in plain
values.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from jepsen_lite.linearizability.operations import Op, by_call

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """One operation with its argument and its answer built in. States are never None."""

    apply: Callable[[S], S | None]
    """The state after it, or None where it cannot have given this answer. An operation of unknown result never
    answers None."""
    keeps: bool = False
    """It can never change the state where it is legal: a read, a failed compare-and-set. Not: a write of the value that
    happens to be there, which may be needed later to undo another write."""
    hopeless: Callable[[S], bool] | None = None
    """For a step that ``keeps``: True where it is illegal and, whatever is done from there, will never be legal."""


class Compiled(NamedTuple, Generic[S]):
    initial: S
    steps: list[Step[S]]


class Model(Protocol[S]):
    def simplify(self, ops: Sequence[Op]) -> list[tuple[int, Op]]:
        """Operations that matter, with their positions in ``ops``. Times may be narrowed to what other answers imply,
        and an indeterminate operation that must have happened becomes a determinate one."""
        ...

    def compile(self, ops: Sequence[Op]) -> Compiled[S]: ...


@dataclass(frozen=True, slots=True)
class Problem(Generic[S]):
    """A history ready for a search, ordered by call."""

    ops: list[Op]
    positions: list[int]
    """Of each operation in the history as it was given."""
    initial: S
    steps: list[Step[S]]


def prepare(model: Model[S], ops: Sequence[Op], *, simplify: bool = True) -> Problem[S]:
    """Raises ``ValueError`` for an operation that the model does not know."""
    pairs = model.simplify(ops) if simplify else list(enumerate(ops))
    pairs = [pairs[at] for at in by_call([op for _, op in pairs])]
    kept = [op for _, op in pairs]
    compiled = model.compile(kept)
    return Problem(kept, [position for position, _ in pairs], compiled.initial, compiled.steps)


def unknown_operation(model: object, op: Op) -> ValueError:
    return ValueError(f"{type(model).__name__} has no operation {op}")
