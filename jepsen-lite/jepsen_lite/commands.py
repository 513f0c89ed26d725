"""The commands beside ``run`` and ``check``. Exit codes are theirs: 0 valid, 1 invalid, 2 inconclusive."""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from jepsen_lite import nemesis
from jepsen_lite.checker import EXIT_CODES, Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.diskfaults import diskfaults
from jepsen_lite.fsync_audit import fsync_audit
from jepsen_lite.hopping import SOON_A_BOOKMARK, hopping
from jepsen_lite.hopping import Settings as WatchSettings
from jepsen_lite.images import ImageError, enter_namespace, obstacle
from jepsen_lite.lease_report import Least
from jepsen_lite.leases import Settings, leases
from jepsen_lite.namespaces import NamespaceCluster
from jepsen_lite.namespaces import obstacle as obstacle_to_namespaces
from jepsen_lite.owners import Habits
from jepsen_lite.powercut import ImageCluster, powercut
from jepsen_lite.proxy import ProxiedCluster, SeverableCluster
from jepsen_lite.strangers import SecretCluster, strangers

STORE = Path(__file__).resolve().parent.parent / "store"
store_option = click.option(
    "--store", type=click.Path(path_type=Path), default=STORE, help="Where logs and images are kept meanwhile."
)
namespaces_option = click.option(
    "--namespaces", is_flag=True, help="Lose packets in network namespaces instead of holding bytes in proxies (root)."
)
CANNOT = "cannot mount images: "
"""Begins the line that says why; the kill -9 of all nodes (``run``, tests/cluster) is the tier below."""


@click.command("powercut")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Power cuts.")
@click.option("--seed", type=int, default=None, help="Repeats how much is written before each cut.  [default: drawn]")
@click.option("--nodes", type=click.IntRange(3, 7), default=3, show_default=True, help="Cluster size.")
@click.option("--program", default="", help="A Python file to run in place of artemis-node.")
@store_option
def powercut_command(rounds: int, seed: int | None, nodes: int, program: str, store: Path) -> None:
    """Cut the power of all nodes under load. Needs root, for loop mounts; changes no mount that others see."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    arguments = ["--rounds", str(rounds), "--seed", str(seed), "--nodes", str(nodes), "--program", program]
    directory = _with_mounts(store, "powercut", arguments, f"powercut-{seed}")
    print(f"seed {seed}", flush=True)
    command = [sys.executable, "-P", program] if program else None
    try:
        with ImageCluster(directory, size=nodes, command=command) as cluster:
            verdict = powercut(cluster, rounds, seed)
    except (ClusterError, ImageError) as exc:
        finish("inconclusive", f"the cluster did not come up: {exc}")
    if verdict.result == "valid":
        shutil.rmtree(directory)
    finish(verdict.result, verdict.text)


@click.command("diskfaults")
@store_option
def diskfaults_command(store: Path) -> None:
    """A full and a stuck disk, at the leader and at a follower. Needs root, for loop mounts."""
    directory = _with_mounts(store, "diskfaults", [], "diskfaults")
    try:
        with ImageCluster(directory) as cluster:
            result, text = diskfaults(cluster)
    except (ClusterError, ImageError) as exc:
        finish("inconclusive", f"the cluster did not come up: {exc}")
    if result == "valid":
        shutil.rmtree(directory)
    finish(result, text)


def _with_mounts(store: Path, command: str, arguments: Sequence[str], name: str) -> Path:
    """A directory in which images can be mounted. Ends the command when they cannot."""
    try:
        enter_namespace("jepsen_lite", [command, *arguments, "--store", str(store)])
    except ImageError as exc:
        finish("inconclusive", f"{CANNOT}{exc}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the teardown runs
    directory = new_directory(store, name)
    print(f"logs in {directory}", flush=True)
    if reason := obstacle(directory):
        finish("inconclusive", f"{CANNOT}{reason}")
    return directory


@click.command("fsync-audit")
@click.option("--time", "seconds", type=click.FloatRange(0.5), default=3.0, show_default=True, help="Seconds of load.")
@click.option("--program", default="", help="A Python file to run in place of artemis-node.")
@store_option
def fsync_audit_command(seconds: float, program: str, store: Path) -> None:
    """Trace every node with strace: nothing is promised before the fdatasync that covers it has returned."""
    directory = new_directory(store, "fsync-audit")
    command = [sys.executable, "-P", program] if program else None
    try:
        with Cluster(directory, command=command) as cluster:
            result, text = fsync_audit(cluster, seconds)
    except ClusterError as exc:
        finish("inconclusive", f"the cluster did not come up: {exc}")
    if result == "valid":
        shutil.rmtree(directory)
    else:
        print(f"traces in {directory}")
    finish(result, text)


@click.command("strangers")
@click.option("--time", "seconds", type=click.FloatRange(3), default=60.0, show_default=True, help="Seconds of attack.")
@click.option("--seed", type=int, default=None, help="Repeats what each stranger draws.  [default: drawn]")
@store_option
def strangers_command(seconds: float, seed: int | None, store: Path) -> None:
    """Strangers on the Raft ports: garbage, recorded handshakes, slow bytes, floods; the cluster must not notice."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    directory = new_directory(store, f"strangers-{seed}")
    print(f"seed {seed}, logs in {directory}", flush=True)
    try:
        cluster = SecretCluster(directory)
        with cluster:
            result, text = strangers(cluster, seconds, seed)
    except ClusterError as exc:
        finish("inconclusive", f"the cluster did not come up: {exc}")
    if result == "valid":
        shutil.rmtree(directory)
    finish(result, text)


