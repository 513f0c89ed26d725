"""A text that grows: the key-value model with append.

Operations: ``get`` -> text; ``put`` text; ``append`` text. A missing key is the empty text.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from jepsen_lite.linearizability.model import Compiled, Step, unknown_operation
from jepsen_lite.linearizability.operations import Op


@dataclass(frozen=True, slots=True)
class Append:
    initial: str = ""

    def simplify(self, ops: Sequence[Op]) -> list[tuple[int, Op]]:
        """Without what nobody saw: an appended text is in every later ``get`` up to the next ``put``, and a ``put`` is
        the beginning of every one."""
        seen = [_text(op.out) for op in ops if op.f == "get" and op.ret is not None]

        def matters(op: Op) -> bool:
            if op.f == "get":
                return False
            text = _text(op.arg)
            return any(out.startswith(text) if op.f == "put" else text in out for out in seen)

        return [(at, op) for at, op in enumerate(ops) if op.ret is not None or matters(op)]

    def compile(self, ops: Sequence[Op]) -> Compiled[str]:
        grows = not any(op.f == "put" for op in ops)
        return Compiled(self.initial, [self._step(op, grows) for op in ops])

    def _step(self, op: Op, grows: bool) -> Step[str]:
        match op.f:
            case "get" if op.ret is None:
                return Step(lambda s: s, keeps=True)
            case "get":
                seen = _text(op.out)
                return Step(
                    lambda s: s if s == seen else None,
                    keeps=True,
                    hopeless=(lambda s: not seen.startswith(s)) if grows else None,
                )
            case "put":
                put = _text(op.arg)
                return Step(lambda s: put)
            case "append":
                more = _text(op.arg)
                return Step(lambda s: s + more)
            case _:
                raise unknown_operation(self, op)


def _text(value: Hashable) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the append model needs text, not {value!r}")
    return value
