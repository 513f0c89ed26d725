"""How old may the applied state be? An upper bound that a pause, a partition or a slow link cannot make too small.

Arrival times do not tell: after a stop of ten seconds a node reads heartbeats that are ten seconds old, and a leader
reads acknowledgements that are. So messages carry proof of time, in both directions, each on its sender's own clock:

- every append_entries and every reply carries ``stamp``, the sender's clock, and ``echo``, the last stamp it got from
  the receiver. Who reads an echo of its own stamp s knows: this was sent after s;
- a leader is as fresh as the newest time after which a majority has answered in its term;
- a follower is as fresh as its leader was when it wrote, which the message says (``age_us``), counted from the echo.

A stamp counts microseconds from a base that is drawn at each start, so an echo of an earlier life of this node, which
a peer may still send, is recognised and proves nothing.
"""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN_US = 2**53
"""An age nobody vouches for. Exact as a JSON number."""
UNKNOWN_MS = UNKNOWN_US // 1000
"""The same where milliseconds are told: a number that no bound allows, for readers that compare without looking."""


class TimeProof(NamedTuple):
    """What a message carries besides its business."""

    stamp: int
    echo: int
    """0: none yet."""
    age_us: int
    """On a leader's message: how old the state it knows to be committed may be. 0 on a reply."""


class Freshness:
    """One node's proofs. Times are monotonic seconds."""

    def __init__(self, majority_of_others: int, base: int, now: float) -> None:
        """``majority_of_others``: how many other members make a majority together with this one. ``base``: random."""
        self._needed = majority_of_others
        self._base = base
        self._started = now
        self._stamps: dict[str, int] = {}
        self._confirmed: dict[str, int] = {}
        self._leader_commit = 0
        self._leader_proof: int | None = None
        self._current: int | None = None

    def proof(self, peer: str, now: float, age_us: int = 0) -> TimeProof:
        """For a message to ``peer``."""
        return TimeProof(self._stamp(now), self._stamps.get(peer, 0), age_us)

    def on_reply(self, peer: str, proof: TimeProof, now: float) -> None:
        """As leader: ``peer`` answered in this term."""
        self._stamps[peer] = proof.stamp
        if self._mine(proof.echo, now):
            self._confirmed[peer] = max(self._confirmed.get(peer, 0), proof.echo)

    def on_append(self, leader: str, proof: TimeProof, commit_index: int, now: float) -> None:
        """As follower: what the leader of this term knows to be committed."""
        self._stamps[leader] = proof.stamp
        if self._mine(proof.echo, now):
            self._leader_commit = max(self._leader_commit, commit_index)
            self._leader_proof = max(self._leader_proof or 0, proof.echo - proof.age_us)

    def on_contact(self, leader: str, proof: TimeProof) -> None:
        """As follower: the leader wrote, but not what it knows to be committed."""
        self._stamps[leader] = proof.stamp

    def on_applied(self, applied_index: int) -> None:
        if self._leader_proof is not None and applied_index >= self._leader_commit:
            self._current = max(self._current or 0, self._leader_proof)

    def leader_age_us(self, now: float) -> int:
        """As leader: time since the last moment at which a majority is known to have followed."""
        if self._needed == 0:
            return 0
        confirmed = sorted(self._confirmed.values(), reverse=True)
        if len(confirmed) < self._needed:
            return UNKNOWN_US
        return self._stamp(now) - confirmed[self._needed - 1]

    def follower_age_us(self, now: float) -> int:
        return UNKNOWN_US if self._current is None else min(UNKNOWN_US, self._stamp(now) - self._current)

    def keep_proof(self) -> None:
        """This node stops leading, and has applied all that it knows to be committed: what a majority confirmed while
        it led stays true of its state."""
        confirmed = sorted(self._confirmed.values(), reverse=True)
        if 0 < self._needed <= len(confirmed):
            self._current = max(self._current or 0, confirmed[self._needed - 1])

    def forget_leadership(self) -> None:
        """Another term: what was proven about the applied state stays true, the rest has to be proven anew."""
        self._stamps.clear()
        self._confirmed.clear()
        self._leader_commit = 0
        self._leader_proof = None

    def _stamp(self, now: float) -> int:
        return self._base + int((now - self._started) * 1e6) + 1

    def _mine(self, echo: int, now: float) -> bool:
        return self._base < echo <= self._stamp(now)
