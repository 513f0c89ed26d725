"""Just-in-time linearization: all configurations at once, event by event (Lowe 2017, Horn and Kroening 2015).

A second opinion on ``dfs``, which it shares no reduction with but one: among configurations with equal order and state
those with fewer indeterminate operations used are enough. An operation is ordered only when some return needs it, so
when no configuration is left, the operation that has just returned is the first one that cannot be explained.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic

from jepsen_lite.linearizability.model import Problem, S
from jepsen_lite.linearizability.operations import Decision

_Name = tuple[int, Hashable]
"""Determinate operations ordered but not returned yet (one bit each), and the state."""


class _Configurations(Generic[S]):
    """(ordered, state) with the smallest sets of indeterminate operations used."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, S], list[int]] = {}

    def add(self, ordered: int, state: S, used: int) -> bool:
        """False if one that is at least as good is there."""
        known = self._used.setdefault((ordered, state), [])
        if any(fewer & ~used == 0 for fewer in known):
            return False
        known[:] = [other for other in known if used & ~other]
        known.append(used)
        return True

    def __iter__(self) -> Iterator[tuple[int, S, int]]:
        for (ordered, state), known in self._used.items():
            for used in known:
                yield ordered, state, used


def run(problem: Problem[S], steps_max: int) -> Decision:
    """Decide the history, or answer ``unknown`` after ``steps_max`` configurations."""
    ops, steps = problem.ops, problem.steps
    events = [(op.call, 0, at) for at, op in enumerate(ops)]
    # At equal times calls come first: touching intervals are concurrent.
    events += [(op.ret, 1, at) for at, op in enumerate(ops) if op.ret is not None]
    pending: dict[int, int] = {}
    """Operations called and not returned: their bit. Indeterminate ones stay."""
    bits = _Bits()
    indeterminate = 0
    current: _Configurations[S] = _Configurations()
    current.add(0, problem.initial, 0)
    count = 0
    for _, is_return, at in sorted(events):
        if not is_return:
            if ops[at].ret is not None:
                pending[at] = bits.take()
            else:
                pending[at] = 1 << indeterminate
                indeterminate += 1
            continue
        returned = pending[at]
        following: _Configurations[S] = _Configurations()
        seen: _Configurations[S] = _Configurations()
        queue = [configuration for configuration in current if seen.add(*configuration)]
        while queue:
            ordered, state, used = queue.pop()
            if ordered & returned:
                following.add(ordered & ~returned, state, used)
                continue
            count += 1
            if count > steps_max:
                return Decision("unknown", count, stuck=problem.positions[at])
            for other, bit in pending.items():
                determinate = ops[other].ret is not None
                if bit & (ordered if determinate else used):
                    continue
                after = steps[other].apply(state)
                if after is None:
                    continue
                found = (ordered | bit, after, used) if determinate else (ordered, after, used | bit)
                if seen.add(*found):
                    queue.append(found)
        del pending[at]
        bits.free(returned)
        current = following
        if not any(True for _ in current):
            return Decision("invalid", count, stuck=problem.positions[at])
    return Decision("valid", count)


class _Bits:
    """Bits for operations that are open at the same time, the lowest free one first."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self) -> int:
        lowest = ~self._taken & (self._taken + 1)
        self._taken |= lowest
        return lowest

    def free(self, bit: int) -> None:
        self._taken &= ~bit
