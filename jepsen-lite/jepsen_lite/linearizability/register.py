"""One value that may be absent (None).

Operations: ``read`` -> value; ``write`` value -> was it absent before; ``delete`` -> was it there; ``cas`` (old, new)
-> did it happen. The answers of ``write``, ``delete`` and ``cas`` may be None: acknowledged, but the result was not
told.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from jepsen_lite.linearizability.model import Compiled, Step, unknown_operation
from jepsen_lite.linearizability.operations import Op


@dataclass(frozen=True, slots=True)
class Register:
    initial: Hashable = None

    def simplify(self, ops: Sequence[Op]) -> list[tuple[int, Op]]:
        pairs = [(at, op) for at, op in enumerate(ops) if op.ret is not None or not _keeps(op)]
        while len(kept := _observed(pairs)) < len(pairs):
            pairs = kept
        return list(self._with_deadlines(pairs))

    def compile(self, ops: Sequence[Op]) -> Compiled[int]:
        codes: dict[Hashable, int] = {None: 0}
        return Compiled(_code(codes, self.initial), [self._step(op, codes) for op in ops])

    def _step(self, op: Op, codes: dict[Hashable, int]) -> Step[int]:
        out = None if op.ret is None else op.out
        match op.f:
            case "read" if op.ret is None:
                return Step(lambda s: s, keeps=True)
            case "read":
                seen = _code(codes, out)
                return Step(lambda s: s if s == seen else None, keeps=True)
            case "write" if op.arg is not None:
                return _write(_code(codes, op.arg), out)
            case "delete":
                return _delete(out)
            case "cas":
                old, new = _old_and_new(op)
                return _cas(_code(codes, old), _code(codes, new), out)
            case _:
                raise unknown_operation(self, op)

    def _with_deadlines(self, pairs: Sequence[tuple[int, Op]]) -> Iterator[tuple[int, Op]]:
        """If one operation only can have produced a value, it came before everybody who saw the value."""
        producers: dict[Hashable, int] = {}
        for _, op in pairs:
            if (made := _made(op)) is not None:
                producers[made] = producers.get(made, 0) + 1
        seen_by: dict[Hashable, float] = {}
        for _, op in pairs:
            if op.ret is not None and (seen := _seen(op)) is not None:
                seen_by[seen] = min(op.ret, seen_by.get(seen, op.ret))
        for at, op in pairs:
            made = _made(op)
            deadline = seen_by.get(made)
            if deadline is None or made is None or producers[made] > 1 or made == self.initial or deadline < op.call:
                yield at, op
            elif op.ret is None:
                yield at, op._replace(ret=deadline, out=True if op.f == "cas" else None)
            else:
                yield at, op._replace(ret=min(op.ret, deadline))


def _code(codes: dict[Hashable, int], value: Hashable) -> int:
    return codes.setdefault(value, len(codes))


def _write(value: int, created: Hashable) -> Step[int]:
    if created is None:
        return Step(lambda s: value)
    if created:
        return Step(lambda s: None if s else value)
    return Step(lambda s: value if s else None)


def _delete(existed: Hashable) -> Step[int]:
    if existed is None:
        return Step(lambda s: 0)
    if existed:
        return Step(lambda s: 0 if s else None)
    return Step(lambda s: None if s else s, keeps=True)


def _cas(old: int, new: int, done: Hashable) -> Step[int]:
    if done is None:
        return Step(lambda s: new if s == old else s, keeps=old == new)
    if done:
        return Step(lambda s: new if s == old else None, keeps=old == new)
    return Step(lambda s: s if s != old else None, keeps=True)


def _old_and_new(op: Op) -> tuple[Hashable, Hashable]:
    if not isinstance(op.arg, tuple) or len(op.arg) != 2:
        raise ValueError(f"cas needs (old, new): {op}")
    return op.arg[0], op.arg[1]


def _keeps(op: Op) -> bool:
    """An operation of unknown result that changes nothing if it happened."""
    return op.f == "read" or (op.f == "cas" and len(set(_old_and_new(op))) == 1)


def _made(op: Op) -> Hashable:
    """The value that is there after the operation, if the operation can be the one that put it there."""
    if op.f == "write":
        return op.arg
    if op.f == "cas" and (op.ret is None or op.out is not False):
        old, new = _old_and_new(op)
        return None if old == new else new
    return None


def _seen(op: Op) -> Hashable:
    """The value that was there before the operation, as its answer proves."""
    if op.f == "read":
        return op.out
    return _old_and_new(op)[0] if op.f == "cas" and op.out is True else None


def _observed(pairs: Sequence[tuple[int, Op]]) -> list[tuple[int, Op]]:
    """Without indeterminate operations that nobody can have noticed.

    Taking such an operation out of an order leaves the state it would have found for a while longer. That is safe if
    what it put there was not needed by anybody, and if nobody needed the absence of what it replaced: an unseen
    ``write(2)`` may be the reason why ``cas(1, 3)`` failed.
    """
    seen: set[Hashable] = set()
    presence = absence = difference = False
    for _, op in pairs:
        told = op.out if op.ret is not None else None
        if op.f == "read":
            seen.add(op.out)
            absence = absence or op.out is None
        elif op.f == "cas":
            difference = difference or told is False
            if told is not False:
                old = _old_and_new(op)[0]
                seen.add(old)
                absence = absence or old is None
        elif told is not None:
            created = bool(told) == (op.f == "write")
            absence, presence = absence or created, presence or not created
    kept = []
    for at, op in pairs:
        if op.ret is None and not difference:
            made = _made(op)
            noticed = absence if made is None else presence or made in seen
            if not noticed:
                continue
        kept.append((at, op))
    return kept
