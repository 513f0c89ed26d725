"""This node's reads under way, as engine parts: those that wait for a barrier, and those that wait for a revision.

Why a barrier is safe is in ``reads``; here its questions are sent, by the leader to the others and by the others to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from artemis.consensus.alarm import Alarm
from artemis.consensus.core import RaftCore
from artemis.consensus.leadership import Leadership
from artemis.consensus.reads import ASK_AGAIN_SECONDS, ReadBarriers, RevisionWaiters
from artemis.consensus.wire import Message, ReadIndexRequest, ReadProbe


class Host(Protocol):
    """What this part asks of the engine."""

    core: RaftCore
    leadership: Leadership
    alarm: Alarm

    @property
    def links_up(self) -> Mapping[str, int]: ...

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...


class Reading:
    def __init__(self, host: Host, bound: int, base: int) -> None:
        """``bound``: reads of each kind that may wait. ``base``: see ``ReadBarriers``."""
        self._host = host
        self.barriers = ReadBarriers(bound, base)
        self.revisions = RevisionWaiters(bound)

    def due_at(self) -> float:
        """When a read expires, or a question has to be repeated."""
        return min(self.barriers.due_at(), self.revisions.due_at())

    def expire(self, now: float) -> None:
        self.barriers.expire(now)
        self.revisions.expire(now)

    def fail_all(self, reason: str) -> None:
        self.barriers.fail_all(reason)
        self.revisions.fail_all(reason)

    def advance(self) -> None:
        """Begin a round for those that wait, repeat what is not answered, and let go whose index is applied."""
        if self.barriers.idle and self._host.leadership.confirmations.idle:
            return
        if self._host.core.leader_ready:
            self._probe()
        elif self._host.core.role == "follower":
            self._ask_the_leader()
        self.barriers.release(self._host.core.applied_index)

    def _probe(self) -> None:
        """As leader: ask the others whether it still leads, for its own reads and for theirs."""
        host, barriers = self._host, self.barriers
        core, now, confirmations = host.core, host.now(), host.leadership.confirmations
        number = barriers.start(now)
        if number is not None:
            confirmations.ask(lambda index: barriers.on_index(number, index))
        probes = confirmations.ask_again(now)
        probe = confirmations.start(core.commit_index, now)
        if probe is not None:
            probes.append(probe)
            host.alarm.sooner(now, now + ASK_AGAIN_SECONDS)
        for asked in probes:
            for peer in core.peers():
                host.send(peer, ReadProbe(core.term, asked))

    def _ask_the_leader(self) -> None:
        host, leader = self._host, self._host.core.leader_id
        if leader is None or leader not in host.links_up:
            return
        now = host.now()
        rounds = self.barriers.ask_again(now)
        number = self.barriers.start(now)
        if number is not None:
            rounds.append(number)
            host.alarm.sooner(now, now + ASK_AGAIN_SECONDS)
        for asked in rounds:
            host.send(leader, ReadIndexRequest(host.core.term, asked))
