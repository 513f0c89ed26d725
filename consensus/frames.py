"""Messages as frames on an authenticated connection, and back. Pure: bytes in, bytes out.

::

    frame = length (4 bytes, big-endian) | tag | payload

The tag covers the frame's place in the connection and the payload. With a key it is a 16-byte keyed BLAKE2b, so
injected, altered, repeated, re-ordered and missing frames are all refused; without one it is CRC32C, which finds
damage only. The place is never sent: each end counts. After the first bad frame the connection is of no use.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

import google_crc32c

from artemis.consensus.wire import FRAME_BYTES_MAX
from artemis.errors import DataDamaged

KEYED_TAG_BYTES = 16
CRC_TAG_BYTES = 4

_LENGTH = struct.Struct(">I")
_pack_length = _LENGTH.pack
_pack_place = struct.Struct(">Q").pack
_pack_crc = _LENGTH.pack

_JOINED_BYTES_MAX = 4096
"""Below this one hash update over a joined copy is faster than two updates."""


class Tagger:
    """Tags of one connection's frames, in order. Each end has its own."""

    __slots__ = ("_keyed", "place", "tag_bytes")

    def __init__(self, key: bytes | None) -> None:
        self.place = 0
        self._keyed = None if key is None else hashlib.blake2b(digest_size=KEYED_TAG_BYTES, key=key)
        self.tag_bytes = CRC_TAG_BYTES if key is None else KEYED_TAG_BYTES

    def next_tag(self, payload: bytes) -> bytes:
        place = self.place
        self.place = place + 1
        if self._keyed is None:
            # The place is the CRC's start value: two places never give one payload the same tag.
            return _pack_crc(google_crc32c.extend(place & 0xFFFFFFFF, payload))
        hasher = self._keyed.copy()
        if len(payload) <= _JOINED_BYTES_MAX:
            hasher.update(_pack_place(place) + payload)
        else:
            hasher.update(_pack_place(place))
            hasher.update(payload)
        return hasher.digest()


class FrameWriter:
    """Makes the frames of one connection."""

    __slots__ = ("_tagger", "overhead_bytes")

    def __init__(self, key: bytes | None) -> None:
        self._tagger = Tagger(key)
        self.overhead_bytes = _LENGTH.size + self._tagger.tag_bytes

    def head(self, payload: bytes) -> bytes:
        """What goes before ``payload`` (1 to ``FRAME_BYTES_MAX`` bytes) on the wire. Once per payload, in order."""
        return _pack_length(len(payload)) + self._tagger.next_tag(payload)


class FrameReader:
    """Cuts received bytes into payloads, in one buffer that is filled in place.

    ``room()`` gives the free part, ``received(n)`` says how much of it was filled, ``next()`` takes frames out. The
    buffer grows only to the one frame at its front, whose length was checked, and shrinks again after it.
    """

    __slots__ = ("_buffer", "_end", "_head_bytes", "_start", "_tagger", "_usual_bytes")

    def __init__(self, key: bytes | None, *, buffer_bytes: int = 256 * 1024) -> None:
        self._tagger = Tagger(key)
        self._head_bytes = _LENGTH.size + self._tagger.tag_bytes
        self._usual_bytes = buffer_bytes
        self._buffer = bytearray(buffer_bytes)
        self._start = 0
        self._end = 0

    @property
    def frames(self) -> int:
        """Taken out so far."""
        return self._tagger.place

    @property
    def buffered_bytes(self) -> int:
        return self._end - self._start

    def room(self) -> memoryview:
        """Where the next bytes go: never empty."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > self._usual_bytes:
                self._buffer = bytearray(self._usual_bytes)
        elif self._end == len(self._buffer) or self._start > len(self._buffer) // 2:
            self._compact()
        return memoryview(self._buffer)[self._end :]

    def received(self, count: int) -> None:
        self._end += count

    def next(self) -> bytes | None:
        """The next whole payload, or None. Raises ``DataDamaged``, after which the connection must be closed."""
        start = self._start
        available = self._end - start
        if available < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if not 0 < length <= FRAME_BYTES_MAX:
            raise DataDamaged(f"frame length {length}: 1 to {FRAME_BYTES_MAX} is allowed")
        body = start + self._head_bytes
        end = body + length
        if end > self._end:
            return None
        with memoryview(self._buffer) as view:
            payload = bytes(view[body:end])
            tag = bytes(view[start + _LENGTH.size : body])
        self._start = end
        if not hmac.compare_digest(tag, self._tagger.next_tag(payload)):
            raise DataDamaged("frame tag: damaged, altered, repeated or out of order")
        return payload

    def _compact(self) -> None:
        """Move the unread bytes to the front of a buffer that holds the whole frame they begin.

        All whole frames were taken before, so the rest is part of that frame, and it completes without another move.
        """
        needed = self._usual_bytes
        if self.buffered_bytes >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, self._start)
            needed = max(needed, self._head_bytes + min(length, FRAME_BYTES_MAX))
        rest = self._buffer[self._start : self._end]
        if needed != len(self._buffer):
            self._buffer = bytearray(max(needed, len(rest) + 1))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
