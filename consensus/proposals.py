"""From a caller's command to its outcome, exactly once.

``Session`` is the origin's side: it numbers this node's proposals, gets them to the leader in order and resolves them
when this node applies them. ``Orderer`` is the leader's side: it gathers proposals of all nodes into entries.

Why order matters: the state machine remembers only the highest number it applied per origin, so a proposal that
arrives after a later one would be taken for a duplicate and lost. Three rules keep the order:

- a link delivers in order without gaps, and whoever gets a new link or a new leader starts again with the oldest
  unfinished proposal;
- a forward names the term it is for. Without it: 4 is forwarded in term 3, the leader is deposed and dropped it, the
  same node leads again in term 5 and takes the late 5; 4 can never be applied any more;
- the orderer forgets everything when its leadership ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from artemis.commands import Command, Proposal, RequestId, encode_entry, encode_proposal
from artemis.consensus.timing import Bounds
from artemis.errors import ArtemisError, InvalidInput, Unavailable
from artemis.outcomes import Outcome

Resolve = Callable[[Outcome | ArtemisError], None]
"""Gets the outcome, or why there is none. Must not raise."""


@dataclass(slots=True)
class Pending:
    seq: int
    data: bytes
    deadline: float
    resolve: Resolve
    left: bool = False
    """It was handed to a leader (also to this node as leader), so it may happen."""


class Session:
    """This start of this node, as the state machine sees it: (origin, incarnation) and numbers that grow."""

    def __init__(self, origin: str, incarnation: int, bounds: Bounds) -> None:
        self.origin = origin
        self.incarnation = incarnation
        self._bounds = bounds
        self._next_seq = 1
        self._pending: dict[int, Pending] = {}
        self._pending_bytes = 0
        self._handed_to: tuple[int, str, int] | None = None  # (term, leader, link generation) of what was handed over
        self._handed_seq = 0
        self._soonest = float("inf")  # no open proposal's deadline is before this

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def due_at(self) -> float:
        """No open proposal expires before."""
        return self._soonest if self._pending else float("inf")

    def propose(
        self, command: Command, request: RequestId | None, expires_at_ms: int, deadline: float, resolve: Resolve
    ) -> None:
        """Take a proposal, or raise without having taken it."""
        if len(self._pending) >= self._bounds.pending_proposals or self._pending_bytes >= self._bounds.pending_bytes:
            raise Unavailable("too many writes are waiting on this node", definite=True)
        seq = self._next_seq
        data = encode_proposal(Proposal(self.origin, self.incarnation, seq, request, expires_at_ms, command))
        if len(data) > self._bounds.command_bytes_max:
            raise InvalidInput(
                "request",
                f"what it writes takes {len(data)} bytes in the log; at most {self._bounds.command_bytes_max} are"
                " allowed: name fewer instances in one request, or send less metadata",
            )
        self._next_seq += 1
        self._pending[seq] = Pending(seq, data, deadline, resolve)
        self._pending_bytes += len(data)
        self._soonest = min(self._soonest, deadline)

    def hand_over(self, target: tuple[int, str, int]) -> list[tuple[int, bytes]]:
        """What the leader of ``target`` (term, leader, link generation) has not been given yet, in order.

        A new target gets everything unfinished, oldest first.
        """
        if target != self._handed_to:
            self._handed_to = target
            self._handed_seq = 0
        if self._handed_seq >= self._next_seq - 1:
            return []
        batch = []
        oldest = next(iter(self._pending), self._next_seq)
        for seq in range(max(oldest, self._handed_seq + 1), self._next_seq):
            pending = self._pending.get(seq)
            if pending is not None:
                pending.left = True
                batch.append((seq, pending.data))
        self._handed_seq = self._next_seq - 1
        return batch

    def resolve(self, seq: int, outcome: Outcome) -> None:
        """This node applied its proposal ``seq``. Lower numbers that are still open can never be applied now."""
        if seq not in self._pending:
            return
        while True:
            first = next(iter(self._pending))
            pending = self._take(first)
            if first == seq:
                pending.resolve(outcome)
                return
            pending.resolve(Unavailable("overtaken by a later proposal of this node", definite=True))

    def resolve_skipped(self, seq: int) -> None:
        """A snapshot took this node past ``seq``: what happened to open proposals up to there is not known here."""
        for number in [number for number in self._pending if number <= seq]:
            self._take(number).resolve(Unavailable("applied state was replaced by a snapshot", definite=False))

    def expire(self, now: float) -> None:
        """Answer callers whose time is up. What has not left this node never will."""
        if now < self._soonest:
            return
        late = [pending for pending in self._pending.values() if pending.deadline <= now]
        self._soonest = min((p.deadline for p in self._pending.values() if p.deadline > now), default=float("inf"))
        for pending in late:
            self._take(pending.seq).resolve(
                Unavailable(
                    "no majority confirmed the write in time" if pending.left else "no leader could be reached in time",
                    definite=not pending.left,
                )
            )

    def fail_all(self, reason: str) -> None:
        for number in list(self._pending):
            pending = self._take(number)
            pending.resolve(Unavailable(reason, definite=not pending.left))

    def _take(self, seq: int) -> Pending:
        pending = self._pending.pop(seq)
        self._pending_bytes -= len(pending.data)
        return pending


class Orderer:
    """One leadership's queue. Holds encoded proposals only: the leader orders bytes, it does not look into them."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._queue: deque[bytes] = deque()
        self._highest: dict[tuple[str, int], int] = {}
        self._in_flight: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def take(
        self, origin: str, incarnation: int, batch: list[tuple[int, bytes]] | tuple[tuple[int, bytes], ...]
    ) -> None:
        """Queue proposals of one origin; numbers seen before in this leadership are copies and dropped."""
        highest = self._highest.get((origin, incarnation), 0)
        for seq, data in batch:
            if seq > highest:
                self._queue.append(data)
                highest = seq
        self._highest[(origin, incarnation)] = highest

    def next_entry(self, clock_ms: int) -> bytes:
        """The next entry's bytes: as many waiting proposals as its bounds allow, possibly none (a clock step)."""
        batch: list[bytes] = []
        size = 0
        while self._queue and size < self._bounds.entry_bytes and len(batch) < self._bounds.entry_proposals:
            if batch and size + len(self._queue[0]) > self._bounds.entry_bytes:
                break
            data = self._queue.popleft()
            batch.append(data)
            size += len(data)
        return encode_entry(clock_ms, batch)

    def on_appended(self, index: int) -> None:
        self._in_flight.append(index)

    def on_applied(self, index: int) -> None:
        while self._in_flight and self._in_flight[0] <= index:
            self._in_flight.popleft()
