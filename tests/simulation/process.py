"""One life of a node as the machine sees it: a process with a clock and an event loop, which can be stopped or killed.

What a real process does at once or not at all, this does too: a stopped one (SIGSTOP) runs nothing, its disk thread
included, while the clock goes on and bytes pile up in its sockets; a killed one never runs anything again, so a call
that was on its way when it died cannot come back as an exception that somebody handles.
"""

from __future__ import annotations

from functools import partial
from random import Random

from tests.simulation.disk import Crashed
from tests.simulation.world import Callback, Event, World

FREE_READS_PER_TURN = 300
"""Clock readings in one callback that cost no time. PySyncObj's send loops wait for the clock to move: under a clock
that stands still during a callback such a call would never return."""

READ_SECONDS = 0.001


UNCOUNTED = -(2**62)


class NodeClock:
    """Monotonic seconds of one machine: its own origin, its own rate, and CPU time for calls that spin on it."""

    __slots__ = ("_base", "_last", "_read_at", "_since", "_world", "rate", "reads")

    def __init__(self, world: World, offset: float, rate: float) -> None:
        self._world = world
        self._base = offset
        self._since = world.now
        self.reads = UNCOUNTED
        """In this turn: whoever begins one sets it to 0. Who looks at a node from outside costs it no time."""
        self._last = float("-inf")
        self._read_at = -1.0
        self.rate = rate

    def __call__(self) -> float:
        self.reads += 1
        now = self._world.now
        if now != self._read_at:
            self._read_at = now
            time = self._base + (now - self._since) * self.rate
            if time > self._last:
                self._last = time
        if self.reads > FREE_READS_PER_TURN:
            self._last += READ_SECONDS
        return self._last

    def set_rate(self, rate: float) -> None:
        self._base += (self._world.now - self._since) * self.rate
        self._since = self._world.now
        self.rate = rate

    def end_turn(self) -> float:
        """Virtual seconds that the readings of this turn went ahead of the world's time."""
        reads, self.reads = self.reads, UNCOUNTED
        if reads <= FREE_READS_PER_TURN:
            return 0.0
        return (self._last - self._base) / self.rate + self._since - self._world.now


class Process:
    """Everything of a node runs through ``run``. Has the shape of ``ports.Scheduler``."""

    def __init__(
        self, world: World, name: str, clock: NodeClock, rng: Random, lateness: float, on_crashed: Callback
    ) -> None:
        """``lateness``: the most by which a callback starts late, in seconds. ``on_crashed``: the disk ended us."""
        self.world = world
        self.name = name
        self.clock = clock
        self.alive = True
        self.paused = False
        self.resumed_at = float("-inf")
        """When it last went on after a pause or a call that took time, in the world's time."""
        self._rng = rng
        self._lateness = lateness
        self._on_crashed = on_crashed
        self._held: list[Callback] = []
        self._held_timers: list[Callback] = []
        self._soon_at = 0.0
        self._busy = False
        self._waiting: list[Callback] = []

    def run(self, callback: Callback) -> None:
        """Now, or when the process is continued, or never."""
        if not self.alive:
            return
        if self.paused:
            self._held.append(callback)
            return
        if self._busy:
            self._waiting.append(callback)
            return
        clock = self.clock
        clock.reads = 0
        try:
            callback()
        except Crashed:
            self._on_crashed()
            return
        if clock.reads <= FREE_READS_PER_TURN:
            clock.reads = UNCOUNTED
            return
        spun = clock.end_turn()
        if spun > 0:
            # The call took that long. If others began meanwhile, under a clock that stands, what happened before the
            # call would look as if it had happened after it.
            self._busy = True
            self.world.after(spun, self._free)

    def _free(self) -> None:
        self._busy = False
        self.resumed_at = self.world.now
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            self.run(callback)

    def _run_timer(self, callback: Callback) -> None:
        if self.alive and self.paused:
            self._held_timers.append(callback)
        else:
            self.run(callback)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.resumed_at = self.world.now
        held, timers = self._held, self._held_timers
        self._held, self._held_timers = [], []
        # After SIGCONT some loops look at their timers first, some at their sockets, and at these in any order. (What
        # must keep its order keeps it below: a connection hands out its bytes, a disk queue its jobs, in order.)
        self._rng.shuffle(held)
        for callback in held + timers if self._rng.random() < 0.5 else timers + held:
            self.world.soon(partial(self.run, callback))

    # ports.Scheduler

    def call_soon(self, callback: Callback, /) -> None:
        if self._lateness:
            # Never before an earlier one: an event loop keeps the order of call_soon.
            self._soon_at = max(self._soon_at, self.world.now + self._rng.random() * self._lateness)
            self.world.after(self._soon_at - self.world.now, partial(self.run, callback))
        else:
            self.world.soon(partial(self.run, callback))

    def call_later(self, delay: float, callback: Callback, /) -> Event:
        late = self._rng.random() * self._lateness if self._lateness else 0.0
        return self.world.after(delay / self.clock.rate + late, partial(self._run_timer, callback))
