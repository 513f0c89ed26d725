"""One snapshot as a file: ``header | state bytes | trailer``.

Header: magic, format version (u16), length (u32), msgpack fields. Trailer: number of state bytes (u64), SHA-256 of all
before it, magic. The trailer makes it possible to write a state whose length is known only at its end; a file without
a matching one is not a snapshot. Nothing in it depends on the node: two nodes write equal files for equal state.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from artemis.consensus.ports import Disk
from artemis.consensus.wire import LogEntry
from artemis.errors import DataDamaged, InvalidInput

FORMAT_VERSION: Final = 1
READ_BYTES: Final = 1024 * 1024

_MAGIC: Final = b"ARTEMISS"
_END: Final = b"ARTEMISE"
_START = struct.Struct("<8sHI")
_TRAILER = struct.Struct("<Q32s8s")
_HEADER_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """Which state this is. ``previous`` and ``last`` are the entries ``index - 1`` and ``index`` themselves.

    PySyncObj keeps these two at the start of a log whose rest is covered by a snapshot.
    """

    cluster: str
    index: int
    term: int
    previous: LogEntry
    last: LogEntry

    def __post_init__(self) -> None:
        if self.last[1:] != (self.index, self.term):
            raise InvalidInput("last", f"must be entry {self.index} of term {self.term}, not {self.last[1:]}")
        if self.previous[1] != self.index - 1 or self.previous[1] < 1:
            raise InvalidInput("previous", f"must be entry {self.index - 1} (at least 1), not {self.previous[1]}")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, int, int, LogEntry, LogEntry])


class Sealer:
    """Gives the bytes around the state while it is written piece by piece."""

    def __init__(self, header: SnapshotHeader) -> None:
        fields = _encoder.encode((header.cluster, header.index, header.term, header.previous, header.last))
        self.start: Final = _START.pack(_MAGIC, FORMAT_VERSION, len(fields)) + fields
        self._hash = hashlib.sha256(self.start)
        self._state_bytes = 0

    def add(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._state_bytes += len(chunk)

    def end(self) -> bytes:
        count = struct.pack("<Q", self._state_bytes)
        self._hash.update(count)
        return count + self._hash.digest() + _END


def verify(disk: Disk, name: str, *, keep_state: bool) -> tuple[SnapshotHeader, bytes]:
    """Check every byte of the file; its header and, if asked for, its state (else ``b""``).

    Raises ``DataDamaged`` that names the file and the fault. Memory: one piece of the file, and the kept state.
    """
    size = disk.size(name)
    start = disk.read_range(name, 0, _START.size)
    if size < _START.size + _TRAILER.size or len(start) < _START.size:
        raise _damaged(name, f"only {size} bytes")
    magic, version, length = _START.unpack(start)
    if magic != _MAGIC:
        raise _damaged(name, "it does not begin like a snapshot")
    if version != FORMAT_VERSION:
        raise _damaged(name, f"format version {version}; this program reads version {FORMAT_VERSION}")
    body = _START.size + length
    end = size - _TRAILER.size
    if length > _HEADER_BYTES_MAX or body > end:
        raise _damaged(name, f"a header of {length} bytes in a file of {size}")
    fields = disk.read_range(name, _START.size, length)
    hashed = hashlib.sha256(start + fields)
    state = bytearray()
    offset = body
    while offset < end:
        piece = disk.read_range(name, offset, min(READ_BYTES, end - offset))
        if not piece:
            raise _damaged(name, f"it ends at byte {offset} while it is read")
        hashed.update(piece)
        if keep_state:
            state += piece
        offset += len(piece)
    trailer = disk.read_range(name, end, _TRAILER.size)
    hashed.update(trailer[:8])
    if trailer != _TRAILER.pack(end - body, hashed.digest(), _END):
        raise _damaged(name, "the checksum over its bytes does not match")
    try:
        return SnapshotHeader(*_decoder.decode(fields)), bytes(state)
    except (msgspec.DecodeError, ValueError, InvalidInput) as exc:
        raise _damaged(name, f"header: {exc}") from exc


def _damaged(name: str, reason: str) -> DataDamaged:
    return DataDamaged(f"{name}: {reason}")
