"""Read barriers: when may this node's applied state answer a linearizable read?

Raft dissertation 6.4 (ReadIndex). ``Confirmations`` is the leader's half: it takes its commit index, then asks a
majority whether it still leads; with their answers, no later leader had committed anything when the question left.
``ReadBarriers`` is every node's half: it gets such an index from the leader and waits until it has applied it.

- Every round starts after the reads it serves arrived, and takes in none later. A question without an answer is asked
  again under the same number, so an answer to any of them counts, however slow: giving the round up instead would
  confirm nothing on a network whose round trips take longer than the patience.
- A new leader, term or link voids the round: its reads get a fresh one, which is answered sooner than the old one.
- A leader confirms nothing before its own term's first entry is applied: before that it may not know everything that
  was acknowledged under the leader before it.
- One round serves all reads that wait for it; no message is sent per read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from artemis.errors import ArtemisError, Unavailable

Done = Callable[[ArtemisError | None], None]
"""Gets None when the barrier is passed. Must not raise."""

ROUNDS_AT_ONCE = 4
"""Rounds on their way at the same time. One would make a read wait for the round before it; many are many messages."""

ASK_AGAIN_SECONDS = 0.1
"""A question that is not answered by then is asked again: a link may have lost it or its answer."""


@dataclass(slots=True)
class _Confirmation:
    index: int
    asked_at: float
    callbacks: list[Callable[[int], None]]
    answered: set[str]


class Confirmations:
    """As leader of one term: proves, for everyone who asks, that it led after they asked."""

    def __init__(self, members: int) -> None:
        self._needed = members // 2  # answers besides its own
        self._waiting: list[Callable[[int], None]] = []
        self._rounds: dict[int, _Confirmation] = {}
        self._last_round = 0

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._rounds)

    def ask(self, callback: Callable[[int], None]) -> None:
        """``callback`` gets an index that is safe to read at, once a round started after this call is confirmed."""
        self._waiting.append(callback)

    def start(self, commit_index: int, now: float) -> int | None:
        """Begin a round for all who wait. Returns its number when the other members have to be asked."""
        if not self._waiting or len(self._rounds) >= ROUNDS_AT_ONCE:
            return None
        callbacks, self._waiting = self._waiting, []
        if self._needed == 0:
            for callback in callbacks:
                callback(commit_index)
            return None
        self._last_round += 1
        self._rounds[self._last_round] = _Confirmation(commit_index, now, callbacks, set())
        return self._last_round

    def on_answer(self, peer: str, number: int) -> None:
        round_ = self._rounds.get(number)
        if round_ is None:
            return
        round_.answered.add(peer)
        if len(round_.answered) >= self._needed:
            del self._rounds[number]
            for callback in round_.callbacks:
                callback(round_.index)

    def due_at(self) -> float:
        """When the next question has to be repeated."""
        return min([round_.asked_at for round_ in self._rounds.values()], default=float("inf")) + ASK_AGAIN_SECONDS

    def ask_again(self, now: float) -> list[int]:
        """Rounds whose question to the other members is due to be repeated."""
        return _repeat(self._rounds, now)


@dataclass(slots=True)
class _Waiter:
    deadline: float
    done: Done


@dataclass(slots=True)
class _Round:
    waiters: list[_Waiter]
    asked_at: float
    index: int | None = None


class ReadBarriers:
    """This node's reads that wait for a barrier.

    Rounds are numbered from ``base``, drawn at each start. Numbered from 0, the leader's late answer to a question of
    this node's earlier life would be taken for one to this life's question: a stale read, and a node that calls itself
    caught up before it is.
    """

    def __init__(self, bound: int, base: int) -> None:
        self._bound = bound
        self._waiting: list[_Waiter] = []
        self._rounds: dict[int, _Round] = {}
        self._last_round = base

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(round_.waiters) for round_ in self._rounds.values())

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._rounds)

    def join(self, deadline: float, done: Done) -> None:
        """Wait; raises ``Unavailable`` without waiting when too many do already."""
        if len(self._waiting) >= self._bound:
            raise Unavailable("too many reads are waiting on this node", definite=True)
        self._waiting.append(_Waiter(deadline, done))

    def start(self, now: float) -> int | None:
        """Begin a round for all that wait; its number, or None when none waits or enough are under way."""
        if not self._waiting or len(self._rounds) >= ROUNDS_AT_ONCE:
            return None
        self._last_round += 1
        self._rounds[self._last_round] = _Round(self._waiting, now)
        self._waiting = []
        return self._last_round

    def due_at(self) -> float:
        """When the next read expires or the next question has to be repeated."""
        if self.idle:
            return float("inf")
        lists = [self._waiting, *(round_.waiters for round_ in self._rounds.values())]
        expires = min([waiter.deadline for waiters in lists for waiter in waiters], default=float("inf"))
        asked = min([round_.asked_at for round_ in self._rounds.values() if round_.index is None], default=float("inf"))
        return min(expires, asked + ASK_AGAIN_SECONDS)

    def ask_again(self, now: float) -> list[int]:
        """Rounds whose question to the leader is due to be repeated."""
        return _repeat({n: round_ for n, round_ in self._rounds.items() if round_.index is None}, now)

    def on_index(self, number: int, index: int) -> None:
        """The leader confirmed round ``number``: it may be served once ``index`` is applied."""
        round_ = self._rounds.get(number)
        if round_ is not None:
            round_.index = index

    def release(self, applied_index: int) -> None:
        for number, round_ in list(self._rounds.items()):
            if round_.index is not None and round_.index <= applied_index:
                del self._rounds[number]
                for waiter in round_.waiters:
                    waiter.done(None)

    def restart(self) -> None:
        """Term, leader or link changed: every unconfirmed read needs a round that starts after this."""
        self._give_up(lambda round_: round_.index is None)

    def expire(self, now: float) -> None:
        """Answer the reads whose time is up. A round left without any is over."""
        lists = [self._waiting, *(round_.waiters for round_ in self._rounds.values())]
        late = [waiter for waiters in lists for waiter in waiters if waiter.deadline <= now]
        if not late:
            return
        for waiters in lists:
            waiters[:] = [waiter for waiter in waiters if waiter.deadline > now]
        for number in [n for n, round_ in self._rounds.items() if not round_.waiters]:
            del self._rounds[number]
        for waiter in late:
            waiter.done(Unavailable("no leader with a majority confirmed the read in time", definite=True))

    def fail_all(self, reason: str) -> None:
        self._give_up(lambda _round: True)
        waiters, self._waiting = self._waiting, []
        for waiter in waiters:
            waiter.done(Unavailable(reason, definite=True))

    def _give_up(self, late: Callable[[_Round], bool]) -> None:
        for number in [n for n, round_ in self._rounds.items() if late(round_)]:
            self._waiting.extend(self._rounds.pop(number).waiters)


def _repeat(rounds: Mapping[int, _Confirmation] | Mapping[int, _Round], now: float) -> list[int]:
    due = [number for number, round_ in rounds.items() if now - round_.asked_at >= ASK_AGAIN_SECONDS]
    for number in due:
        rounds[number].asked_at = now
    return due


class RevisionWaiters:
    """Reads that wait until the applied state has reached a revision their caller has seen elsewhere."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: list[tuple[int, _Waiter]] = []

    def due_at(self) -> float:
        """When the next one expires."""
        return min([waiter.deadline for _, waiter in self._waiting], default=float("inf"))

    def join(self, revision: int, deadline: float, done: Done) -> None:
        if len(self._waiting) >= self._bound:
            raise Unavailable("too many reads are waiting on this node", definite=True)
        self._waiting.append((revision, _Waiter(deadline, done)))

    def release(self, applied_revision: int) -> None:
        if not self._waiting:
            return
        reached = [waiter for revision, waiter in self._waiting if revision <= applied_revision]
        self._waiting = [item for item in self._waiting if item[0] > applied_revision]
        for waiter in reached:
            waiter.done(None)

    def expire(self, now: float, reason: str = "this node has not reached the asked revision in time") -> None:
        late = [waiter for _, waiter in self._waiting if waiter.deadline <= now]
        if not late:
            return
        self._waiting = [item for item in self._waiting if item[1].deadline > now]
        for waiter in late:
            waiter.done(Unavailable(reason, definite=True))

    def fail_all(self, reason: str) -> None:
        self.expire(float("inf"), reason)
