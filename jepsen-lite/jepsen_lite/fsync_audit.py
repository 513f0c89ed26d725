"""Traces all nodes of a cluster under load and through a change of leaders, and judges what each promised when.

Complete where a power cut is a sample: it finds a promise that left one system call too early even if no power went.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jepsen_lite.checker import Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.load import Writes, writing
from jepsen_lite.promises import Audit, Findings
from jepsen_lite.strace import Strace, TraceError, calls

WRITERS_PER_NODE = 2
WRITES_AFTER = 30
NEEDED = {"acknowledgement": 50, "commit index": 50, "vote": 1, "candidacy": 1}
"""What must have been judged for the run to prove anything."""
SHOWN_MAX = 10


def fsync_audit(cluster: Cluster, seconds: float, say: Callable[[str], None] = print) -> tuple[Result, str]:
    """Trace a started cluster for ``seconds`` of load, then through the death of its leader. The verdict and why."""
    try:
        asyncio.run(_load_under_trace(cluster, seconds))
        return judge(cluster, say)
    except (TraceError, TimeoutError, ClusterError) as exc:
        return "inconclusive", str(exc) or "the load did not get on under the trace"


def judge(cluster: Cluster, say: Callable[[str], None]) -> tuple[Result, str]:
    """The verdict on the traces. Raises ``TraceError``."""
    total: Counter[str] = Counter()
    broken: list[str] = []
    for node in cluster.ids:
        findings = _audit(cluster, node, syncs=True)
        total += findings.audited
        broken += findings.broken
        shown = ", ".join(f"{name} {count}" for name, count in sorted(findings.audited.items()))
        say(f"{node}: judged {shown or 'nothing'}; too early: {len(findings.broken)}")
        if not broken and findings.audited and not _audit(cluster, node, syncs=False).broken:
            return "inconclusive", f"{node}: the audit finds nothing either when no sync counts"
    if broken:
        more = f"\nand {len(broken) - SHOWN_MAX} more" if len(broken) > SHOWN_MAX else ""
        return "invalid", "\n".join(broken[:SHOWN_MAX]) + more
    few = [f"{total[name]} of {needed} {name}" for name, needed in NEEDED.items() if total[name] < needed]
    return ("inconclusive", f"too little to judge: {', '.join(few)}") if few else ("valid", "")


def trace_file(cluster: Cluster, node: str) -> Path:
    return cluster.directory / f"{node}.strace"


def _audit(cluster: Cluster, node: str, *, syncs: bool) -> Findings:
    peers = {address.raft_port: name for name, address in cluster.addresses.items() if name != node}
    with trace_file(cluster, node).open(encoding="ascii", errors="replace") as lines:
        return Audit(node, peers, syncs=syncs).feed(calls(lines))


async def _load_under_trace(cluster: Cluster, seconds: float) -> None:
    """Raises ``TraceError``, ``TimeoutError`` or ``ClusterError``."""
    writes = Writes("fsync-audit")
    with contextlib.ExitStack() as traces:
        for node in cluster.ids:
            traces.enter_context(Strace(cluster.nodes[node].pid, trace_file(cluster, node)))
        async with writing(cluster, writes, cluster.ids * WRITERS_PER_NODE):
            await asyncio.sleep(seconds)
            leader = await asyncio.to_thread(cluster.leader)
            cluster.kill(leader)
            await asyncio.to_thread(cluster.leader)
            await writes.more(WRITES_AFTER)
