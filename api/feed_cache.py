"""Encoded changes, so that five thousand readers of one change share its bytes.

A revision names the same change on every node for ever, so nothing is invalidated.
"""

from __future__ import annotations

from collections.abc import Callable

from artemis.model import Change

Encode = Callable[[Change], bytes]
"""Its identity names the form: keep one function object per form."""

ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its bytes: key, revision and its share of the table."""


class EncodedChanges:
    """Bytes by form and revision, at most ``bytes_max`` together; what was made first goes first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: dict[tuple[Encode, int], bytes] = {}
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def one(self, encode: Encode, change: Change) -> bytes:
        key = (encode, change.revision)
        encoded = self._entries.get(key)
        if encoded is None:
            encoded = encode(change)
            self._entries[key] = encoded
            self._bytes += len(encoded) + ENTRY_OVERHEAD_BYTES
            while self._bytes > self._bytes_max:
                oldest = next(iter(self._entries))
                self._bytes -= len(self._entries.pop(oldest)) + ENTRY_OVERHEAD_BYTES
        return encoded
