"""wrk as a function: a target and its bodies in, counts and latencies out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("requests.lua")
MARK = "RESULT "


class BenchmarkError(Exception):
    """The measurement cannot be made, or would not be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests to send in turn, again and again."""

    name: str
    path: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    units_per_request: int = 1
    """What one request does that many times: a batch of 100 heartbeats counts as 100 renewals."""
    unit: str = "requests"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of wrk. Times are microseconds as wrk measures them: from the write of a request to its whole answer."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    max_us: int
    failed: int
    """Connections refused, broken or timed out."""
    not_2xx: int

    @property
    def per_second(self) -> float:
        return self.requests * 1e6 / self.duration_us

    @property
    def bytes_per_answer(self) -> float:
        return self.bytes / max(1, self.requests)


def require() -> None:
    """Raises ``BenchmarkError`` with what to do when wrk is missing."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not installed: apt-get install wrk")


def drive(url: str, workload: Workload, *, connections: int, seconds: float, scratch: Path) -> Sample:
    """Drive ``url`` for ``seconds`` over ``connections`` keep-alive connections from one thread.

    Raises ``BenchmarkError`` when wrk fails or any answer was not 2xx: a server that refuses quickly is not fast.
    """
    source = scratch / "requests.txt"
    head = [
        workload.path,
        *(f"{name}: {value}" for name, value in workload.headers.items()),
        "content-type: application/json",
        "",
    ]
    source.write_bytes(b"\n".join([*(line.encode() for line in head), *workload.bodies, b""]))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), url, "--", str(source)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if done.returncode != 0 or line is None:
        raise BenchmarkError(
            f"{workload.name}: wrk ended with {done.returncode}: {done.stderr[-500:]}{done.stdout[-500:]}"
        )
    sample = msgspec.json.decode(line.removeprefix(MARK), type=Sample)
    if sample.failed or sample.not_2xx or not sample.requests:
        raise BenchmarkError(f"{workload.name} on {url}: {sample}")
    return sample
