"""The verdict on leases under faults, and the table that shows it.

A lease is gone early if an answer shows it gone before its TTL has passed since its last acknowledged renewal was
called (P4), and late if a read shows it more than ``LATE_S`` after its TTL has run out, the time in which the canary
could not renew left out (P5). Both are certain: what was not observed counts for the cluster.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from jepsen_lite.checker import Result
from jepsen_lite.owners import Lease
from jepsen_lite.tails import Ended, Outages

LATE_S = 1.0
"""P5. Beyond the TTL and the outages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What a run must show at least to count as a proof."""

    ended: int = 50
    """Leases that were seen to end."""
    leaderships: int = 2


@dataclass(slots=True)
class Struck:
    """A fault as it was noted."""

    kind: str
    node: str
    role: str
    since: float
    until: float | None = None
    """When its node was ready again."""


@dataclass(slots=True)
class Run:
    """What a run leaves behind, to be judged."""

    leases: list[Lease]
    outages: Outages
    leaderships: int
    renewals: int
    seconds: float
    steadfast: bool = False
    """No owner fell silent before the end."""
    struck: list[Struck] = field(default_factory=list)
    not_healed: str = ""
    """Why the nodes did not all come back after the faults."""


def judge(run: Run, least: Least) -> tuple[Result, list[str]]:
    """Sentences that say what is wrong, or why nothing is proved."""
    wrong: list[str] = [f"not healed: {run.not_healed}"] if run.not_healed else []
    for lease in run.leases:
        wrong += [f"{lease.name}: {fault}" for fault in lease.faults]
        if lease.gone_at is None:
            wrong.append(f"{lease.name}, TTL {lease.ttl_s:g} s, never ended; last renewed by {lease.renewed_by:.3f} s")
        elif (early := tails(run, lease).early) < 0:
            wrong.append(
                f"{lease.name}, TTL {lease.ttl_s:g} s, was gone {-early:.3f} s early: at {lease.gone_at:.3f} s,"
                f" its last acknowledged renewal was called at {lease.acknowledged_at:.3f} s"
            )
        if run.steadfast and lease.missed_while_renewing:
            wrong.append(f"{lease.name} was gone at {lease.gone_at:.3f} s, though its owner never stopped renewing it")
        if (late := certainly_late(run, lease)) > LATE_S:
            wrong.append(
                f"{lease.name}, TTL {lease.ttl_s:g} s, was seen {late:.3f} s late: at {lease.seen_at:.3f} s, its last"
                f" renewal had taken effect by {lease.renewed_by:.3f} s"
            )
    if wrong:
        return "invalid", wrong
    ended = sum(lease.gone_at is not None for lease in run.leases)
    thin: list[str] = []
    if ended < least.ended:
        thin.append(f"{ended} leases ended, {least.ended} needed")
    if run.leaderships < least.leaderships:
        thin.append(f"{run.leaderships} leaderships seen, {least.leaderships} needed")
    return ("inconclusive" if thin else "valid"), thin


def tails(run: Run, lease: Lease) -> Ended:
    """As it was observed: the end by the first answer without it, so ``late`` includes the time to the next read."""
    assert lease.gone_at is not None
    outage = run.outages.between(lease.renewed_by, lease.gone_at)
    return Ended(
        early=lease.gone_at - lease.acknowledged_at - lease.ttl_s,
        late=lease.gone_at - lease.renewed_by - lease.ttl_s - outage,
        outage=outage,
        leader_changes=lease.leaderships[1] - lease.leaderships[0],
    )


def certainly_late(run: Run, lease: Lease) -> float:
    """Seconds beyond TTL and outages at which the lease was still there, by the call of the last read that shows it."""
    return lease.seen_at - lease.renewed_by - lease.ttl_s - run.outages.between(lease.renewed_by, lease.seen_at)


def table(run: Run) -> list[str]:
    lines = ["fault   node  role        from      until ready"]
    for fault in run.struck:
        until = "never" if fault.until is None else f"{fault.until:7.2f} s"
        lines.append(f"{fault.kind:<7} {fault.node:<5} {fault.role:<9} {fault.since:7.2f} s  {until}")
    lines += [
        "",
        f"{'leases':<34} {len(run.leases):>8}",
        f"{'acknowledged renewals':<34} {run.renewals:>8}",
        f"{'leaderships seen':<34} {run.leaderships:>8}",
        f"{'ended while their owner tried':<34} {sum(lease.missed_while_renewing for lease in run.leases):>8}",
        f"{'no renewal acknowledged for':<34} {run.outages.between(0, run.seconds):>7.2f} s of {run.seconds:.0f} s",
        "",
        "TTL     ended  over a new leader  early: least    p50   late: p50    p99   most  certainly",
    ]
    for ttl_s in sorted({lease.ttl_s for lease in run.leases}):
        ended = [lease for lease in run.leases if lease.gone_at is not None and lease.ttl_s == ttl_s]
        lines.append(_row(run, ended, ttl_s))
    return lines


def _row(run: Run, leases: list[Lease], ttl_s: float) -> str:
    if len(leases) < 2:
        return f"{ttl_s:3.0f} s  {len(leases):>6}"
    ended = [tails(run, lease) for lease in leases]
    early, late = sorted(e.early for e in ended), sorted(e.late for e in ended)
    p99 = statistics.quantiles(late, n=100, method="inclusive")[98]
    certainly = max(certainly_late(run, lease) for lease in leases)
    return (
        f"{ttl_s:3.0f} s  {len(ended):>6}  {sum(e.leader_changes > 0 for e in ended):>17}"
        f"  {early[0]:>10.3f} s {statistics.median(early):>6.3f} {statistics.median(late):>9.3f} {p99:>8.3f}"
        f" {late[-1]:>6.3f} {certainly:>9.3f} s"
    )
