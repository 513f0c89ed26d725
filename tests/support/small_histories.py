"""Random histories of a few operations, for comparing checkers.

Each is what a linearizable object answered, seen through closed intervals on a coarse clock (so that operations touch);
then, in most of them, one or two things are changed: an answer, a time, or an outcome.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from jepsen_lite.linearizability import brute
from jepsen_lite.linearizability.append import Append
from jepsen_lite.linearizability.instance_set import InstanceSet
from jepsen_lite.linearizability.model import Model
from jepsen_lite.linearizability.operations import Op
from jepsen_lite.linearizability.register import Register


@dataclass(frozen=True)
class Kind:
    """An object: its model, its definition, and how to make an operation on it."""

    name: str
    model: Model[Any]
    initial: Hashable
    definition: brute.Definition
    draw: Callable[[random.Random], tuple[str, Hashable]]
    answer: Callable[[random.Random, Hashable, Op], Hashable]
    """(chance, state before, operation) -> the true answer, sometimes not told."""


def _draw_register(rng: random.Random) -> tuple[str, Hashable]:
    f = rng.choice(("read", "read", "write", "write", "cas", "cas", "delete"))
    values: tuple[int | None, ...] = (1, 2, 3)
    if f == "write":
        return f, rng.choice(values)
    if f == "cas":
        return f, (rng.choice((*values, None)), rng.choice((*values, None)))
    return f, None


def _register_answer(rng: random.Random, state: Hashable, op: Op) -> Hashable:
    if op.f == "read":
        return state
    if rng.random() < 0.3:
        return None
    if op.f == "cas":
        assert isinstance(op.arg, tuple)
        return bool(state == op.arg[0])
    return (state is None) == (op.f == "write")


def _draw_set(rng: random.Random) -> tuple[str, Hashable]:
    f = rng.choice(("read", "read", "add", "add", "remove"))
    return f, None if f == "read" else tuple(rng.sample("abcd", rng.choice((1, 1, 1, 2))))


def _set_answer(rng: random.Random, state: Hashable, op: Op) -> Hashable:
    assert isinstance(state, frozenset)
    if op.f == "read":
        return state
    assert isinstance(op.arg, tuple)
    if rng.random() < 0.4:
        return None
    return frozenset(op.arg) - state if op.f == "add" else frozenset(op.arg) & state


def _draw_append(rng: random.Random) -> tuple[str, Hashable]:
    f = rng.choice(("get", "get", "append", "append", "append", "put"))
    return f, None if f == "get" else rng.choice(("x", "y", "xy", "z"))


def _append_answer(rng: random.Random, state: Hashable, op: Op) -> Hashable:
    return state if op.f == "get" else None


KINDS = (
    Kind("register", Register(), None, brute.register, _draw_register, _register_answer),
    Kind("register that begins with 1", Register(1), 1, brute.register, _draw_register, _register_answer),
    Kind("set", InstanceSet(), frozenset(), brute.instance_set, _draw_set, _set_answer),
    Kind(
        "set that begins with a",
        InstanceSet(frozenset("a")),
        frozenset("a"),
        brute.instance_set,
        _draw_set,
        _set_answer,
    ),
    Kind("append", Append(), "", brute.append, _draw_append, _append_answer),
)


def draw(rng: random.Random, kind: Kind, size: int, *, unique: bool = False) -> list[Op]:
    """A history of ``size`` operations in no particular order.

    ``unique``: each writes or adds something of its own, as the workloads do.
    """
    spread = rng.choice((0, 1, 2, 4, 8))
    ops: list[Op] = []
    state = kind.initial
    for at in range(size):
        f, arg = kind.draw(rng)
        if unique and f in ("write", "add", "append"):
            arg = (f"{at}",) if f == "add" else f"{at}" if f == "append" else at + 10
        point = at * 2
        call, ret = point - rng.randint(0, spread), point + rng.randint(0, spread)
        op = Op(at, f, arg, None, call, ret)
        op = op._replace(out=kind.answer(rng, state, op))
        if rng.random() < 0.2:
            op = op._replace(ret=None, out=None)
            if rng.random() < 0.5:
                ops.append(op)
                continue  # it never happened
        after = kind.definition(state, op)
        assert after is not brute.ILLEGAL
        assert isinstance(after, Hashable)
        state = after
        ops.append(op)
    for _ in range(rng.choice((0, 1, 1, 2))):
        _disturb(rng, ops)
    rng.shuffle(ops)
    return ops


def _disturb(rng: random.Random, ops: list[Op]) -> None:
    at = rng.randrange(len(ops))
    op = ops[at]
    kind = rng.random()
    if op.ret is None or kind < 0.2:
        later = rng.choice((-4, -2, 2, 4))
        ops[at] = op._replace(call=op.call + later, ret=None if op.ret is None else op.ret + later)
    elif kind < 0.3:
        ops[at] = op._replace(ret=None, out=None)
    else:
        others = [other.out for other in ops if other.f == op.f and other.ret is not None]
        ops[at] = op._replace(out=_changed(rng, op, rng.choice(others)))


def _changed(rng: random.Random, op: Op, other: Hashable) -> Hashable:
    """Another answer of the same form: that of another operation, or this one altered."""
    match op.out:
        case bool():
            return not op.out
        case frozenset() if isinstance(op.arg, tuple):
            return frozenset(op.arg) - op.out
        case frozenset() if op.out == other or rng.random() < 0.5:
            return op.out ^ {rng.choice("abcd")}
        case str() if op.out == other or rng.random() < 0.5:
            return rng.choice((op.out[::-1], op.out[1:], op.out[:-1], op.out + "x"))
    return other
