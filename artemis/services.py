"""Services and their instances: the part of the state that look-ups read.

Orders are those of insertion, which the log defines: a service stands where its first present instance put it, an
instance where its first registration put it, and a replacement keeps the place. So nothing is sorted on a write and
every node lists alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from zlib import crc32

import msgspec

from artemis.model import InstanceKey, Record, canonical, encode_instance

_DIGEST_MASK = 2**64 - 1


class FrozenServices(msgspec.Struct, frozen=True):
    """Every service at one moment, as parallel lists: ten thousand small copies would cost more than the references
    in them. ``records`` holds ``sizes[0]`` records of the first service, then ``sizes[1]`` of the second, and so on."""

    ids: list[str]
    revisions: list[int]
    sizes: list[int]
    records: list[Record]

    def each(self) -> Iterator[tuple[str, int, list[Record]]]:
        """(service id as registered, revision, records) of each service."""
        records = iter(self.records)
        for service_id, revision, size in zip(self.ids, self.revisions, self.sizes, strict=True):
            yield service_id, revision, list(islice(records, size))


class ServiceView:
    """A service with at least one instance. Live: valid until the registry's next ``apply``."""

    __slots__ = ("_by_key", "_revision", "_service_id")

    def __init__(self, service_id: str, revision: int, by_key: dict[InstanceKey, Record]) -> None:
        """Takes over ``by_key``."""
        self._service_id = service_id
        self._revision = revision
        self._by_key = by_key

    @property
    def service_id(self) -> str:
        """As the latest registration spelled it."""
        return self._service_id

    @property
    def revision(self) -> int:
        """Of the last change of this service. Grows with every change, also over a time without instances, so it
        names one content: what was computed from it may be kept until it differs."""
        return self._revision

    @property
    def records(self) -> tuple[Record, ...]:
        """Every instance, by first registration. Costs a copy; ``len(view)`` does not."""
        return tuple(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)


class ServiceIndex:
    """Records by service and key, with their number and a digest of all of them.

    The digest is the sum of each record's checksum modulo 2**64, so a write costs its own record only and the order of
    records does not enter. It finds states that differ by accident; it is no defence against an author of collisions.
    """

    __slots__ = ("_digest", "_instance_count", "_services")

    def __init__(self) -> None:
        self._services: dict[str, ServiceView] = {}
        self._instance_count = 0
        self._digest = 0

    def __len__(self) -> int:
        """Number of services."""
        return len(self._services)

    @property
    def instance_count(self) -> int:
        return self._instance_count

    @property
    def digest(self) -> int:
        return self._digest & _DIGEST_MASK

    def find(self, key: InstanceKey) -> Record | None:
        service = self._services.get(key.service_id)
        return None if service is None else service._by_key.get(key)

    def service(self, service_id: str) -> ServiceView | None:
        return self._services.get(canonical(service_id))

    def all(self) -> Iterable[ServiceView]:
        return self._services.values()

    def put(self, key: InstanceKey, record: Record, encoded: bytes, replaced: Record | None) -> None:
        """Store ``record``, its instance also given as ``encoded``, under ``key``, where ``replaced`` stands now."""
        service = self._services.get(key.service_id)
        if service is None:
            by_key = {key: record}
            self._services[key.service_id] = ServiceView(record.instance.service_id, record.revision, by_key)
        else:
            service._service_id = record.instance.service_id
            service._revision = record.revision
            service._by_key[key] = record
        self._digest += _checksum(record, encoded)
        if replaced is None:
            self._instance_count += 1
        else:
            self._digest -= _checksum(replaced, encode_instance(replaced.instance))

    def remove(self, key: InstanceKey, record: Record, encoded: bytes, revision: int) -> None:
        """Take out ``record``, its instance also given as ``encoded``, which stands under ``key``. A service without
        instances goes with its last one."""
        service = self._services[key.service_id]
        service._revision = revision
        del service._by_key[key]
        if not service._by_key:
            del self._services[key.service_id]
        self._instance_count -= 1
        self._digest -= _checksum(record, encoded)

    def freeze(self) -> FrozenServices:
        """A copy that later writes do not touch."""
        frozen = FrozenServices([], [], [], [])
        ids, revisions, sizes, records = frozen.ids, frozen.revisions, frozen.sizes, frozen.records
        for service in self._services.values():
            ids.append(service._service_id)
            revisions.append(service._revision)
            sizes.append(len(service._by_key))
            records.extend(service._by_key.values())
        return frozen

    @classmethod
    def thaw(cls, frozen: FrozenServices, keys: Mapping[int, InstanceKey]) -> ServiceIndex:
        """An index with these services; ``keys`` by lease id. The digest is computed from the records."""
        index = cls()
        for service_id, revision, records in frozen.each():
            by_key = {keys[record.lease_id]: record for record in records}
            index._services[canonical(service_id)] = ServiceView(service_id, revision, by_key)
        index._instance_count = len(frozen.records)
        index._digest = digest_of(frozen.records)
        return index


def digest_of(records: Iterable[Record]) -> int:
    """The digest of an index that holds just these, before it is cut to 64 bits: digests of parts may be added."""
    return sum(_checksum(record, encode_instance(record.instance)) for record in records)


def _checksum(record: Record, encoded: bytes) -> int:
    """Over the encoded instance, beginning from its lease id and its revision."""
    return crc32(encoded, (record.lease_id * 0x9E3779B1 + record.revision) & 0xFFFFFFFF)
