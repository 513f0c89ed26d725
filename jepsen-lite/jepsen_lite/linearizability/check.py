"""One verdict over many keys.

A history is linearizable when its part for each key is (P-compositionality). All keys share one budget of steps, dealt
out in rounds: every key gets a few, then every undecided one twice as many, and the first key that is not linearizable
ends it. So one hard key does not hide another that is easily refuted. Steps and not seconds are counted: the verdict on
a saved history must not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jepsen_lite.linearizability import bfs
from jepsen_lite.linearizability.dfs import Search
from jepsen_lite.linearizability.model import Model, S, prepare
from jepsen_lite.linearizability.operations import Decision, Op, Verdict

STEPS_MAX = 2_000_000
FIRST_ROUND_STEPS = 5_000
SECOND_OPINION_STEPS = 50_000
"""For naming the first operation that cannot be explained."""


@dataclass(frozen=True, slots=True)
class Report:
    """``invalid`` if one key is, else ``unknown`` if one key is: an undecided key is no pass."""

    verdict: Verdict
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """By key. After an invalid key the others may be undecided."""
    reasons: tuple[str, ...] = ()
    """Why it is not valid, in words."""

    @property
    def steps(self) -> int:
        return sum(decision.steps for decision in self.decisions.values())


def check(ops: Sequence[Op], model: Model[S], *, steps_max: int = STEPS_MAX) -> Decision:
    """Decide the history of one key."""
    return Search(prepare(model, ops)).run(steps_max)


def check_all(histories: Mapping[str, Sequence[Op]], model: Model[S], *, steps_max: int = STEPS_MAX) -> Report:
    """Decide the histories of many keys. Raises ``ValueError`` for an operation that the model does not know."""
    searches = {key: Search(prepare(model, ops)) for key, ops in histories.items()}
    decisions = {key: Decision("unknown", 0) for key in searches}
    left, allowance = steps_max, FIRST_ROUND_STEPS
    undecided = list(searches)
    while undecided and left > 0:
        for key in undecided:
            search = searches[key]
            before = search.steps
            decisions[key] = search.run(before + min(allowance, left))
            left -= search.steps - before
            if decisions[key].verdict == "invalid":
                return Report("invalid", decisions, (_refuted(key, histories[key], model, decisions[key]),))
        undecided = [key for key in undecided if decisions[key].verdict == "unknown"]
        allowance *= 2
    if not undecided:
        return Report("valid", decisions)
    return Report(
        "unknown", decisions, tuple(f"{key}: undecided after {decisions[key].steps} steps" for key in undecided)
    )


def _refuted(key: str, ops: Sequence[Op], model: Model[S], decision: Decision) -> str:
    second = bfs.run(prepare(model, ops), SECOND_OPINION_STEPS)
    if second.verdict == "valid":
        raise RuntimeError(f"{key}: the two searches disagree, one of them is wrong")
    first = second.stuck if second.verdict == "invalid" else decision.stuck
    named = f"no order explains {ops[first]}" if first is not None else "no order explains it"
    return f"{key}: {len(ops)} operations are not linearizable, {named}"
