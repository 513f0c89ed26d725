"""Answers as gzip for clients that ask for it (``java-http.md`` 1.3).

Every Java client asks. Compressing a look-up of ten instances costs more than answering it, but the same answer is
given many times, so what was compressed is kept, by its content. Large answers are compressed in pieces, so that other
work gets its turn.
"""

from __future__ import annotations

import asyncio
import zlib
from functools import lru_cache

COMPRESSED_BYTES_MIN = 1024
"""Shorter answers fit one packet anyway."""
KEPT_BODY_BYTES_MAX = 64 * 1024
"""Longer bodies are compressed anew each time; also the size of a piece, about 1 ms of work."""
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""Bodies and their compressed forms together."""

GZIP_HEADERS = [(b"content-encoding", b"gzip")]
VARY = (b"vary", b"accept-encoding")

_LEVEL = 1
_GZIP = zlib.MAX_WBITS | 16


class Compressor:
    """gzip with a memory: at most ``bytes_max``, what was made first goes first."""

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: dict[bytes, bytes] = {}
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._bytes

    async def compressed(self, body: bytes) -> bytes:
        kept = self._kept.get(body) if len(body) <= KEPT_BODY_BYTES_MAX else None
        if kept is not None:
            return kept
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        if len(body) <= KEPT_BODY_BYTES_MAX:
            packed = compressor.compress(body) + compressor.flush()
            self._keep(body, packed)
            return packed
        parts: list[bytes] = []
        view = memoryview(body)
        for start in range(0, len(body), KEPT_BODY_BYTES_MAX):
            parts.append(compressor.compress(view[start : start + KEPT_BODY_BYTES_MAX]))
            await asyncio.sleep(0)
        parts.append(compressor.flush())
        return b"".join(parts)

    def _keep(self, body: bytes, packed: bytes) -> None:
        self._kept[body] = packed
        self._bytes += len(body) + len(packed)
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._kept))
            self._bytes -= len(oldest) + len(self._kept.pop(oldest))


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: bytes) -> bool:
    """By RFC 9110: named, or covered by ``*``, and not with ``q=0``."""
    weights: dict[str, bool] = {}
    for item in accept_encoding.decode("latin-1").lower().split(","):
        coding, _, parameters = item.partition(";")
        weight = parameters.replace(" ", "").removeprefix("q=")
        weights[coding.strip()] = not parameters or weight.strip("0.") != ""
    for coding in ("gzip", "x-gzip", "*"):
        if coding in weights:
            return weights[coding]
    return False
