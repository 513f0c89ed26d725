"""What a leader sends to each follower: how much of the log is on its way, and what goes instead when it may not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from artemis.consensus.freshness import Freshness, TimeProof
from artemis.consensus.journal import Journal
from artemis.consensus.wire import AppendEntries, Heartbeat, LogEntry, Message


class SendWindows:
    """Per follower: batches sent and not acknowledged. A window closes at its bound and opens with acknowledgements.

    Without it a follower that was away gets the whole log at once, more than its link may queue: the link is reset,
    and the same begins again.
    """

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._sent: dict[str, deque[tuple[int, int]]] = {}  # (last index, bytes) of each batch
        self._sent_bytes: dict[str, int] = {}
        self._held_from: dict[str, int] = {}

    def admit(self, peer: str, first_index: int, last_index: int, size: int) -> bool:
        """May this batch go? If not, it and all behind it are held until ``take_held``."""
        if self._sent_bytes.get(peer, 0) > self._window_bytes:
            self._held_from.setdefault(peer, first_index)
            return False
        self._sent.setdefault(peer, deque()).append((last_index, size))
        self._sent_bytes[peer] = self._sent_bytes.get(peer, 0) + size
        return True

    def last_sent(self, peer: str) -> int:
        """Where the last batch ends that is on its way; 0 if none is."""
        sent = self._sent.get(peer)
        return sent[-1][0] if sent else 0

    def acknowledge(self, peer: str, index: int) -> None:
        sent = self._sent.get(peer)
        while sent and sent[0][0] <= index:
            self._sent_bytes[peer] -= sent.popleft()[1]

    def forget(self, peer: str) -> None:
        """Nothing is on its way any more: the link is new, or the follower asked to start again."""
        self._sent.pop(peer, None)
        self._sent_bytes.pop(peer, None)

    @property
    def holding(self) -> bool:
        return bool(self._held_from)

    def take_held(self) -> dict[str, int]:
        """Per follower with a closed window: the index from which sending has to go on."""
        held, self._held_from = self._held_from, {}
        return held

    def clear(self) -> None:
        self._sent.clear()
        self._sent_bytes.clear()
        self._held_from.clear()


class Host(Protocol):
    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def feeding_snapshot(self, peer: str) -> bool: ...


class AppendSender:
    """Sends a follower a batch, or a sign of life in its place while a snapshot or a closed window stands before it."""

    def __init__(
        self,
        host: Host,
        journal: Journal,
        freshness: Freshness,
        vouched_us: Callable[[float], int],
        windows: SendWindows,
        heartbeat_ms: int,
    ) -> None:
        """``vouched_us``: at a time, how old the state may be that this leader knows to be committed."""
        self._host = host
        self._journal = journal
        self._freshness = freshness
        self._vouched_us = vouched_us
        self._windows = windows
        self._pause_seconds = heartbeat_ms / 2000
        self._sign_sent_at: dict[str, float] = {}

    def send(
        self,
        peer: str,
        term: int,
        commit_index: int,
        prev: tuple[int, int],
        entries: tuple[LogEntry, ...],
        *,
        quiet: bool,
    ) -> None:
        """``prev``: (index, term) of the entry before ``entries``."""
        if self._host.feeding_snapshot(peer):
            self._sign_of_life(peer, Heartbeat(term, self._proof(peer)))
        elif not entries or self._windows.admit(
            peer, entries[0][1], entries[-1][1], sum(len(entry[0]) for entry in entries)
        ):
            self._host.send(peer, AppendEntries(term, commit_index, *prev, entries, self._proof(peer), quiet))
        else:
            self._ask_where(peer, term, commit_index)

    def _ask_where(self, peer: str, term: int, commit_index: int) -> None:
        """Instead of a batch that its window holds back: an empty one behind the last that was sent. Its answer opens
        the window again when the answers it waits for are lost. They are when the follower's link breaks, and this
        one, the other direction's, does not."""
        asked = self._windows.last_sent(peer)
        entry_term = self._journal.term_at(asked)
        if entry_term is None:
            self._sign_of_life(peer, Heartbeat(term, self._proof(peer)))
        else:
            self._sign_of_life(peer, AppendEntries(term, commit_index, asked, entry_term, (), self._proof(peer)))

    def _sign_of_life(self, peer: str, message: Message) -> None:
        """At most two per heartbeat period: the library asks once for each batch it cannot send."""
        now = self._host.now()
        if now - self._sign_sent_at.get(peer, float("-inf")) >= self._pause_seconds:
            self._sign_sent_at[peer] = now
            self._host.send(peer, message)

    def _proof(self, peer: str) -> TimeProof:
        now = self._host.now()
        return self._freshness.proof(peer, now, self._vouched_us(now))
