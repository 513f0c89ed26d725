"""Rows of a run as a table and as JSON, with the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement; ``ratio`` is against the etcd operation of the same connections, when etcd ran beside."""

    name: str
    connections: int
    seconds: float
    per_second: float
    unit: str
    p50_ms: float
    p99_ms: float
    against: str | None = None
    ratio: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    machine: str
    rows: list[Row]
    moments: dict[str, dict[str, float]]


def as_text(figures: msgspec.Struct) -> str:
    """JSON, one field per line."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=1).decode()


def machine(directory: Path, etcd: str | None, clients: str) -> str:
    """Processor, cores, kernel, interpreter, disk and load: what the numbers depend on."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{_processor()}, {os.cpu_count()} cores shared with the load generator, Linux {platform.release()}, "
        f"Python {platform.python_version()}, data on {_filesystem(directory)}, fsync on, {clients}, "
        f"etcd {etcd or 'not installed'}, load average before {load}"
    )


def table(result: Result) -> str:
    lines = [
        result.machine,
        "",
        f"{'operation':<28}{'conns':>6}{'secs':>6}{'per second':>12} {'unit':<10}{'p50 ms':>8}{'p99 ms':>8}  against",
    ]
    for row in result.rows:
        against = f"{row.ratio:.2f} x {row.against}" if row.ratio is not None else ""
        lines.append(
            f"{row.name:<28}{row.connections:>6}{row.seconds:>6.0f}{row.per_second:>12,.0f} {row.unit:<10}"
            f"{row.p50_ms:>8.2f}{row.p99_ms:>8.2f}  {against}".rstrip()
        )
    for name, values in result.moments.items():
        shown = "  ".join(f"{label} {value:,.1f}" for label, value in values.items())
        lines += ["", f"{name}: {shown}"]
    return "\n".join(lines)


def with_ratios(rows: Sequence[Row], pairs: dict[str, str]) -> list[Row]:
    """Each row compared with its counterpart at the same number of connections."""
    rates = {(row.name, row.connections): row.per_second for row in rows}
    done = []
    for row in rows:
        other = pairs.get(row.name)
        base = rates.get((other, row.connections)) if other else None
        done.append(msgspec.structs.replace(row, against=other, ratio=row.per_second / base) if base else row)
    return done


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(directory: Path) -> str:
    """The type of the file system that holds ``directory``: fsync on tmpfs proves nothing."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "an unknown file system"
    entries = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    target = str(directory.resolve())
    holding = [
        (point, kind) for point, kind in entries if target == point or target.startswith(point.rstrip("/") + "/")
    ]
    return max(holding, key=lambda entry: len(entry[0]), default=("/", "an unknown file system"))[1]
