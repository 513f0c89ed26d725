"""Conditional writes are a compare-and-set: judged by a search over what clients saw, and by the committed log."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from artemis import registry
from artemis.commands import Condition
from artemis.model import Record
from tests.simulation.cas_scenario import CasRun
from tests.simulation.settings import Settings, swarm
from tests.simulation.world import Violation, World

SECONDS = 8.0
SEEDS = range(1, 7)
seen: Counter[str] = Counter()


def settings_of(seed: int) -> Settings:
    """The swarm of the seed, with few other clients and quick ones: the searches are for the compare-and-sets."""
    drawn = swarm(World(seed).stream("swarm"))
    return replace(drawn, clients=2, think=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_conditional_writes_are_linearizable_under_faults(seed: int) -> None:
    run = CasRun(seed, settings_of(seed))
    run.run(SECONDS)
    found = run.seen()
    assert found["done"] > 0
    seen.update(found)


def test_the_runs_meet_every_outcome() -> None:
    if not seen:
        pytest.skip("runs with the seeds only")
    assert min(seen[outcome] for outcome in ("read", "done", "refused", "unknown")) > 5, seen


def test_a_refusal_that_is_ignored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_holds", lambda condition, record: True)
    with pytest.raises(Violation, match=r"not linearizable|wrong-answer"):
        CasRun(1, Settings(clients=2, think=0.1)).run(4.0)


def test_a_condition_decided_on_the_wrong_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_epochs(condition: Condition | None, record: Record | None) -> bool:
        epoch = 0 if record is None else record.lease_id
        return condition is None or condition.revision == epoch

    monkeypatch.setattr(registry, "_holds", on_epochs)
    with pytest.raises(Violation, match=r"not linearizable|wrong-answer"):
        CasRun(1, Settings(clients=2, think=0.1)).run(4.0)
