"""What belongs to one leadership and ends with it: queued proposals, the lease clock's stamp, read confirmations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from artemis.consensus.core import RaftCore
from artemis.consensus.journal import Journal
from artemis.consensus.leaseclock import LeaseClock
from artemis.consensus.proposals import Orderer
from artemis.consensus.reads import Confirmations
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import Message, TimeoutNow
from artemis.registry import Registry


class Leader(Protocol):
    """What a leadership asks of the engine it belongs to."""

    core: RaftCore
    journal: Journal
    registry: Registry

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class Resignation:
    deadline: float
    done: Callable[[], None]


class Leadership:
    """Made anew whenever this node's role changes; while it does not lead, it stays empty."""

    def __init__(self, members: int, timing: Timing, bounds: Bounds) -> None:
        self.orderer = Orderer(bounds)
        self.confirmations = Confirmations(members)
        self.announced_commit = 0
        """The commit index the followers were told last."""
        self.resigned: Resignation | None = None
        """While it is set nothing is appended, so that a follower can have everything (dissertation 3.10)."""
        self.successor: str | None = None
        self._lease_step_seconds = timing.lease_step_ms / 1000
        # A lone node commits only what is on disk, so a second entry in flight would keep the first from committing.
        self._in_flight_max = bounds.entries_in_flight if members > 1 else 1
        self._clock: LeaseClock | None = None

    def begin(self, applied_clock_ms: int, applied_at: float, now: float) -> None:
        """The leader has applied everything that earlier leaders committed, the lease clock's present value at
        ``applied_at``: from here it may stamp entries."""
        if self._clock is None:
            self._clock = LeaseClock(applied_clock_ms, applied_at, now)

    @property
    def idle(self) -> bool:
        """Nothing waits here, and nothing that was appended is still to be applied."""
        return (
            not len(self.orderer) and not self.orderer.in_flight and self.confirmations.idle and self.resigned is None
        )

    def due_at(self, *, clock_needed: bool) -> float:
        """When something has to happen here although nothing arrives, in monotonic seconds."""
        due = self.confirmations.due_at()
        if self.resigned is not None:
            due = min(due, self.resigned.deadline)
        if self._clock is not None and clock_needed:
            due = min(due, self._clock.counted_to + self._lease_step_seconds)
        return due

    def advance(self, host: Leader) -> bool:
        """Hand the leadership over if that was asked, and append what waits. True if something was appended."""
        if self.resigned is not None:
            self._hand_over(host, self.resigned)
        appended = False
        while host.core.leader_ready:
            index = host.journal.last_index + 1
            entry = self.next_entry(host.now(), index, host.registry)
            if entry is None:
                break
            host.core.append(entry)
            appended = True
        return appended

    def _hand_over(self, host: Leader, resigned: Resignation) -> None:
        complete = [peer for peer in host.core.peers() if host.core.match_index(peer) == host.journal.last_index]
        if complete and self.successor is None:
            self.successor = min(complete)
            host.send(self.successor, TimeoutNow(host.core.term))
        if host.now() >= resigned.deadline:
            self.stay()

    def next_entry(self, now: float, index: int, registry: Registry) -> bytes | None:
        """The entry to append at ``index`` now: waiting proposals, a due step of the lease clock, the rest of leases
        that were too many for the last entry, or none."""
        clock = self._clock
        if clock is None or self.resigned is not None or self.orderer.in_flight >= self._in_flight_max:
            return None
        if not len(self.orderer):
            # By the time, as ``due_at`` has it: a step longer than the clock ever counts at once would be due for ever.
            elapsed = now - clock.counted_to
            step_due = elapsed >= self._lease_step_seconds and registry.clock_needed and clock.due_ms(now) > 0
            rest_due = self.orderer.in_flight == 0 and registry.leases_may_be_due
            if not step_due and not rest_due:
                return None
        self.orderer.on_appended(index)
        return self.orderer.next_entry(clock.stamp(now, index))

    def resign(self, deadline: float, done: Callable[[], None]) -> None:
        self.end()
        self.resigned = Resignation(deadline, done)

    def stay(self) -> None:
        """Nobody took over in time: go on leading."""
        self.end()
        self.resigned = self.successor = None

    def end(self) -> None:
        """The leadership is over, however that came."""
        if self.resigned is not None:
            self.resigned.done()

    def on_applied(self, index: int, now: float) -> None:
        self.orderer.on_applied(index)
        if self._clock is not None:
            self._clock.on_applied(index, now)
