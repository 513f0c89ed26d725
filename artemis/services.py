"""Services and their instances: the part of the state that look-ups read.

Orders are those of insertion, which the log defines: a service stands where its first present instance put it, an
instance where its first registration put it, and a replacement keeps the place. So nothing is sorted on a write and
every node lists alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

import msgspec

from artemis.model import InstanceKey, Record, canonical, key_of

_DIGEST_MASK = 2**64 - 1
_encoder = msgspec.msgpack.Encoder()


class ServiceCopy(NamedTuple):
    """A service at one moment; ``by_key`` is in the service's order and belongs to the copy."""

    service_id: str
    revision: int
    by_key: dict[InstanceKey, Record]


class ServiceView:
    """A service with at least one instance. Live: valid until the registry's next ``apply``."""

    __slots__ = ("_by_key", "_revision", "_service_id")

    def __init__(self, service_id: str) -> None:
        self._service_id = service_id
        self._revision = 0
        self._by_key: dict[InstanceKey, Record] = {}

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

    def put(self, key: InstanceKey, record: Record) -> None:
        self._service_id = record.instance.service_id
        self._revision = record.revision
        self._by_key[key] = record

    def remove(self, key: InstanceKey, revision: int) -> None:
        self._revision = revision
        del self._by_key[key]

    def find(self, key: InstanceKey) -> Record | None:
        return self._by_key.get(key)

    def copy(self) -> ServiceCopy:
        return ServiceCopy(self._service_id, self._revision, self._by_key.copy())

    @classmethod
    def from_copy(cls, copy: ServiceCopy) -> ServiceView:
        """Takes over the copy's dict."""
        view = cls(copy.service_id)
        view._revision = copy.revision
        view._by_key = copy.by_key
        return view


class ServiceIndex:
    """Records by service and key, with their number and a digest of all of them.

    The digest is the sum of each record's checksum modulo 2**64, so a write costs its own record only and the order of
    records does not enter. It finds states that differ by accident; it is no defence against an author of collisions.
    """

    __slots__ = ("_instance_count", "_services", "digest")

    def __init__(self, copies: Iterable[ServiceCopy] = ()) -> None:
        """Takes over the dicts of ``copies``."""
        self._services: dict[str, ServiceView] = {}
        self._instance_count = 0
        self.digest = 0
        for copy in copies:
            self._services[canonical(copy.service_id)] = ServiceView.from_copy(copy)
            self._instance_count += len(copy.by_key)
            self.digest += sum(map(record_checksum, copy.by_key.values()))
        self.digest &= _DIGEST_MASK

    def __len__(self) -> int:
        """Number of services."""
        return len(self._services)

    @property
    def instance_count(self) -> int:
        return self._instance_count

    def find(self, key: InstanceKey) -> Record | None:
        service = self._services.get(key.service_id)
        return None if service is None else service.find(key)

    def service(self, service_id: str) -> ServiceView | None:
        return self._services.get(canonical(service_id))

    def all(self) -> Iterable[ServiceView]:
        return self._services.values()

    def put(self, key: InstanceKey, record: Record, replaced: Record | None) -> None:
        """Store ``record`` under ``key``, where ``replaced`` stands now."""
        service = self._services.get(key.service_id)
        if service is None:
            service = self._services[key.service_id] = ServiceView(record.instance.service_id)
        service.put(key, record)
        if replaced is None:
            self._instance_count += 1
            self.digest = (self.digest + record_checksum(record)) & _DIGEST_MASK
        else:
            self.digest = (self.digest + record_checksum(record) - record_checksum(replaced)) & _DIGEST_MASK

    def remove(self, key: InstanceKey, record: Record, revision: int) -> None:
        """Take out ``record``, which stands under ``key``. A service without instances goes with its last one."""
        service = self._services[key.service_id]
        service.remove(key, revision)
        if not len(service):
            del self._services[key.service_id]
        self._instance_count -= 1
        self.digest = (self.digest - record_checksum(record)) & _DIGEST_MASK

    def copies(self) -> list[ServiceCopy]:
        return [service.copy() for service in self._services.values()]


def record_checksum(record: Record) -> int:
    """Over the encoded instance, its lease id and its revision."""
    return crc32(_encoder.encode(record))


def keyed(records: Iterable[Record]) -> dict[InstanceKey, Record]:
    """Records of one service by key, in the order given."""
    return {key_of(record.instance): record for record in records}
