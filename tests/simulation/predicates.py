"""When should a planned fault happen? A small language over what the nodes are doing, read by a parser of its own.

    leader.term >= 2 and n1.receiving
    not (n2.role == leader) or cuts > 0

A node (``n1`` …, ``leader``, ``follower0`` …) has the fields of ``FIELDS``, the run those of ``TOTALS``. Other bare
words are texts (``leader``, ``n2``), besides ``true``, ``false`` and ``none``. Operators: ``== != < <= > >=``,
``not``, ``and``, ``or``, parentheses. What does not exist (a field of a node that does not run) is ``none``: no order
holds for it, and by itself it is false. A schedule written like this survives small changes of times.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tests.simulation.actions import resolve
from tests.simulation.cluster import Cluster, Machine
from tests.simulation.invariants import ObservedEngine

Scalar: TypeAlias = "int | float | str | bool | None"
Predicate: TypeAlias = Callable[[Cluster], Scalar]

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z][\w.-]*)|(?P<sign>[<>=!]=|[<>()]))")
_NODE = re.compile(r"n\d+|leader|follower\d+")
_CONSTANTS: Mapping[str, Scalar] = {"true": True, "false": False, "none": None}
_COMPARISONS: Mapping[str, Callable[[object, object], bool]] = {"==": operator.eq, "!=": operator.ne}
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _receiving(engine: ObservedEngine) -> bool:
    receiver = engine.snapshots._store._receiver
    return receiver is not None and receiver.next_offset > 0


FIELDS: Mapping[str, Callable[[ObservedEngine], Scalar]] = {
    "role": lambda engine: engine.core.role,
    "term": lambda engine: engine.core.term,
    "leader": lambda engine: engine.core.leader_id,
    "ready": lambda engine: engine.core.leader_ready,
    "commit": lambda engine: engine.core.commit_index,
    "applied": lambda engine: engine.core.applied_index,
    "first": lambda engine: engine.journal.first_index,
    "last": lambda engine: engine.journal.last_index,
    "synced": lambda engine: engine.journal.synced_index,
    "syncing": lambda engine: engine.journal.syncing,
    "snapshot": lambda engine: engine.snapshots.index,
    "writing": lambda engine: engine.snapshots._store.writing,
    "receiving": _receiving,
    "installing": lambda engine: engine.snapshots._installing is not None,
    "feeding": lambda engine: bool(engine.snapshots._feeds),
    "waiting": lambda engine: len(engine.proposing.session),
    "admitted": lambda engine: engine.admission.done,
}
MACHINE_FIELDS: Mapping[str, Callable[[Machine], Scalar]] = {
    "running": lambda machine: machine.running,
    "paused": lambda machine: machine.process is not None and machine.process.paused,
    "lives": lambda machine: machine.lives,
}
TOTALS: Mapping[str, Callable[[Cluster], Scalar]] = {
    "time": lambda cluster: cluster.world.now,
    "cuts": lambda cluster: cluster.network.cuts,
    "terms": lambda cluster: len(cluster.watch.leaders),
    "committed": lambda cluster: cluster.watch.highest_committed,
    "installs": lambda cluster: cluster.watch.snapshots_installed,
    "truncations": lambda cluster: cluster.watch.truncations,
}


def parse(text: str) -> Predicate:
    """Raises ``ValueError`` that says where and what is allowed."""
    parser = _Parser(text)
    predicate = parser.disjunction()
    parser.expect_end()
    return predicate


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise ValueError(f"when: {self._text!r}: {text[position:]!r} is no part of the language")
            self._tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()
        self._tokens.reverse()

    def disjunction(self) -> Predicate:
        parts = [self._conjunction()]
        while self._took("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda cluster: any(part(cluster) for part in parts)

    def expect_end(self) -> None:
        if self._tokens:
            raise ValueError(f"when: {self._text!r}: {self._tokens[-1][1]!r} is not expected there")

    def _conjunction(self) -> Predicate:
        parts = [self._negation()]
        while self._took("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda cluster: all(part(cluster) for part in parts)

    def _negation(self) -> Predicate:
        if self._took("not"):
            negated = self._negation()
            return lambda cluster: not negated(cluster)
        return self._comparison()

    def _comparison(self) -> Predicate:
        left = self._operand()
        sign = self._tokens[-1][1] if self._tokens else ""
        if sign in _COMPARISONS:
            self._tokens.pop()
            right, compare = self._operand(), _COMPARISONS[sign]
            return lambda cluster: compare(left(cluster), right(cluster))
        if sign in _ORDERS:
            self._tokens.pop()
            right, order = self._operand(), _ORDERS[sign]
            return lambda cluster: _ordered(order, left(cluster), right(cluster))
        return left

    def _operand(self) -> Predicate:
        kind, token = self._tokens.pop() if self._tokens else ("end", "the end")
        if token == "(":
            inner = self.disjunction()
            if not self._took(")"):
                raise ValueError(f"when: {self._text!r}: a parenthesis is not closed")
            return inner
        if kind == "number":
            number = float(token)
            return lambda _cluster: number
        if kind != "name" or token in ("and", "or", "not"):
            raise ValueError(f"when: {self._text!r}: a value is needed, not {token!r}")
        if "." in token:
            return self._field(*token.split(".", 1))
        if token in _CONSTANTS:
            constant = _CONSTANTS[token]
            return lambda _cluster: constant
        return TOTALS.get(token, lambda _cluster: token)

    def _field(self, node: str, field: str) -> Predicate:
        if not _NODE.fullmatch(node):
            raise ValueError(f"when: {self._text!r}: {node!r} is not a node (n1 …, leader, follower0 …)")
        if field in MACHINE_FIELDS:
            of_machine = MACHINE_FIELDS[field]
            return lambda cluster: of_machine(cluster.machines[resolve(cluster, node)])
        if field not in FIELDS:
            allowed = ", ".join([*FIELDS, *MACHINE_FIELDS])
            raise ValueError(f"when: {self._text!r}: a node has no field {field!r}, only {allowed}")
        of_engine = FIELDS[field]

        def value(cluster: Cluster) -> Scalar:
            if node == "leader" and cluster.leader() is None:
                return None
            engine = cluster.engine(resolve(cluster, node))
            return None if engine is None else of_engine(engine)

        return value

    def _took(self, token: str) -> bool:
        if self._tokens and self._tokens[-1][1] == token:
            self._tokens.pop()
            return True
        return False


def _ordered(order: Callable[[float, float], bool], left: Scalar, right: Scalar) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return order(left, right)
    return False
