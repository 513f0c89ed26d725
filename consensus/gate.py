"""What leaves a node and promises something waits until the journal that it promises is on disk.

An acknowledgement, a vote and a candidacy are promises (hazards D1, D4): after a power cut this node would not know of
them any more. Entries promise nothing and leave at once.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from artemis.consensus.diskwatch import DiskWatch
from artemis.consensus.journal import Journal
from artemis.consensus.wire import Message


class Host(Protocol):
    """What this part asks of the engine."""

    journal: Journal
    disk: DiskWatch

    def send(self, peer: str, message: Message) -> None: ...


class DurableGate:
    """In the order in which they were promised."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: deque[tuple[int, str, Message]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, peer: str, message: Message) -> None:
        """Once everything in the journal now is on disk. On a failing disk that may be never: it is dropped."""
        journal = self._host.journal
        if journal.synced_lsn == journal.lsn:
            self._host.send(peer, message)
        elif self._host.disk.failure is None:
            self._waiting.append((journal.lsn, peer, message))

    def open(self) -> None:
        """The journal is on disk up to its ``synced_lsn``."""
        synced = self._host.journal.synced_lsn
        while self._waiting and self._waiting[0][0] <= synced:
            _lsn, peer, message = self._waiting.popleft()
            self._host.send(peer, message)

    def drop(self) -> None:
        """The disk failed: what waited to be promised is void; the leader will ask again."""
        self._waiting.clear()
