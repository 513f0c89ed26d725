"""Whole runs are linearizable and certified, and what the quick history checks let through is found here."""

from __future__ import annotations

import pytest

from artemis.leases import LeaseTable
from artemis.sessions import RequestWindow
from tests.simulation import history as histories
from tests.simulation.history import History, Operation
from tests.simulation.linearizability import contradictions, uncertified
from tests.simulation.scenario import Run
from tests.simulation.settings import Settings, swarm
from tests.simulation.world import World

SECONDS = 20.0


def put(
    history: History, kind: histories.Kind, called_at: float, returned_at: float, revision: int, names: str = ""
) -> Operation:
    read = kind in ("read", "stale-read")
    operation = history.call(f"c{len(history.operations)}", kind, "alpha", called_at, () if read else tuple(names))
    operation.seen = frozenset(names) if read else frozenset()
    operation.returned_at, operation.outcome, operation.revision = returned_at, "ok", revision
    return operation


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_a_run_under_faults_is_linearizable_and_certified(seed: int) -> None:
    run = Run(seed, swarm(World(seed).stream("swarm")))
    run.run(SECONDS)
    assert run.history.ok("add") > 10
    assert run.history.ok("read") > 5
    assert contradictions(run.history) == []
    assert uncertified(run.history, run.cluster.watch) == []


def test_two_reads_that_need_opposite_orders() -> None:
    """Both adds are open all the time, so no single rule about one element is broken."""
    history = History()
    put(history, "add", 0, 9, 1, "a")
    put(history, "add", 0, 9, 2, "b")
    put(history, "read", 1, 2, 1, "a")
    put(history, "read", 3, 4, 2, "b")
    assert histories.check(history) == []
    assert len(contradictions(history)) == 1
    history.operations.pop()
    put(history, "read", 3, 4, 2, "ab")
    assert contradictions(history) == []


def test_an_undecided_history_is_no_pass() -> None:
    history = History()
    put(history, "add", 0, 9, 1, "a")
    assert contradictions(history, steps_max=1) == ["alpha: undecided after 1 steps"]


def calm_run() -> Run:
    """Without faults but with a network on which answers come too late for many clients, so that they retry."""
    settings = Settings(clients=6, think=0.1)
    settings.network.latency_max = 0.15
    run = Run(1, settings)
    run.start()
    run.world.run_for(SECONDS)
    return run


def test_a_registry_that_executes_a_retry_again_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uncertified((sound := calm_run()).history, sound.cluster.watch) == []
    monkeypatch.setattr(RequestWindow, "outcome_of", lambda self, request, revision: None)
    monkeypatch.setattr(RequestWindow, "remember", lambda self, request, clock_ms, outcome: None)
    run = calm_run()
    assert any("wrong-answer" in line for line in uncertified(run.history, run.cluster.watch))


def test_a_registry_that_ends_no_lease_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseTable, "may_be_due", lambda self, clock_ms: False)
    run = calm_run()
    assert any("wrong-answer" in line for line in uncertified(run.history, run.cluster.watch))


def test_an_answer_out_of_nowhere_is_not_certified() -> None:
    run = calm_run()
    read = next(each for each in run.history.operations if each.kind == "stale-read" and each.outcome == "ok")
    read.seen |= {"phantom"}
    assert [line.split(":")[0] for line in uncertified(run.history, run.cluster.watch)] == ["wrong-content"]
