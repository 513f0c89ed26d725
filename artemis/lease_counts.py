"""How many leases there are, and how many are held: what protection asks (``artemis.protection.Counts``)."""

from __future__ import annotations

from artemis.leases import LeaseTable
from artemis.services import ServiceIndex


class LeaseCounts:
    """Not the registry itself: it and its protection would hold each other, and a registry that a snapshot has replaced
    would keep its 200 MB until a full garbage collection."""

    __slots__ = ("_index", "_leases")

    def __init__(self, index: ServiceIndex, leases: LeaseTable) -> None:
        self._index = index
        self._leases = leases

    def leases(self, service_id: str | None) -> int:
        """Of this service, or of all; every instance has one."""
        if service_id is None:
            return len(self._leases)
        service = self._index.service(service_id)
        return 0 if service is None else len(service)

    def held(self, service_id: str | None) -> int:
        """Those of them whose deadline has passed and that protection holds."""
        return len(self._leases.held) if service_id is None else self._leases.held.of_service(service_id)