@click.command("leases")
@click.option("--time", "seconds", type=click.FloatRange(5), default=180.0, show_default=True, help="How long.")
@click.option("--seed", type=int, default=None, help="Repeats the plan of faults and the owners.  [default: drawn]")
@click.option("--owners", type=click.IntRange(10), default=200, show_default=True, help="Owners of short leases.")
@click.option(
    "--kills", type=click.IntRange(1), default=None, help="Only kill the leader, so often; TTL 6 s, no owner stops."
)
@namespaces_option
@store_option
def leases_command(
    seconds: float, seed: int | None, owners: int, kills: int | None, namespaces: bool, store: Path
) -> None:
    """Owners stop and resume while leaders are killed, stopped and cut off: how early and how late do leases end?"""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    directory = new_directory(store, f"leases-{seed}")
    print(f"seed {seed}, logs in {directory}", flush=True)
    if kills is None:
        plan = nemesis.plan(seed, seconds, nemesis.ALL_FAULTS)
        settings = Settings(seed=seed, plan=plan, seconds=seconds, owners=owners)
    else:
        settings = Settings(
            seed=seed,
            plan=nemesis.leader_kills(seed, kills),
            owners=owners,
            habits=Habits(ttls_ms=(6000,), beats_per_ttl=6, steadfast=True),
            least=Least(ended=owners, leaderships=kills),
        )
    try:
        cluster = _severable(directory, namespaces)
        with cluster:
            result, text = leases(cluster, settings)
    except ClusterError as exc:
        finish("inconclusive", f"the cluster did not come up or back: {exc}")
    if result == "valid":
        shutil.rmtree(directory)
    finish(result, text)


@click.command("watch")
@click.option("--time", "seconds", type=click.FloatRange(5), default=120.0, show_default=True, help="How long.")
@click.option("--seed", type=int, default=None, help="Repeats the plan of faults.  [default: drawn]")
@namespaces_option
@store_option
def watch_command(seconds: float, seed: int | None, namespaces: bool, store: Path) -> None:
    """Watchers go from node to node under faults: does what they are told add up to what linearizable reads give?"""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    directory = new_directory(store, f"watch-{seed}")
    print(f"seed {seed}, logs in {directory}", flush=True)
    plan = nemesis.plan(seed, seconds, nemesis.ALL_FAULTS)
    try:
        cluster = _severable(directory, namespaces, SOON_A_BOOKMARK)
        with cluster:
            result, text = hopping(cluster, WatchSettings(seed=seed, plan=plan, seconds=seconds))
    except ClusterError as exc:
        finish("inconclusive", f"the cluster did not come up or back: {exc}")
    if result == "valid":
        shutil.rmtree(directory)
    finish(result, text)


def _severable(directory: Path, namespaces: bool, arguments: Sequence[str] = ()) -> SeverableCluster:
    """Ends the command where there can be no namespaces."""
    if not namespaces:
        return ProxiedCluster(directory, arguments=arguments)
    if reason := obstacle_to_namespaces():
        finish("inconclusive", f"no network namespaces: {reason}")
    return NamespaceCluster(directory, arguments=arguments)


def new_directory(store: Path, name: str) -> Path:
    directory = store / f"{time.strftime('%Y%m%dT%H%M%S')}-{name}"
    directory.mkdir(parents=True)
    return directory


def finish(result: Result, text: str = "") -> NoReturn:
    """Print what is to say and the verdict, and end with its exit code."""
    print(f"{text}\nverdict: {result}" if text else f"verdict: {result}", flush=True)
    sys.exit(EXIT_CODES[result])
