"""What a node has applied, as its readers see it. How entries change it: ``registry``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType

import msgspec

from artemis.changes import ChangeRing
from artemis.commands import RequestId
from artemis.lease_counts import LeaseCounts
from artemis.lease_stats import LeaseStats
from artemis.leases import LeaseTable, LeaseTerm
from artemis.model import Change, Compacted, InstanceKey, Member, Record
from artemis.outcomes import Outcome
from artemis.protection import ProtectedScope, Protection, ProtectionSettings, ProtectionView
from artemis.services import ServiceIndex, ServiceView
from artemis.sessions import RequestWindow, Session
from artemis.state import StateLimits


class RegistryState:
    """The applied state of one node: what the log has made of it, and what can be read of it."""

    __slots__ = (
        "_counts",
        "_index",
        "_leases",
        "_limits",
        "_members",
        "_next_lease_id",
        "_protection",
        "_requests",
        "_ring",
        "_sessions",
        "applied_index",
        "clock_ms",
        "lease_stats",
        "revision",
    )

    def __init__(self, limits: StateLimits | None = None) -> None:
        self._limits = StateLimits() if limits is None else limits
        self.applied_index = 0
        """Index of the last entry applied; entries that are not ours (PySyncObj's own) may lie between."""
        self.revision = 0
        self.clock_ms = 0
        """The lease clock. It never goes back."""
        self._next_lease_id = 1
        self._index = ServiceIndex()
        self._leases = LeaseTable()
        self._counts = LeaseCounts(self._index, self._leases)
        self._protection = Protection(self._counts)
        self.lease_stats = LeaseStats()
        """Of this node, not of the state. Whoever puts one registry in the place of another hands it on."""
        self._ring = ChangeRing(self._limits.changes_max, self._limits.change_bytes_max)
        self._sessions: dict[str, Session] = {}
        self._members: dict[str, Member] = {}
        self._requests = RequestWindow(self._limits.requests_max, self._limits.request_window_ms)

    @property
    def limits(self) -> StateLimits:
        return self._limits

    @property
    def instance_count(self) -> int:
        return self._index.instance_count

    @property
    def service_count(self) -> int:
        return len(self._index)

    @property
    def lease_count(self) -> int:
        return len(self._leases)

    @property
    def digest(self) -> int:
        """64 bits over all records: equal on all nodes at the same applied index. Lease deadlines are not in it."""
        return self._index.digest

    def state_digest(self) -> int:
        """64 bits over ``digest`` and what is cheap to read beside it, for comparing nodes at the same applied index.
        Not in it: deadlines, remembered outcomes (only how many there are), and changes, which repeat records. Whoever
        changes what is in it gives it another number (``consensus.digests.DIGEST_FORMAT``)."""
        sessions = sorted((origin, *session) for origin, session in self._sessions.items())
        numbers = (self.revision, self.clock_ms, self._next_lease_id, len(self._leases), len(self._requests))
        held = self._protection.state()
        parts = msgspec.msgpack.encode((numbers, self.digest, sessions, list(self._members.values()), held))
        return int.from_bytes(blake2b(parts, digest_size=8).digest())

    @property
    def members(self) -> Mapping[str, Member]:
        """Announced members by node id, in order of their first announcement. A live, read-only view."""
        return MappingProxyType(self._members)

    def session(self, origin: str) -> Session | None:
        """The highest (incarnation, seq) applied of this origin."""
        return self._sessions.get(origin)

    def find(self, key: InstanceKey) -> Record | None:
        return self._index.find(key)

    def lease(self, lease_id: int) -> LeaseTerm | None:
        """The lease of a record; None once it has ended."""
        return self._leases.term(lease_id)

    def service(self, service_id: str) -> ServiceView | None:
        """The service of this name, in any case; None if it has no instance now."""
        return self._index.service(service_id)

    def services(self) -> Iterable[ServiceView]:
        """Every service with instances, in order of appearance."""
        return self._index.all()

    def frozen_services(self) -> list[ServiceView]:
        """The same as they are now: later calls of ``apply`` do not touch these views. Costs by services, and a copy of
        each service to the first write that changes it afterwards."""
        return self._index.freeze()

    def lease_deadline_ms(self, lease_id: int) -> int | None:
        """The lease time at which the lease ends unless renewed; None if there is no such lease."""
        return self._leases.deadline_ms(lease_id)

    @property
    def protecting(self) -> bool:
        """The registry or a service is protected against mass eviction now."""
        return self._protection.active

    @property
    def protected_scope(self) -> ProtectedScope | None:
        """The widest that is protected now; None: nothing."""
        return self._protection.scope

    @property
    def protection(self) -> ProtectionView:
        """What is protected now, and how many leases are held. Costs by protected services."""
        return self._protection.view()

    @property
    def protection_settings(self) -> ProtectionSettings:
        return self._protection.settings

    @property
    def clock_needed(self) -> bool:
        """Something waits for the lease clock: leases, or the end of protection after the last of them."""
        return len(self._leases) > 0 or self._protection.active

    @property
    def leases_may_be_due(self) -> bool:
        """False: an entry that does not move the clock would end no lease. True after an entry that had to stop at
        ``StateLimits.evictions_max``."""
        return self._leases.may_be_due(self.clock_ms)

    def leases(self, service_id: str | None) -> int:
        """Number of leases of this service, or of all."""
        return self._counts.leases(service_id)

    def held(self, service_id: str | None) -> int:
        """Number of leases of this service, or of all, whose deadline has passed and that protection holds."""
        return self._counts.held(service_id)

    @property
    def changes_oldest(self) -> int:
        """The smallest revision from which changes can still be listed completely."""
        return self._ring.oldest

    def changes_since(self, revision: int) -> Sequence[Change] | Compacted:
        """Every change with a greater revision, in order, or ``Compacted`` if some of them are no longer kept.

        For a revision this node has not reached there are none *yet*. Whoever holds such a revision waits for it
        first (``ReplicatedRegistry.applied``): an empty answer does not say that the revision exists.
        """
        return self._ring.since(revision)

    def outcome_of(self, request: RequestId) -> Outcome | None:
        """What became of this request: its remembered outcome, ``Refused("request-id-reused")`` if the id belongs to
        a request with another fingerprint, or None if nothing is known of it (any more)."""
        return self._requests.outcome_of(request, self.revision)
