"""The plan of faults is a function of its seed and leaves no kind of fault out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jepsen_lite.__main__ import main
from jepsen_lite.nemesis import ALL_FAULTS, ENDS, LONGEST_S, leader_kills, plan


@pytest.mark.parametrize("seed", range(20))
def test_one_seed_is_one_plan_with_every_fault_before_any_is_repeated(seed: int) -> None:
    faults = plan(seed, 60.0)
    assert faults == plan(seed, 60.0)
    for start in range(0, len(faults) - 3, 4):
        four = {(fault.kind, fault.target) for fault in faults[start : start + 4]}
        assert len(four) == 4
    assert faults[0].target == "leader", "the shortest run must hit a leader"
    assert all(0 < fault.lasts_s <= LONGEST_S for fault in faults)
    assert sum(fault.lasts_s + fault.then_quiet_s for fault in faults) >= 60.0


@pytest.mark.parametrize("seed", range(5))
def test_with_links_every_fault_comes_before_any_is_repeated(seed: int) -> None:
    faults = plan(seed, 120.0, ALL_FAULTS)
    for start in range(0, len(faults) - len(ALL_FAULTS) + 1, len(ALL_FAULTS)):
        round_of_all = faults[start : start + len(ALL_FAULTS)]
        assert {(fault.kind, fault.target) for fault in round_of_all} == set(ALL_FAULTS)
    assert all(fault.kind in ENDS for fault in faults)


def test_a_plan_of_kills_hits_leaders_only_and_as_often_as_asked() -> None:
    kills = leader_kills(3, 20)
    assert kills == leader_kills(3, 20)
    assert [(kill.kind, kill.target) for kill in kills] == [("kill", "leader")] * 20


def test_different_seeds_are_different_plans() -> None:
    assert len({str(plan(seed, 10.0)) for seed in range(20)}) == 20


@pytest.mark.parametrize("content", ["", "{}\n", "not json\n"])
def test_checking_what_is_no_history_is_an_error_or_inconclusive(tmp_path: Path, content: str) -> None:
    """Never valid: an empty file has no violation in it either."""
    (tmp_path / "history.jsonl").write_text(content)
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert result.exit_code in (1, 2), result.output
    assert "verdict: valid" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_checking_a_directory_without_a_history_names_the_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert str(tmp_path / "history.jsonl") in result.output
