"""How much of the log is on its way to each follower, and what a closed window holds back."""

from __future__ import annotations

from collections import deque


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

    def take_held(self) -> dict[str, int]:
        """Per follower with a closed window: the index from which sending has to go on."""
        held, self._held_from = self._held_from, {}
        return held

    def clear(self) -> None:
        self._sent.clear()
        self._sent_bytes.clear()
        self._held_from.clear()
