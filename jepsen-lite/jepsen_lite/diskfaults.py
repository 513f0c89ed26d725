"""A disk that is full and a disk that does not answer, at the leader and at a follower, under load on real processes.

Full: a file takes every block of the node's image. Stuck: the file system is frozen, so each write and sync of the node
hangs. Meanwhile the others lead and acknowledge, and the node says on ``/readyz`` what is wrong with it. When the disk
works again the node is ready again by itself, and every acknowledged write is on every node.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator

from jepsen_lite.checker import Result
from jepsen_lite.cluster import ClusterError
from jepsen_lite.images import ImageError
from jepsen_lite.load import Writes, writing
from jepsen_lite.powercut import ImageCluster, differences

FAULTS = ("full", "stuck")
ROLES = ("leader", "follower")
WRITES = 100
LEADER_S = 5.0
"""An election timeout until the leader gives way, one for the election, and a busy machine."""
NOTICED_S = 5.0
BACK_S = 30.0
POLL_S = 0.02


def diskfaults(cluster: ImageCluster, say: Callable[[str], None] = print) -> tuple[Result, str]:
    """Each fault at each role, one after the other, on a started cluster. The verdict, and what is wrong."""
    writes = Writes("disk-faults")
    for fault, role in itertools.product(FAULTS, ROLES):
        leader = cluster.leader()
        victim = leader if role == "leader" else next(node for node in cluster.ids if node != leader)
        try:
            said = asyncio.run(_one(cluster, fault, victim, writes))
            cluster.wait_ready(timeout_s=BACK_S)
        except ImageError as exc:
            return "inconclusive", f"{fault} at the {role}: {exc}"
        except (ClusterError, TimeoutError) as exc:
            return "invalid", f"{fault} at the {role} {victim}: {exc or 'writes did not go on'}"
        if wrong := asyncio.run(differences(cluster, writes)):
            return "invalid", f"{fault} at the {role}: {'; '.join(wrong)}"
        say(f"{fault} at the {role}: {said}")
    return "valid", ""


async def _one(cluster: ImageCluster, fault: str, victim: str, writes: Writes) -> str:
    """What the victim said. Raises ``ClusterError`` when somebody did not do what it must, ``TimeoutError``."""
    others = [node for node in cluster.ids if node != victim]
    async with writing(cluster, writes, [*others, *others, victim]):
        await writes.more(WRITES)
        with _full(cluster, victim) if fault == "full" else _stuck(cluster, victim):
            reason = await asyncio.to_thread(_reason, cluster, victim)
            leader = await asyncio.to_thread(_leader_among, cluster, others)
            await writes.more(WRITES)
            if cluster.nodes[victim].state != "running":
                raise ClusterError(f"{victim} ended: {cluster.nodes[victim].log_tail(3)}")
        await asyncio.to_thread(cluster.wait_ready, [victim], BACK_S)
        await writes.more(WRITES)
    return f"{victim} said {reason!r}; {leader} leads; {victim} came back by itself"


def _reason(cluster: ImageCluster, victim: str) -> str:
    """What ``/readyz?verbose`` says of the journal."""
    deadline = time.monotonic() + NOTICED_S
    while time.monotonic() < deadline:
        report = cluster.text(victim, "/readyz?verbose")
        for line in report.splitlines():
            if line.startswith("[-]") and "journal" in line:
                return line.removeprefix("[-]")
        time.sleep(POLL_S)
    raise ClusterError(f"not ready for want of a journal within {NOTICED_S:g} s: {report!r}")


def _leader_among(cluster: ImageCluster, nodes: list[str]) -> str:
    deadline = time.monotonic() + LEADER_S
    while time.monotonic() < deadline:
        for node in nodes:
            if "role leader" in cluster.text(node, "/readyz?verbose") and cluster.is_ready(node):
                return node
        time.sleep(POLL_S)
    raise ClusterError(f"none of {', '.join(nodes)} leads within {LEADER_S:g} s")


@contextlib.contextmanager
def _full(cluster: ImageCluster, node: str) -> Iterator[None]:
    filler = cluster.images[node].mounted_on / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise ImageError(f"{filler}: {exc}") from exc
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def _stuck(cluster: ImageCluster, node: str) -> Iterator[None]:
    """Thaws also when this process is killed: its child sees the end of the pipe. Nothing could end the node else."""
    path = str(cluster.images[node].mounted_on)
    guard = subprocess.Popen(
        ["sh", "-c", 'read -r _; fsfreeze --unfreeze "$0"', path], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        frozen = subprocess.run(["fsfreeze", "--freeze", path], capture_output=True, text=True, check=False)
        if frozen.returncode != 0:
            raise ImageError(f"fsfreeze: {frozen.stderr.strip()}")
        yield
    finally:
        guard.communicate()
