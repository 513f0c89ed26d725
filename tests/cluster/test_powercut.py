"""Power cuts and failing disks under load, on loop-mounted images. Skipped where none can be mounted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jepsen_lite.checker import EXIT_CODES
from jepsen_lite.commands import CANNOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
DEADLINE_S = 180.0


def output_of(store: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command that mounts: in a namespace of its own, so in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jepsen_lite", *arguments, "--store", str(store)],
        cwd=ROOT / "jepsen-lite",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    output = done.stdout + done.stderr
    for line in output.splitlines():
        if line.startswith(CANNOT):
            pytest.skip(line)
    return done.returncode, output


def powercut(store: Path, rounds: int, program: str = "") -> tuple[int, str]:
    replaced = ("--program", str(SUPPORT / program)) if program else ()
    return output_of(store, "powercut", "--rounds", str(rounds), "--seed", "20261123", *replaced)


def mounts_below(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(directory) in line]


def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path: Path) -> None:
    code, output = powercut(tmp_path, rounds=2)
    assert code == EXIT_CODES["valid"], output
    assert "round 2: " in output
    assert mounts_below(tmp_path) == []
    assert list(tmp_path.rglob("*.img")) == []


def test_nothing_is_lost_when_snapshots_are_taken_meanwhile(tmp_path: Path) -> None:
    code, output = powercut(tmp_path, rounds=3, program="small_log_node.py")
    assert code == EXIT_CODES["valid"], output


def test_a_node_that_does_not_sync_is_found(tmp_path: Path) -> None:
    """The first cut shows it: acknowledged writes are gone, or what is left of the files cannot be started from."""
    code, output = powercut(tmp_path, rounds=1, program="unsynced_node.py")
    assert code == EXIT_CODES["invalid"], output
    assert mounts_below(tmp_path) == []


def test_a_node_with_a_full_or_stuck_disk_gives_way_and_comes_back(tmp_path: Path) -> None:
    code, output = output_of(tmp_path, "diskfaults")
    assert code == EXIT_CODES["valid"], output
    assert output.count("came back by itself") == 4
    assert mounts_below(tmp_path) == []
