"""The state as bytes, and back.

Layout: the magic, then rows, each a 4-byte big-endian length and that many bytes of msgpack, then 16 bytes of BLAKE2b
over all before. The first row is the head; it says how many rows of each kind follow::

    head | (service, its records ...) ... | changes ... | requests ...

The rows are in the state's own orders, so equal states give equal bytes, and reading them back gives the same orders.
The checksum is as long as it is because a snapshot is all that is left of the entries it stands for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeVar

import msgspec

from artemis.errors import DataDamaged
from artemis.model import Change, Grant, Instance, InstanceKey, Member, Record, canonical, key_of
from artemis.outcomes import Outcome
from artemis.protection import ProtectionState
from artemis.registry import FrozenState, Registry, StateLimits
from artemis.services import ServiceView
from artemis.sessions import Remembered, Session

SNAPSHOT_FORMAT = 2
MAGIC = b"artemis" + bytes((SNAPSHOT_FORMAT,))
CHUNK_BYTES = 64 * 1024
"""A chunk is handed on when it has reached this size: larger only by the last row in it."""

_CHECKSUM_BYTES = 16
_LENGTH = struct.Struct(">I")

T = TypeVar("T")


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    limits: StateLimits
    applied_index: int
    revision: int
    clock_ms: int
    next_lease_id: int
    digest: int
    changes_oldest: int
    service_count: int
    change_count: int
    request_count: int
    sessions: dict[str, Session]
    members: list[Member]
    protection: ProtectionState


class ServiceRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    service_id: str
    revision: int
    record_count: int


class RecordRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    instance: Instance
    lease_id: int
    revision: int
    ttl_ms: int
    granted_ms: int
    deadline_ms: int
    held_until_ms: int | None


class RequestRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    id: str
    fingerprint: bytes
    clock_ms: int
    outcome: Outcome


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(Head)
_service_decoder = msgspec.msgpack.Decoder(ServiceRow)
_record_decoder = msgspec.msgpack.Decoder(RecordRow)
_change_decoder = msgspec.msgpack.Decoder(Change)
_request_decoder = msgspec.msgpack.Decoder(RequestRow)


def freeze(registry: Registry) -> FrozenState:
    """Copy the state for ``encode``. The only part that must run on the thread that applies."""
    return registry.freeze()


def encode(frozen: FrozenState) -> Iterator[bytes]:
    """The snapshot in chunks of about ``CHUNK_BYTES``. Touches only ``frozen``, so any thread may run it.

    Takes it apart on the way, which must not be used again: where instances were registered anew meanwhile, ``frozen``
    alone holds the old ones, and letting 100,000 of them go at the end would take 100 ms in one piece.
    """
    checksum = blake2b(digest_size=_CHECKSUM_BYTES)
    chunk = bytearray(MAGIC)
    for row in _rows(frozen):
        data = _encoder.encode(row)
        chunk += _LENGTH.pack(len(data))
        chunk += data
        if len(chunk) >= CHUNK_BYTES:
            checksum.update(chunk)
            yield bytes(chunk)
            chunk.clear()
    checksum.update(chunk)
    yield bytes(chunk) + checksum.digest()


def take_apart(registry: Registry) -> Iterator[object]:
    """Let go of a registry that nobody reads any more, a record with each ``next``: 100,000 at once take 100 ms. The
    first ``next`` costs a ``freeze``; give up every other reference to the registry before it."""
    frozen = registry.freeze()
    del registry
    yield from _rows(frozen)


def decode(data: bytes) -> Registry:
    """The registry these bytes were made of. Raises ``DataDamaged`` with the reason if they are not whole."""
    if len(data) < len(MAGIC) + _CHECKSUM_BYTES:
        raise DataDamaged(f"snapshot: {len(data)} bytes are too few")
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise DataDamaged("snapshot: does not begin like one")
    if data[len(MAGIC) - 1] != SNAPSHOT_FORMAT:
        raise DataDamaged(f"snapshot: format {data[len(MAGIC) - 1]}, this node reads {SNAPSHOT_FORMAT}")
    body = memoryview(data)[:-_CHECKSUM_BYTES]
    if blake2b(body, digest_size=_CHECKSUM_BYTES).digest() != data[-_CHECKSUM_BYTES:]:
        raise DataDamaged("snapshot: checksum does not match")
    try:
        return _read(_RowReader(body, len(MAGIC)))
    except (msgspec.DecodeError, ValueError) as exc:
        raise DataDamaged(f"snapshot: {exc}") from exc


def _rows(frozen: FrozenState) -> Iterator[msgspec.Struct]:
    yield Head(
        limits=frozen.limits,
        applied_index=frozen.applied_index,
        revision=frozen.revision,
        clock_ms=frozen.clock_ms,
        next_lease_id=frozen.next_lease_id,
        digest=frozen.digest,
        changes_oldest=frozen.changes_oldest,
        service_count=len(frozen.services),
        change_count=len(frozen.changes),
        request_count=len(frozen.requests),
        # By name: two nodes may have heard of origins in the same order, but nothing needs to depend on it.
        sessions=dict(sorted(frozen.sessions.items())),
        members=list(frozen.members.values()),
        protection=frozen.protection,
    )
    services, deadlines_ms, held_until_ms = frozen.services, frozen.deadlines_ms, frozen.held_until_ms
    services.reverse()
    while services:
        service = services.pop()
        yield ServiceRow(service.service_id, service.revision, len(service))
        records = list(service.records)
        del service
        records.reverse()
        while records:
            record = records.pop()
            lease_id, grant = record.lease_id, record.grant
            yield RecordRow(
                record.instance,
                lease_id,
                record.revision,
                grant.ttl_ms,
                grant.granted_ms,
                deadlines_ms.pop(lease_id),
                held_until_ms.get(lease_id),
            )
    frozen.changes.reverse()
    while frozen.changes:
        yield frozen.changes.pop()
    request_ids = list(frozen.requests)
    request_ids.reverse()
    while request_ids:
        request_id = request_ids.pop()
        remembered = frozen.requests.pop(request_id)
        yield RequestRow(request_id, remembered.fingerprint, remembered.clock_ms, remembered.outcome)


class _RowReader:
    """Walks over the rows of a snapshot whose checksum is right."""

    def __init__(self, body: memoryview, offset: int) -> None:
        self._body = body
        self._offset = offset

    def next(self, decoder: msgspec.msgpack.Decoder[T]) -> T:
        start = self._offset + _LENGTH.size
        if start > len(self._body):
            raise DataDamaged("snapshot: ends before its last row")
        end = start + _LENGTH.unpack_from(self._body, self._offset)[0]
        if end > len(self._body):
            raise DataDamaged("snapshot: ends inside a row")
        self._offset = end
        return decoder.decode(self._body[start:end])

    def finish(self) -> None:
        if self._offset != len(self._body):
            raise DataDamaged(f"snapshot: {len(self._body) - self._offset} bytes after its last row")


def _read(rows: _RowReader) -> Registry:
    head = rows.next(_head_decoder)
    deadlines_ms: dict[int, int] = {}
    held_until_ms: dict[int, int] = {}
    services = [_read_service(rows, deadlines_ms, held_until_ms) for _ in range(head.service_count)]
    changes = [rows.next(_change_decoder) for _ in range(head.change_count)]
    requests: dict[str, Remembered] = {}
    for _ in range(head.request_count):
        row = rows.next(_request_decoder)
        requests[row.id] = Remembered(row.fingerprint, row.clock_ms, row.outcome)
    rows.finish()
    if max(deadlines_ms, default=0) >= head.next_lease_id:
        raise DataDamaged("snapshot: would give a lease id a second time")
    if len(requests) != head.request_count:
        raise DataDamaged("snapshot: holds a request id twice")
    state = FrozenState(
        limits=head.limits,
        applied_index=head.applied_index,
        revision=head.revision,
        clock_ms=head.clock_ms,
        next_lease_id=head.next_lease_id,
        digest=head.digest,
        services=services,
        deadlines_ms=deadlines_ms,
        held_until_ms=held_until_ms,
        protection=head.protection,
        changes_oldest=head.changes_oldest,
        changes=changes,
        sessions=head.sessions,
        members={member.node_id: member for member in head.members},
        requests=requests,
    )
    registry = Registry.thaw(state)
    _check_consistency(head, registry)
    return registry


def _read_service(rows: _RowReader, deadlines_ms: dict[int, int], held_until_ms: dict[int, int]) -> ServiceView:
    service = rows.next(_service_decoder)
    service_key = canonical(service.service_id)
    by_key: dict[InstanceKey, Record] = {}
    for _ in range(service.record_count):
        row = rows.next(_record_decoder)
        key = key_of(row.instance)
        if key.service_id != service_key:
            raise DataDamaged(f"snapshot: service {service.service_id!r} holds an instance of {key.service_id!r}")
        grant = Grant(key, row.ttl_ms, row.granted_ms)
        by_key[key] = Record(row.instance, row.lease_id, row.revision, grant)
        deadlines_ms[row.lease_id] = row.deadline_ms
        if row.held_until_ms is not None:
            held_until_ms[row.lease_id] = row.held_until_ms
    if len(by_key) != service.record_count:
        raise DataDamaged("snapshot: holds an instance twice")
    return ServiceView(service.service_id, service.revision, by_key)


def _check_consistency(head: Head, registry: Registry) -> None:
    """What the writer never does, so that a fault of it is found here and not by a later ``KeyError`` in ``apply``."""
    if registry.digest != head.digest:
        raise DataDamaged(
            f"snapshot: digest of its records is {registry.digest:016x}, its head says {head.digest:016x}"
        )
    if registry.lease_count != registry.instance_count:
        raise DataDamaged("snapshot: two records share a lease")
    if registry.service_count != head.service_count:
        raise DataDamaged("snapshot: holds a service twice")
    if head.changes_oldest + head.change_count != head.revision:
        raise DataDamaged("snapshot: its changes do not end at its revision")
