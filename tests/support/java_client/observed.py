"""What clients saw, gathered over any number of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Observed:
    """Latencies in seconds. ``counts``: events by name, such as ``reconnect`` or ``pong missing``."""

    pongs_s: list[float] = field(default_factory=list)
    heartbeats_s: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """Error codes in answers other than success, per instance or for the whole."""
    notes: list[str] = field(default_factory=list)
    """The first failures, in words."""

    def count(self, event: str, note: object = None) -> None:
        self.counts[event] += 1
        if note is not None and len(self.notes) < 50:
            self.notes.append(f"{event}: {note}")
