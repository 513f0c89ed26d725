"""Virtual time: one heap of events for all nodes, one source of randomness per concern, one trace.

Nothing in a simulation reads a real clock, real randomness or a real device. So a run is a function of its seed: the
same seed gives the same trace digest, in any process (``test_seeds``).

Each concern (network, disks, clients, faults, each node) draws from a stream of its own, so that a change in one does
not reshuffle the others: a run with one fault less stays the same up to that fault.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from zlib import crc32

Callback = Callable[[], None]

EVENTS_PER_INSTANT_MAX = 100_000
"""More events than this without time moving on is a loop, not a busy moment."""

_MOMENT = struct.Struct("<d")


class Violation(AssertionError):
    """An invariant does not hold. The text names it, the time and the seed."""


class Event:
    """One entry of the heap. Has the shape of ``ports.TimerHandle``."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Trace:
    """A digest of everything that happened, and the last lines of it in words."""

    def __init__(self, lines_kept: int = 400) -> None:
        self.lines: deque[str] = deque(maxlen=lines_kept)
        self.echo: Callable[[str], None] | None = None
        """Gets every line, messages too, when set."""
        self._digest = 0

    @property
    def digest(self) -> str:
        return f"{self._digest:08x}"

    def note(self, now: float, text: str) -> None:
        line = f"{now:10.4f} {text}"
        self._digest = crc32(line.encode(), self._digest)
        self.lines.append(line)
        if self.echo is not None:
            self.echo(line)

    def bytes_moved(self, now: float, what: str, data: bytes) -> None:
        """The hot form: enters the digest, not the lines."""
        self._digest = crc32(data, crc32(_MOMENT.pack(now), crc32(what.encode(), self._digest)))


class World:
    """Time, randomness, trace and the first violation of one run."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.now = 0.0
        """Virtual seconds since the run began."""
        self.events = 0
        self.trace = Trace()
        self._heap: list[tuple[float, int, Event]] = []
        self._ready: deque[Callback] = deque()
        self._sequence = 0
        self._violation: str | None = None

    def stream(self, concern: str) -> Random:
        return Random(f"{self.seed}/{concern}")

    def note(self, text: str) -> None:
        self.trace.note(self.now, text)

    def soon(self, callback: Callback) -> None:
        """At this instant, after what is due already."""
        self._ready.append(callback)

    def after(self, delay: float, callback: Callback) -> Event:
        event = Event(callback)
        self._sequence += 1
        heappush(self._heap, (self.now + delay if delay > 0.0 else self.now, self._sequence, event))
        return event

    def violate(self, text: str) -> None:
        """Remember the first violation; the run ends with it after the current event.

        It is not raised here: here is often inside an engine, which stops itself on any exception and goes on.
        """
        if self._violation is None:
            self._violation = text
            self.note(f"VIOLATION {text}")

    @property
    def violated(self) -> bool:
        return self._violation is not None

    def run_until(self, until: float) -> None:
        """Raises ``Violation``."""
        heap, ready = self._heap, self._ready
        same_instant = 0
        while True:
            if ready:
                ready.popleft()()
            elif heap and heap[0][0] <= until:
                when, _, event = heappop(heap)
                if event.callback is None:
                    continue
                if when > self.now:
                    same_instant = 0
                self.now = when
                event.callback()
            else:
                break
            self.events += 1
            same_instant += 1
            if same_instant > EVENTS_PER_INSTANT_MAX:
                self.violate("time stands still: events cause events without end")
            if self._violation is not None:
                self._raise_violation()
        # Also what was found between two runs, and no event came after: the checks at the end of a run are such.
        self._raise_violation()
        self.now = until

    def _raise_violation(self) -> None:
        if self._violation is not None:
            raise Violation(f"seed {self.seed}, at {self.now:.3f} s: {self._violation}")

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    def run_until_true(self, condition: Callable[[], bool], within: float, step: float = 0.01) -> bool:
        """Run until ``condition`` holds, at most ``within`` seconds; whether it does."""
        deadline = self.now + within
        while not condition():
            if self.now >= deadline:
                return False
            self.run_until(min(deadline, self.now + step))
        return True
