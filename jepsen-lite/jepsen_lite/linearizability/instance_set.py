"""A set of elements, read as a whole: the instances of one service.

Operations: ``add`` (elements) -> which of them were new; ``remove`` (elements) -> which of them were there; ``read`` ->
the set. All elements of one operation appear or go together. The answers of ``add`` and ``remove`` may be None:
acknowledged, but the result was not told.

A state is an integer: one bit per element that is there and, when the history has removals, a second one per element
that was there and can never be again, because a single operation adds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from jepsen_lite.linearizability.model import Compiled, Step, unknown_operation
from jepsen_lite.linearizability.operations import Op

Elements = frozenset[Hashable]
NONE: Elements = frozenset()
_SHORT = 16


@dataclass(frozen=True, slots=True)
class InstanceSet:
    initial: Elements = NONE

    def simplify(self, ops: Sequence[Op]) -> list[tuple[int, Op]]:
        seen = set(_seen(ops))
        pairs = [(at, op) for at, op in enumerate(ops) if op.ret is not None or _noticed(op, seen)]
        kept = [op for _, op in pairs]
        times = _Times(kept, self._adders(kept))
        return [(at, times.narrowed(op)) for at, op in pairs]

    def compile(self, ops: Sequence[Op]) -> Compiled[int]:
        bits: dict[Hashable, int] = {}
        for elements in (self.initial, *map(_named, ops)):
            for element in elements.difference(bits):
                bits[element] = len(bits)
        mask = _Masks(bits)
        adders = self._adders(ops)
        added_once = mask.of(frozenset(element for element in bits if adders[element] == 1))
        removed = mask.of(frozenset(element for op in ops if op.f == "remove" for element in elements_of(op.arg)))
        builder = _Builder(mask, len(bits) if removed else 0, added_once, mask.all & ~removed)
        return Compiled(mask.of(self.initial), [builder.step(self, op) for op in ops])

    def _adders(self, ops: Iterable[Op]) -> Counter[Hashable]:
        """How many operations can have put each element there; the beginning counts as one."""
        adders = Counter(self.initial)
        for op in ops:
            if op.f == "add":
                adders.update(set(elements_of(op.arg)))
        return adders


def elements_of(value: Hashable) -> Elements:
    """Raises ``ValueError`` for what is not a collection of elements."""
    if isinstance(value, frozenset):
        return value
    if isinstance(value, tuple):
        return frozenset(value)
    raise ValueError(f"a set's operation needs a tuple or a frozenset of elements, not {value!r}")


class _Masks:
    def __init__(self, bits: dict[Hashable, int]) -> None:
        self._bits = bits
        self.all = (1 << len(bits)) - 1
        self._last, self._last_mask = NONE, 0

    def of(self, elements: Elements) -> int:
        # Most sets are long reads that differ little from the one before.
        if len(elements) <= _SHORT:
            return self._of(elements)
        self._last_mask ^= self._of(elements ^ self._last)
        self._last = elements
        return self._last_mask

    def _of(self, elements: Elements) -> int:
        # Through bytes: setting n bits of one growing integer, one after another, copies it n times.
        found = bytearray(len(self._bits) // 8 + 1)
        bits = self._bits
        for element in elements:
            bit = bits[element]
            found[bit >> 3] |= 1 << (bit & 7)
        return int.from_bytes(found, "little")


@dataclass(frozen=True, slots=True)
class _Builder:
    mask: _Masks
    shift: int
    """From the bit "is there" of an element to its bit "is gone for good"; 0 when nothing is ever removed."""
    added_once: int
    never_removed: int

    def step(self, model: InstanceSet, op: Op) -> Step[int]:
        told = op.ret is not None and op.out is not None
        if told and op.f != "read" and not elements_of(op.out) <= elements_of(op.arg):
            return Step(lambda s: None, keeps=True)  # it tells of elements it was not asked for
        match op.f:
            case "read" if op.ret is None:
                return Step(lambda s: s, keeps=True)
            case "read":
                return self._read(self.mask.of(elements_of(op.out)))
            case "add":
                asked = self.mask.of(elements_of(op.arg))
                if not told:
                    return Step(lambda s: s | asked)
                there = asked & ~self.mask.of(elements_of(op.out))
                return Step(lambda s: s | asked if s & asked == there else None, keeps=there == asked)
            case "remove":
                asked = self.mask.of(elements_of(op.arg))
                return self._remove(asked, self.mask.of(elements_of(op.out)) if told else None)
            case _:
                raise unknown_operation(model, op)

    def _read(self, seen: int) -> Step[int]:
        # An element too many that nobody removes, or a missing one that cannot come back.
        bad = self.never_removed & ~seen
        if not self.shift:
            return Step(lambda s: s if s == seen else None, keeps=True, hopeless=lambda s: s & bad != 0)
        bad |= (seen & self.added_once) << self.shift
        everything = self.mask.all
        return Step(lambda s: s if s & everything == seen else None, keeps=True, hopeless=lambda s: s & bad != 0)

    def _remove(self, asked: int, there: int | None) -> Step[int]:
        once, shift = asked & self.added_once, self.shift

        def apply(s: int) -> int | None:
            if there is not None and s & asked != there:
                return None
            return (s & ~asked) | (s & once) << shift

        return Step(apply, keeps=there == 0)


def _named(op: Op) -> Elements:
    if op.f == "read":
        return elements_of(op.out) if op.ret is not None else NONE
    return elements_of(op.arg)


def _seen(ops: Sequence[Op]) -> Elements:
    """Every element that somebody saw there."""
    seen: set[Hashable] = set()
    for op in ops:
        if op.ret is None or op.out is None:
            continue
        out = elements_of(op.out)
        seen |= elements_of(op.arg) - out if op.f == "add" else out
    return frozenset(seen)


def _noticed(op: Op, seen: set[Hashable]) -> bool:
    """An indeterminate operation that may matter. What nobody saw there may as well never have been added."""
    return op.f == "remove" or (op.f == "add" and not seen.isdisjoint(elements_of(op.arg)))


class _Times:
    """What the answers of others say about when an operation took effect.

    For an element that one operation alone adds: the addition came before every read that has it, an effective removal
    after every one. So an indeterminate addition that was seen is determinate, and removals need not be tried early.
    """

    def __init__(self, ops: Sequence[Op], adders: Counter[Hashable]) -> None:
        self._adders = adders
        self._removals = any(op.f == "remove" for op in ops)
        self._first_seen: dict[Hashable, float] = {}
        self._last_read: dict[Hashable, float] = {}
        self._reads = [(op.call, op.ret, elements_of(op.out)) for op in ops if op.f == "read" and op.ret is not None]
        self._first_and_last(ops)
        self._added_by: dict[Hashable, float] = {}
        """By when an element was there for certain, if one operation alone adds it."""
        for op in ops:
            if op.f == "add":
                by = self._addition(op).ret
                for element in elements_of(op.arg) if by is not None else NONE:
                    self._added_by[element] = by if by is not None else 0

    def narrowed(self, op: Op) -> Op:
        if op.f == "add":
            return self._addition(op)
        return self._removal(op) if op.f == "remove" else op

    def _first_and_last(self, ops: Sequence[Op]) -> None:
        sightings = [(ret, seen) for _, ret, seen in self._reads]
        sightings += [
            (op.ret, elements_of(op.out))
            for op in ops
            if op.f == "remove" and op.ret is not None and op.out is not None
        ]
        known: set[Hashable] = set()
        for ret, seen in sorted(sightings, key=lambda sighting: sighting[0]):
            fresh = seen - known
            known |= fresh
            self._first_seen.update(dict.fromkeys(fresh, ret))
        if self._removals:
            known = set()
            for call, _, seen in sorted(self._reads, key=lambda read: read[0], reverse=True):
                fresh = seen - known
                known |= fresh
                self._last_read.update(dict.fromkeys(fresh, call))

    def _addition(self, op: Op) -> Op:
        seen = [self._first_seen.get(element) for element in elements_of(op.arg) if self._adders[element] == 1]
        deadline = min((ret for ret in seen if ret is not None), default=None)
        return _by(op, deadline)

    def _removal(self, op: Op) -> Op:
        asked = elements_of(op.arg)
        if op.ret is None:
            # One of several elements may have been gone before: that says nothing about the others.
            effective = asked if len(asked) == 1 else NONE
        else:
            effective = asked & elements_of(op.out) if op.out is not None else NONE
        once = [element for element in effective if self._adders[element] == 1]
        last_read = max((self._last_read.get(element, op.call) for element in once), default=op.call)
        if op.ret is None or last_read <= op.ret:
            op = op._replace(call=max(op.call, last_read))
        if op.ret is None and len(once) == 1:
            # Whoever removed it: it was gone by then, and removing it again changes nothing.
            return _by(op, self._missed(once[0]))
        return op

    def _missed(self, element: Hashable) -> float | None:
        """The end of the first read that lacks the element though it had been added."""
        added_by = self._added_by.get(element)
        if added_by is None:
            return None
        return min((ret for call, ret, seen in self._reads if call > added_by and element not in seen), default=None)


def _by(op: Op, deadline: float | None) -> Op:
    """The operation as one that took effect by ``deadline``. One that cannot have is left to the search to refuse."""
    if deadline is None or deadline < op.call:
        return op
    if op.ret is None:
        return op._replace(ret=deadline, out=None)
    return op._replace(ret=min(op.ret, deadline))
