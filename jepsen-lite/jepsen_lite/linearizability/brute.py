"""The definition of linearizability, tried out: every order of every selection. For at most about eight operations.

It shares nothing with the searches, not even their models: the three functions at the end say in plain values what an
operation does. What this module and a search agree on is right, or wrong twice in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from jepsen_lite.linearizability.operations import Op

ILLEGAL: Final = object()
"""Instead of a state: the operation cannot have answered what it answered."""

Definition = Callable[[Hashable, Op], object]
"""(state, operation) -> state after it, or ``ILLEGAL``. Without regard to the answer when ``ret`` is None."""


def linearizable(ops: Sequence[Op], initial: Hashable, definition: Definition) -> bool:
    def some_order(left: frozenset[int], state: Hashable) -> bool:
        determinate = [at for at in left if ops[at].ret is not None]
        if not determinate:
            return True
        for at in left:
            if any(_returned_before(ops[other], ops[at]) for other in determinate):
                continue
            after = definition(state, ops[at])
            if after is not ILLEGAL and isinstance(after, Hashable) and some_order(left - {at}, after):
                return True
        return False

    return some_order(frozenset(range(len(ops))), initial)


def explains(ops: Sequence[Op], order: Sequence[int], initial: Hashable, definition: Definition) -> bool:
    """Whether this order (positions in ``ops``) is one: complete, legal, and never against real time."""
    determinate = {at for at, op in enumerate(ops) if op.ret is not None}
    if len(set(order)) != len(order) or not determinate <= set(order):
        return False
    state: object = initial
    latest_call = float("-inf")
    for at in order:
        op = ops[at]
        if op.ret is not None and op.ret < latest_call:
            return False
        latest_call = max(latest_call, op.call)
        state = definition(state, op) if isinstance(state, Hashable) else ILLEGAL
        if state is ILLEGAL:
            return False
    return True


def _returned_before(first: Op, second: Op) -> bool:
    return first.ret is not None and first.ret < second.call


def register(state: Hashable, op: Op) -> object:
    """State: the value, None when absent."""
    told = op.ret is not None and op.out is not None
    match op.f:
        case "read":
            return state if op.ret is None or op.out == state else ILLEGAL
        case "write":
            return op.arg if not told or op.out == (state is None) else ILLEGAL
        case "delete":
            return None if not told or op.out == (state is not None) else ILLEGAL
        case _:
            assert isinstance(op.arg, tuple)
            old, new = op.arg
            if told and op.out != (state == old):
                return ILLEGAL
            return new if state == old else state


def instance_set(state: Hashable, op: Op) -> object:
    """State: the frozenset of elements."""
    assert isinstance(state, frozenset)
    if op.f == "read":
        return state if op.ret is None or op.out == state else ILLEGAL
    assert isinstance(op.arg, tuple | frozenset)
    asked = frozenset(op.arg)
    changed = asked - state if op.f == "add" else asked & state
    if op.ret is not None and op.out is not None and op.out != changed:
        return ILLEGAL
    return state | asked if op.f == "add" else state - asked


def append(state: Hashable, op: Op) -> object:
    """State: the text."""
    assert isinstance(state, str)
    if op.f == "get":
        return state if op.ret is None or op.out == state else ILLEGAL
    assert isinstance(op.arg, str)
    return state + op.arg if op.f == "append" else op.arg
