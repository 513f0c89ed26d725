"""The summary of a run, as text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jepsen_lite.checker import Verdict
from jepsen_lite.history import Event, pair
from jepsen_lite.witness import NANOSECONDS, faults_of, leader_changes

SHOWN_MAX = 12


def summary(events: Sequence[Event], verdict: Verdict) -> str:
    """What happened, fault by fault, and the verdict."""
    operations, _ = pair(events)
    lines = ["", "fault          node  role      from      lasted"]
    for fault in faults_of(events):
        lasted = "to the end" if fault.end is None else f"{(fault.end - fault.begin) / NANOSECONDS:5.2f} s"
        begin = fault.begin / NANOSECONDS
        lines.append(f"{fault.kind:<14} {fault.node:<5} {fault.role:<9} {begin:6.2f} s  {lasted}")
    lines += ["", *(f"{name:<24} {count:>8}" for name, count in verdict.stats.items())]
    lines += [f"{'leader changes':<24} {leader_changes(operations):>8}"]
    lines += [f"{'longest without an ok add':<24} {_longest_gap(events):>7.2f} s", ""]
    lines += [f"{anomaly.kind}: {anomaly.detail}" for anomaly in verdict.anomalies[:SHOWN_MAX]]
    if len(verdict.anomalies) > SHOWN_MAX:
        lines.append(f"… and {len(verdict.anomalies) - SHOWN_MAX} more anomalies")
    lines += verdict.reasons
    return "\n".join([*lines, f"verdict: {verdict.result}"])


def _longest_gap(events: Sequence[Event]) -> float:
    """Seconds between two acknowledged adds, the longest of the run."""
    acknowledged = [event.time for event in events if event.f == "add" and event.type == "ok"]
    gaps = (after - before for before, after in itertools.pairwise(acknowledged))
    return max(gaps, default=0) / NANOSECONDS
