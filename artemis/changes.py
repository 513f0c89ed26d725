"""The last changes, so that a reader at revision r can ask for what came after it instead of for everything.

Revisions have no gaps, so the ring is a window (``oldest``, newest] and a position in it is a subtraction. Bounds are
part of the replicated state: a ring trimmed differently on two nodes would answer the same question differently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from artemis.model import Change, Compacted, encode_instance

CHANGE_OVERHEAD_BYTES = 64
"""Counted per change besides its encoded instance."""


class ChangeRing:
    """Bounded by number and by bytes, whichever is reached first; the oldest change goes first."""

    __slots__ = ("_bytes", "_bytes_max", "_changes", "_count_max", "_oldest", "_sizes")

    def __init__(self, count_max: int, bytes_max: int, oldest: int = 0, changes: Iterable[Change] = ()) -> None:
        """``changes`` follow revision ``oldest`` without a gap."""
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._oldest = oldest
        self._changes: deque[Change] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        for change in changes:
            self.append(change, len(encode_instance(change.instance)))

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def oldest(self) -> int:
        """The smallest revision from which changes can still be listed completely."""
        return self._oldest

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def append(self, change: Change, instance_bytes: int) -> None:
        """``change.revision`` is the newest revision plus one, ``instance_bytes`` the encoded size of its instance."""
        size = instance_bytes + CHANGE_OVERHEAD_BYTES
        self._changes.append(change)
        self._sizes.append(size)
        self._bytes += size
        while self._bytes > self._bytes_max or len(self._changes) > self._count_max:
            self._bytes -= self._sizes.popleft()
            self._oldest = self._changes.popleft().revision

    def since(self, revision: int) -> Sequence[Change] | Compacted:
        """Changes with a greater revision, in order; none for the newest revision and for revisions not reached yet."""
        if revision < self._oldest:
            return Compacted(self._oldest)
        skip = revision - self._oldest
        wanted = len(self._changes) - skip
        if wanted <= 0:
            return ()
        if wanted < skip:
            # A follower of the feed asks for the last few: reach them from the near end.
            newest_first = list(islice(reversed(self._changes), wanted))
            newest_first.reverse()
            return newest_first
        return list(islice(self._changes, skip, None))

    def copy(self) -> list[Change]:
        """All changes kept, oldest first, safe to read while the ring changes."""
        return list(self._changes)
