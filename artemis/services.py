"""Services and their instances: the part of the state that look-ups read.

Orders are those of insertion, which the log defines: a service stands where its first present instance put it, an
instance where its first registration put it, and a replacement keeps the place. So nothing is sorted on a write and
every node lists alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from artemis.model import InstanceKey, Record, canonical, encode_instance

_DIGEST_MASK = 2**64 - 1


class ServiceView:
    """A service with at least one instance. Valid until the registry's next ``apply``, unless it is of a freeze."""

    __slots__ = ("_by_key", "_owner", "_revision", "_service_id")

    def __init__(self, service_id: str, revision: int, by_key: dict[InstanceKey, Record], owner: object = None) -> None:
        """Takes over ``by_key``. ``owner``: what an index must own to change this view instead of a copy."""
        self._service_id = service_id
        self._revision = revision
        self._by_key = by_key
        self._owner = owner

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

    def __eq__(self, other: object) -> bool:
        """The same in all that readers can see, orders included."""
        if not isinstance(other, ServiceView):
            return NotImplemented
        mine, theirs = (self._service_id, self._revision), (other._service_id, other._revision)
        return mine == theirs and list(self._by_key.items()) == list(other._by_key.items())

    __hash__ = None  # type: ignore[assignment]


class ServiceIndex:
    """Records by service and key, with their number and a digest of all of them.

    The digest is the sum of each record's checksum modulo 2**64, so a write costs its own record only and the order of
    records does not enter. It finds states that differ by accident; it is no defence against an author of collisions.

    A view is changed where it is only by the owner that made it, and each freeze makes a new owner. So a freeze costs
    one reference per service, and what it gave away stays as it was.
    """

    __slots__ = ("_digest", "_instance_count", "_owner", "_services")

    def __init__(self) -> None:
        self._owner = object()
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
            view = ServiceView(record.instance.service_id, record.revision, by_key, self._owner)
            self._services[key.service_id] = view
        else:
            if service._owner is not self._owner:
                service = self._owned(key.service_id)
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
        service = self._owned(key.service_id)
        service._revision = revision
        del service._by_key[key]
        if not service._by_key:
            del self._services[key.service_id]
        self._instance_count -= 1
        self._digest -= _checksum(record, encoded)

    def freeze(self) -> list[ServiceView]:
        """Every service as it is now. From here on these views change no more: a write takes a copy of its service."""
        self._owner = object()
        return list(self._services.values())

    @classmethod
    def thaw(cls, frozen: Iterable[ServiceView]) -> ServiceIndex:
        """An index with these services, which it leaves as they are. The digest is computed from the records."""
        index = cls()
        records = 0
        for service in frozen:
            index._services[canonical(service._service_id)] = service
            records += len(service)
            index._digest += digest_of(service._by_key.values())
        index._instance_count = records
        return index

    def _owned(self, service_id: str) -> ServiceView:
        """The service, to be changed: as a copy if it is that of a freeze too."""
        service = self._services[service_id]
        if service._owner is not self._owner:
            by_key = service._by_key.copy()
            service = ServiceView(service._service_id, service._revision, by_key, self._owner)
            self._services[service_id] = service
        return service


def digest_of(records: Iterable[Record]) -> int:
    """The digest of an index that holds just these, before it is cut to 64 bits: digests of parts may be added."""
    return sum(_checksum(record, encode_instance(record.instance)) for record in records)


def _checksum(record: Record, encoded: bytes) -> int:
    """Over the encoded instance, beginning from its lease id and its revision."""
    return crc32(encoded, (record.lease_id * 0x9E3779B1 + record.revision) & 0xFFFFFFFF)
