"""The whole harness against stand-in nodes: it passes a sound cluster and finds each planted defect.

The nodes are ``tests/support/fake_node.py``: real processes that are killed and stopped like real nodes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jepsen_lite.cluster import Cluster, ClusterError, free_ports
from jepsen_lite.run import Settings, run
from jepsen_lite.witness import Limits

pytestmark = pytest.mark.cluster

# -P: the folder of the program must not be on its path, its modules shadow those of the standard library
FAKE_NODE = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "fake_node.py")]
SEED = 7
SECONDS = 6.0


def fake_cluster(directory: Path, bug: str = "") -> Cluster:
    return Cluster(directory, command=FAKE_NODE, environment={"FAKE_BUG": bug})


def alive(pid: int) -> bool:
    """False for a process that is gone or waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_sound_cluster_is_valid(tmp_path: Path) -> None:
    with fake_cluster(tmp_path) as cluster:
        verdict = run(cluster, Settings(seed=SEED, seconds=SECONDS), tmp_path / "history.jsonl")
    assert verdict.result == "valid", (verdict.anomalies[:5], verdict.reasons)


@pytest.mark.parametrize(("bug", "anomaly"), [("forget", "lost"), ("stale", "stale-read"), ("invent", "phantom")])
def test_a_planted_defect_is_found(tmp_path: Path, bug: str, anomaly: str) -> None:
    with fake_cluster(tmp_path, bug) as cluster:
        verdict = run(cluster, Settings(seed=SEED, seconds=1.0), tmp_path / "history.jsonl")
    assert verdict.result == "invalid"
    assert anomaly in {found.kind for found in verdict.anomalies}


def test_a_run_that_asks_for_more_than_it_shows_is_inconclusive(tmp_path: Path) -> None:
    with fake_cluster(tmp_path) as cluster:
        settings = Settings(seed=SEED, seconds=1.0, limits=Limits(ok_adds=1_000_000))
        verdict = run(cluster, settings, tmp_path / "history.jsonl")
    assert verdict.result == "inconclusive"


def test_teardown_ends_stopped_processes(tmp_path: Path) -> None:
    with fake_cluster(tmp_path) as cluster:
        pids = [process.pid for process in cluster.nodes.values()]
        cluster.pause("n2")
        assert cluster.nodes["n2"].state == "paused"
    assert not [pid for pid in pids if alive(pid)]


def test_a_node_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "raise SystemExit('no such disk')"]
    with pytest.raises(ClusterError, match=r"(?s)n1 ended with 1 .*no such disk"), Cluster(tmp_path, command=program):
        pass


def test_processes_end_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    """``kill -9`` of the harness runs no teardown of its own; the reaper sees the end of its pipe."""
    script = (
        "import sys; from pathlib import Path; from jepsen_lite.cluster import Cluster\n"
        f"cluster = Cluster(Path({str(tmp_path)!r}), command={FAKE_NODE!r}); cluster.start(); cluster.pause('n1')\n"
        "print(*[node.pid for node in cluster.nodes.values()], flush=True); sys.stdin.read()"
    )
    source = str(Path(__file__).parents[2] / "jepsen-lite")
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    ) as harness:
        assert harness.stdout is not None
        pids = [int(pid) for pid in harness.stdout.readline().split()]
        harness.send_signal(signal.SIGKILL)
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes outlived their harness"
        time.sleep(0.02)


def test_free_ports_are_different_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest
