"""Records of the journal: their bytes, and how a torn end is told from a damaged middle.

A segment file is a row of records, each ``payload bytes (u32) | kind (u8) | CRC32C (u32) | payload``, little-endian.

Rule 1: the checksum covers the *place* too (journal, segment, offset in the file). Bytes that are whole but not where
they were written (a block of an older segment showing up after a power cut, a copy of journal bytes inside some
command) are not records.

Rule 2: a ``Mark`` is written only after a sync of everything in front of it has returned. So bytes that do not decode
are a torn end exactly if no valid mark stands behind them. If one does, what is damaged was durable, perhaps
acknowledged, and must not be cut:

    [entry 7] sync -> acknowledged   [mark] [entry 8] power cut, entry 8 half written
     ^ one flipped bit here: the mark behind it says "this was on disk": refuse to start
                                      ^ a flipped bit or half a record here: nobody was told, cut
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import google_crc32c
import msgspec

from artemis.consensus.wire import LogEntry

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest payload. A longer length field is damage, known without reading on."""

COMMAND_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest command of one entry: a ``Reset`` carries two of them, and a link frame none larger than 8 MiB."""

FORMAT_VERSION: Final = 1
_MAGIC: Final = b"ARTEMISJ"

_HEADER, _ENTRY, _TRUNCATE, _VOTE, _BASE, _RESET, _START, _MARK, _ADMIT = range(1, 10)

_FRAME = struct.Struct("<IBI")
_ENTRY_FRAME = struct.Struct("<IBIQQ")
_PLACE = struct.Struct("<QIB")
_ENTRY_PLACE = struct.Struct("<QIBQQ")
_INDEX_TERM = struct.Struct("<QQ")
_NUMBER = struct.Struct("<Q")
_VERSION = struct.Struct("<H")
_MARK_START: Final = struct.pack("<IB", 0, _MARK)

_crc32c: Callable[[int, bytes], int] = google_crc32c.extend


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """First record of a segment: all that older segments say besides entries, so that they can be deleted."""

    cluster: str
    node_id: str
    journal_id: bytes
    segment: int
    previous_bytes: int
    """Size of the segment before, all of it synced before this one was made. 0 for the first."""
    term: int
    voted_for: str | None
    incarnation: int
    base_index: int
    """Entries below are dropped. 0: the log is empty and starts with whatever entry comes next."""
    next_index: int
    """The index the next appended entry has; 0 as above."""
    founders: tuple[tuple[str, bytes], ...]
    """As in ``Admit``; empty: not admitted."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Entries from ``index`` on are gone."""

    index: int


@dataclass(frozen=True, slots=True)
class Vote:
    term: int
    voted_for: str | None


@dataclass(frozen=True, slots=True)
class Base:
    """Entries below ``index`` are gone: a durable snapshot covers them."""

    index: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The log is exactly these entries. One record, so that no crash leaves a log of one or none of them."""

    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class Start:
    incarnation: int


@dataclass(frozen=True, slots=True)
class Admit:
    """This member takes part: nothing it may have promised earlier was lost with other data.

    ``founders``: the journal id of each member when the cluster was founded, as (node id, journal id).
    """

    founders: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything in front of this record was on disk before it was written."""


Record = LogEntry | Truncate | Vote | Base | Reset | Start | Admit | Mark
MARK: Final = Mark()


@dataclass(frozen=True, slots=True)
class Bad:
    """Why the bytes at some offset are no record."""

    reason: str


_vote_decoder = msgspec.msgpack.Decoder(tuple[int, str | None])
_reset_decoder = msgspec.msgpack.Decoder(tuple[LogEntry, ...])
_founders_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])
_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)
_encoder = msgspec.msgpack.Encoder()


def place_seed(journal_id: bytes, segment: int) -> int:
    """Start value of the checksums in one segment of one journal."""
    return _crc32c(0, journal_id + _NUMBER.pack(segment))


def encode_header(header: SegmentHeader) -> bytes:
    payload = _MAGIC + _VERSION.pack(FORMAT_VERSION) + _encoder.encode(header)
    return _frame(_HEADER, payload, seed=0, offset=0)


def decode_header(data: bytes) -> tuple[SegmentHeader, int] | Bad:
    """The header at the start of a segment's bytes, and where the records behind it begin."""
    framed = _unframe(data, 0, 0)
    if isinstance(framed, Bad):
        return framed
    kind, payload, end = framed
    if kind != _HEADER or payload[:8] != _MAGIC:
        return Bad("this is not an Artemis journal")
    (version,) = _VERSION.unpack_from(payload, 8)
    if version != FORMAT_VERSION:
        return Bad(f"format version {version}; this program reads version {FORMAT_VERSION}")
    try:
        return _header_decoder.decode(payload[10:]), end
    except (msgspec.DecodeError, ValueError) as exc:
        return Bad(f"header: {exc}")


