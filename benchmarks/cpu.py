"""How much processor time processes took, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def seconds_of(pid: int) -> float | None:
    """User and system time since the process started. None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


class CpuMeter:
    """Processor time of named processes, whose process ids may change on the way: what each id took is added up."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], float] = {}
        self.taken_s: dict[str, float] = {}

    def sample(self, name: str, pid: int) -> None:
        now = seconds_of(pid)
        if now is None:
            return
        # A process first seen while measuring has taken all its time while measuring, unless it is the first one.
        before = self._last.get((name, pid), 0.0 if name in self.taken_s else now)
        self._last[name, pid] = now
        self.taken_s[name] = self.taken_s.get(name, 0.0) + now - before
