"""What the registry stores: instances, services, members.

Field names follow ``contracts/java-http.md`` section 3.1 in snake case; the spelling on the wire is the business of
``artemis.api``. All values are immutable: a change of an instance is a new value, so a snapshot may share them.
Immutable trees hold no cycles, so the garbage collector need not track them (``gc=False``): with 100,000 instances a
full collection that walked over them would stall the loop.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

_encoder = msgspec.msgpack.Encoder()

ChangeType = Literal["new", "change", "delete"]


class InstanceKey(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Identity of an instance: each part lower-cased (contract section 3.3). Never a joined string: ``("a.b", "c")``
    and ``("a", "b.c")`` are different keys. No tuple either: each registration makes a key that stays, and the garbage
    collector looks at every new tuple of strings (50,000 are a pause of 50 ms where they are not in the cache)."""

    region_id: str
    service_id: str
    instance_id: str


class Instance(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One running copy of a service, exactly as its owner registered it. Zone and group are no part of its identity."""

    service_id: str
    instance_id: str
    region_id: str | None = None
    zone_id: str | None = None
    group_id: str | None = None
    machine_name: str | None = None
    ip: str | None = None
    port: int = 0
    protocol: str | None = None
    url: str | None = None
    health_check_url: str | None = None
    status: str | None = None
    metadata: dict[str, str | None] | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What a cluster member says of itself, the same on every node because it went through the log."""

    node_id: str
    url: str
    region_id: str
    zone_id: str


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What does not change while a lease lives."""

    key: InstanceKey
    ttl_ms: int
    granted_ms: int
    """The lease clock at the registration. For people: nothing is decided by it."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An instance as it stands in the registry."""

    instance: Instance
    lease_id: int
    """Also the lease epoch: every registration draws a new one, so a renewal of an older epoch finds its lease gone."""
    revision: int
    """The cluster revision of the registration that put it here."""
    grant: Grant
    """Of its lease: so whoever keeps the records of a moment, as a snapshot does, has the grants of it too."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One effective change. Revisions are unique and without gaps over the whole cluster."""

    revision: int
    type: ChangeType
    instance: Instance
    clock_ms: int
    """The lease clock of the entry that made it."""


class Compacted(NamedTuple):
    """The answer to "changes since r" when r is too old: the ring begins after ``oldest``."""

    oldest: int
    """The smallest revision from which changes can still be listed completely."""


def canonical(identifier: str | None) -> str:
    """The form in which an identifier is compared. A missing identifier is the empty one."""
    if not identifier:
        return ""
    lowered = identifier.lower()
    # Most identifiers are lower-case already: keep one string instead of two equal ones per instance.
    return identifier if identifier == lowered else lowered


def encode_instance(instance: Instance) -> bytes:
    """The instance as msgpack: the same bytes on every node, so sizes and checksums may be taken from it."""
    return _encoder.encode(instance)


def key_of(instance: Instance) -> InstanceKey:
    return identity(instance.region_id, instance.service_id, instance.instance_id)


def identity(region_id: str | None, service_id: str | None, instance_id: str | None) -> InstanceKey:
    """The key of what is called so, in any case."""
    return InstanceKey(canonical(region_id), canonical(service_id), canonical(instance_id))
