"""Both searches, with and without simplification, agree with the definition on random histories.

LINCHECK_HISTORIES sets how many are tried, LINCHECK_SEED where to begin; the seed is part of every failure's text.
"""

from __future__ import annotations

import os
import random
import secrets
import sys

import pytest

from jepsen_lite.linearizability import bfs, brute
from jepsen_lite.linearizability.dfs import Search
from jepsen_lite.linearizability.model import prepare
from jepsen_lite.linearizability.operations import Op
from tests.support.small_histories import KINDS, Kind, draw

HISTORIES = int(os.environ.get("LINCHECK_HISTORIES", "8000"))
"""Of each kind, half of them with unique values."""
SEED = int(os.environ.get("LINCHECK_SEED", secrets.randbelow(10**9)))


def opinions(kind: Kind, ops: list[Op]) -> dict[str, str]:
    """The verdict of every checker; a valid one whose order does not explain the history is no verdict."""
    plain, simple = prepare(kind.model, ops, simplify=False), prepare(kind.model, ops)
    searches = {
        "dfs by call": Search(simple),
        "dfs by return": Search(simple, "return"),
        "dfs, nothing simplified": Search(plain),
    }
    found: dict[str, str] = {}
    for name, search in searches.items():
        decision = search.run(10**6)
        found[name] = decision.verdict
        if decision.verdict == "valid" and not brute.explains(
            ops, decision.linearization, kind.initial, kind.definition
        ):
            found[name] = f"a wrong order: {decision.linearization}"
    found["bfs"] = bfs.run(plain, 10**6).verdict
    found["bfs, simplified"] = bfs.run(simple, 10**6).verdict
    found["brute force"] = "valid" if brute.linearizable(ops, kind.initial, kind.definition) else "invalid"
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_all_checkers_agree(kind: Kind) -> None:
    verdicts = {"valid": 0, "invalid": 0}
    for number in range(HISTORIES):
        rng = random.Random(f"{SEED}/{kind.name}/{number}")
        ops = draw(rng, kind, rng.randint(2, 7), unique=number % 2 == 1)
        found = opinions(kind, ops)
        history = "\n".join(map(str, ops))
        assert len(set(found.values())) == 1, f"LINCHECK_SEED={SEED}, number {number}: {found}\n{history}"
        verdicts[found["bfs"]] += 1
    sys.stdout.write(f"{kind.name}: seed {SEED}, {verdicts}\n")
    assert min(verdicts.values()) > HISTORIES * 0.05, f"one-sided histories: {verdicts}"
