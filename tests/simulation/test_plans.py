"""A run written down is the same run, a trigger fires when its condition holds, and bad plans are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import plans
from tests.simulation.actions import Actions
from tests.simulation.cluster import Cluster
from tests.simulation.plans import Plan, PlannedClient, PlannedEvent, PlannedRun
from tests.simulation.predicates import parse
from tests.simulation.run import drawn
from tests.simulation.settings import Settings
from tests.simulation.world import World

HEAD = '{"format": 1, "seed": 1, "seconds": 1'


@pytest.mark.parametrize("seed", [1, 5, 9, 12])
def test_a_recorded_run_replays_to_the_same_trace(seed: int, tmp_path: Path) -> None:
    run = drawn(seed)
    digest = run.run(6.0).digest
    assert run.actions.log, "a run without faults shows nothing here"
    path = tmp_path / "plan.json"
    path.write_text(plans.dumps(plans.recorded(run, 6.0)))
    assert PlannedRun(plans.load(path)).run(6.0).digest == digest


def test_a_plan_is_the_same_run_under_any_hash_seed(tmp_path: Path) -> None:
    run = drawn(5)
    report = run.run(4.0)
    path = tmp_path / "plan.json"
    path.write_text(plans.dumps(plans.recorded(run, 4.0)))
    for hash_seed in ("0", "12345"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.run", "--plan", str(path)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert f"trace {report.digest}" in done.stdout


def test_a_plan_survives_its_file() -> None:
    settings = replace(Settings(), members=5, request_ids=1.0)
    settings.network.grid = 0.05
    plan = Plan(
        seed="text",
        seconds=3.5,
        settings=settings,
        clients=(PlannedClient(name="c0", operations_max=4), PlannedClient(name="c7")),
        owners=("owner1",),
        events=(
            PlannedEvent(do="cut", args={"links": ["n1>n2"]}, at=0.1 + 0.2),
            PlannedEvent(do="kill", args={"node": "leader"}, when="leader.term >= 1 and not n2.role == candidate"),
        ),
        about="what it shows",
    )
    assert plans.loads(plans.dumps(plan)) == plan


def test_a_trigger_fires_once_in_the_first_turn_in_which_it_holds() -> None:
    events = (
        PlannedEvent(do="kill", args={"node": "leader"}, when="leader.ready and leader.applied >= 5", at=2.0),
        PlannedEvent(do="start", args={"node": "n1"}, when="time > 3 and not n1.running"),
        PlannedEvent(do="start", args={"node": "n2"}, when="time > 3 and not n2.running"),
        PlannedEvent(do="start", args={"node": "n3"}, when="time > 3 and not n3.running"),
    )
    run = PlannedRun(Plan(seed=3, seconds=6.0, clients=(PlannedClient(name="c0"),), owners=("o",), events=events))
    run.run(6.0)
    assert [done.do for done in run.actions.log] == ["kill", "start"]
    killed, started = run.actions.log
    assert 2.0 <= killed.at < 2.1
    assert 3.0 < started.at < 3.1


def test_a_leader_can_be_stopped_while_it_sends_a_snapshot() -> None:
    """The kind of moment that times do not hit."""
    settings = Settings()
    settings = replace(settings, bounds=replace(settings.bounds, snapshot_log_entries=20, snapshot_trailing_entries=1))
    events = (
        PlannedEvent(do="kill", args={"node": "n3"}, at=2.0),
        PlannedEvent(do="start", args={"node": "n3"}, at=6.0),
        PlannedEvent(do="kill", args={"node": "leader"}, when="leader.feeding", at=6.0),
        PlannedEvent(do="start", args={"node": "n1"}, at=8.0),
        PlannedEvent(do="start", args={"node": "n2"}, at=8.0),
    )
    clients = tuple(PlannedClient(name=f"c{number}") for number in range(4))
    run = PlannedRun(Plan(seed=1, seconds=9.0, settings=settings, clients=clients, events=events))
    run.run(9.0)
    assert [done.do for done in run.actions.log].count("kill") == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 < 2", True),
        ("1 < 2 and 2 < 1", False),
        ("1 > 2 or (2 >= 2 and not false)", True),
        ("n1 == n1", True),
        ("n1 != n2", True),
        ("n1.running", False),
        ("n1.term >= 0", False),
        ("n1.term == none", True),
        ("not n1.running and cuts == 0", True),
        ("not not true", True),
        ("follower0.lives == 0", True),
    ],
)
def test_predicates_mean_what_they_say(text: str, value: bool) -> None:
    cluster = Cluster(World(1), Settings())
    assert bool(parse(text)(cluster)) is value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a value is needed, not 'the end'"),
        ("1 <", "a value is needed"),
        ("(true", "not closed"),
        ("true true", "'true' is not expected"),
        ("n1.colour", "no field 'colour', only role"),
        ("os.role", "'os' is not a node"),
        ("__import__('os')", "no part of the language"),
        ("true; true", "no part of the language"),
    ],
)
def test_bad_predicates_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "plan: an object is needed"),
        ("{}", "format: must be 1"),
        ('{"format": 1, "seconds": 1}', "seed: is missing"),
        (HEAD + ', "colour": 1}', "plan: colour: only"),
        (HEAD + ', "settings": {"speed": 1}}', "settings: speed: only"),
        (HEAD + ', "settings": {"bounds": {"entry_bytes": "many"}}}', "settings.bounds.entry_bytes: 'many'"),
        (HEAD + ', "settings": {"faults": ["rain"]}}', "settings.faults: rain"),
        (HEAD + ', "events": [{"do": "kill", "if": 1}]}', "events: if: only"),
        (HEAD + ', "events": [{"do": "kill", "when": "1 +"}]}', "when: "),
    ],
)
def test_bad_plans_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plans.loads(text)


@pytest.mark.parametrize(
    ("do", "args", "complaint"),
    [
        ("rain", {}, "do: 'rain' is not one of cut"),
        ("kill", {}, "kill: node: a text is needed"),
        ("kill", {"node": "n9"}, "node: 'n9' is not one of n1, n2, n3, leader"),
        ("cut", {"links": "n1>n2"}, "cut: links: a list of texts"),
        ("cut", {"links": ["n1"]}, "is not of the form n1>n2"),
        ("latency", {"most": "much"}, "latency: most: a number or null"),
    ],
)
def test_bad_actions_are_refused(do: str, args: dict[str, str], complaint: str) -> None:
    cluster = Cluster(World(1), Settings())
    with pytest.raises(ValueError, match=complaint):
        Actions(cluster).do(do, **args)
