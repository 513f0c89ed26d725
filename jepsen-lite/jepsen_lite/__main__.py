"""``python -m jepsen_lite COMMAND``. Exit code: 0 valid, 1 invalid, 2 inconclusive."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from pathlib import Path

import click

from jepsen_lite.checker import EXIT_CODES, check
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.commands import (
    STORE,
    diskfaults_command,
    fsync_audit_command,
    leases_command,
    powercut_command,
    strangers_command,
    watch_command,
)
from jepsen_lite.history import load
from jepsen_lite.report import summary
from jepsen_lite.run import Settings, run

HISTORY = "history.jsonl"


@click.group()
def main() -> None:
    """Break a cluster of real artemis-node processes and check what it promised."""


@main.command("run")
@click.option("--seed", type=int, default=None, help="Repeats the plan of faults and loads.  [default: drawn]")
@click.option("--time", "seconds", type=float, default=60.0, show_default=True, help="Seconds of faults under load.")
@click.option("--nodes", type=click.IntRange(3, 7), default=3, show_default=True, help="Cluster size.")
@click.option("--keep", is_flag=True, help="Keep the data directories too, not only history and logs.")
@click.option("--store", type=click.Path(path_type=Path), default=STORE, help="Where runs are saved.")
def run_command(seed: int | None, seconds: float, nodes: int, keep: bool, store: Path) -> None:
    """Run the set workload with kill -9 and SIGSTOP on leader and followers."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    print(
        f"seed {seed}   (again: python -m jepsen_lite run --seed {seed} --time {seconds:g} --nodes {nodes})", flush=True
    )
    directory = store / f"{time.strftime('%Y%m%dT%H%M%S')}-{seed}"
    cluster = Cluster(directory, size=nodes)
    print(f"history and logs in {directory}", flush=True)
    try:
        with cluster:
            verdict = run(cluster, Settings(seed=seed, seconds=seconds), directory / HISTORY)
    except ClusterError as exc:
        print(f"the cluster did not come up or back:\n{exc}\nverdict: inconclusive")
        sys.exit(EXIT_CODES["inconclusive"])
    finally:
        if not keep:
            for node in cluster.ids:
                shutil.rmtree(cluster.data_dir(node), ignore_errors=True)
    print(summary(load(directory / HISTORY), verdict))
    sys.exit(EXIT_CODES[verdict.result])


@main.command("check")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
def check_command(directory: Path) -> None:
    """Judge a saved run again from its history."""
    path = directory / HISTORY if directory.is_dir() else directory
    try:
        events = load(path)
    except (OSError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
    verdict = check(events)
    print(summary(events, verdict))
    sys.exit(EXIT_CODES[verdict.result])


for command in (
    powercut_command,
    diskfaults_command,
    fsync_audit_command,
    strangers_command,
    leases_command,
    watch_command,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