def encode(records: Iterable[Record], seed: int, offset: int) -> bytes:
    """The bytes of ``records`` for the place ``offset`` of the segment of ``seed``."""
    parts: list[bytes] = []
    for record in records:
        if type(record) is tuple:  # entries are nearly all of it: no calls, no copies
            command, index, term = record
            size = 16 + len(command)
            checksum = _crc32c(_crc32c(seed, _ENTRY_PLACE.pack(offset, size, _ENTRY, index, term)), command)
            parts.append(_ENTRY_FRAME.pack(size, _ENTRY, checksum, index, term))
            parts.append(command)
            offset += 9 + size
        else:
            framed = _encode_control(record, seed, offset)
            parts.append(framed)
            offset += len(framed)
    return b"".join(parts)


def decode(data: bytes, seed: int, offset: int) -> tuple[Record, int] | Bad:
    """The record at ``offset`` of a segment's bytes and the offset behind it, or why there is none."""
    framed = _unframe(data, seed, offset)
    if isinstance(framed, Bad):
        return framed
    kind, payload, end = framed
    try:
        if kind == _ENTRY:
            index, term = _INDEX_TERM.unpack_from(payload)
            return (payload[16:], index, term), end
        return _decode_control(kind, payload), end
    except (struct.error, msgspec.DecodeError, ValueError) as exc:
        return Bad(f"record of kind {kind}: {exc}")


def find_mark(data: bytes, seed: int, offset: int) -> int | None:
    """Where the first valid mark at or behind ``offset`` is, whatever else is there."""
    at = data.find(_MARK_START, offset)
    while at >= 0:
        if not isinstance(_unframe(data, seed, at), Bad):
            return at
        at = data.find(_MARK_START, at + 1)
    return None


def _frame(kind: int, payload: bytes, seed: int, offset: int) -> bytes:
    size = len(payload)
    checksum = _crc32c(_crc32c(seed, _PLACE.pack(offset, size, kind)), payload)
    return _FRAME.pack(size, kind, checksum) + payload


def _unframe(data: bytes, seed: int, offset: int) -> tuple[int, bytes, int] | Bad:
    start = offset + 9
    if start > len(data):
        return Bad("the file ends inside a record")
    size, kind, checksum = _FRAME.unpack_from(data, offset)
    end = start + size
    if size > RECORD_BYTES_MAX:
        return Bad(f"record length {size} is larger than {RECORD_BYTES_MAX} bytes")
    if end > len(data):
        return Bad("the file ends inside a record")
    payload = data[start:end]
    if _crc32c(_crc32c(seed, _PLACE.pack(offset, size, kind)), payload) != checksum:
        return Bad("the checksum does not match")
    return kind, payload, end


def _encode_control(record: Record, seed: int, offset: int) -> bytes:
    match record:
        case Truncate(index):
            kind, payload = _TRUNCATE, _NUMBER.pack(index)
        case Vote(term, voted_for):
            kind, payload = _VOTE, _encoder.encode((term, voted_for))
        case Base(index):
            kind, payload = _BASE, _NUMBER.pack(index)
        case Reset(entries):
            kind, payload = _RESET, _encoder.encode(entries)
        case Start(incarnation):
            kind, payload = _START, _NUMBER.pack(incarnation)
        case Admit(founders):
            kind, payload = _ADMIT, _encoder.encode(founders)
        case Mark():
            kind, payload = _MARK, b""
        case _:
            raise TypeError(f"not a journal record: {record!r}")
    return _frame(kind, payload, seed, offset)


def _decode_control(kind: int, payload: bytes) -> Record:
    if kind == _TRUNCATE:
        return Truncate(_NUMBER.unpack(payload)[0])
    if kind == _VOTE:
        return Vote(*_vote_decoder.decode(payload))
    if kind == _BASE:
        return Base(_NUMBER.unpack(payload)[0])
    if kind == _RESET:
        return Reset(_reset_decoder.decode(payload))
    if kind == _START:
        return Start(_NUMBER.unpack(payload)[0])
    if kind == _ADMIT:
        return Admit(_founders_decoder.decode(payload))
    if kind == _MARK and not payload:
        return MARK
    raise ValueError("unknown kind")
