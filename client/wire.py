"""The bytes of requests and answers: JSON in camel case, as Artemis 2.x speaks it (``contracts/java-http.md`` 2-4, 6).

Reading is lenient like the earlier clients: unknown fields are ignored, ``"8080"`` is a number. Nothing here decides
what to do about an answer; ``artemis.client.answers`` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from artemis.model import Instance, Member

REGISTER_PATH = "/artemis/api/registry/register.json"
HEARTBEAT_PATH = "/artemis/api/registry/heartbeat.json"
UNREGISTER_PATH = "/artemis/api/registry/unregister.json"
LOOKUP_PATH = "/artemis/api/discovery/lookup.json"
SERVICES_PATH = "/artemis/api/discovery/services.json"
WATCH_PATH = "/artemis/api/watch"
MEMBERS_PATH = "/artemis/api/cluster/up-registry-nodes.json"


class WireInstance(msgspec.Struct, rename="camel", omit_defaults=True):
    service_id: str | None = None
    instance_id: str | None = None
    region_id: str | None = None
    zone_id: str | None = None
    group_id: str | None = None
    machine_name: str | None = None
    ip: str | None = None
    port: int | None = None
    protocol: str | None = None
    url: str | None = None
    health_check_url: str | None = None
    status: str | None = None
    metadata: dict[str, str | None] | None = None
    lease_ttl_ms: int | None = None
    expected_revision: int | None = None
    expected_epoch: int | None = None
    revision: int | None = None
    """This and the next are in look-ups that ask for them."""
    lease_epoch: int | None = None


class Expected(NamedTuple):
    """What a write expects of the present registration of its instance. 0: there is none. None: not compared."""

    revision: int | None = None
    epoch: int | None = None


ANYTHING = Expected()


class _Instances(msgspec.Struct, rename="camel"):
    instances: list[WireInstance]


class _DiscoveryConfig(msgspec.Struct, rename="camel"):
    service_id: str


class _Scope(msgspec.Struct, rename="camel"):
    region_id: str | None
    zone_id: str | None


class _Lookup(msgspec.Struct, rename="camel"):
    discovery_configs: list[_DiscoveryConfig]
    region_id: str | None
    zone_id: str | None


class ResponseStatus(msgspec.Struct, rename="camel"):
    status: Literal["success", "partial_fail", "fail"]
    error_code: str | None = None
    message: str | None = None


class Response(msgspec.Struct, rename="camel"):
    """Every answer has a status. One without is not from Artemis, and reading it fails."""

    response_status: ResponseStatus


class WireFailedInstance(msgspec.Struct, rename="camel"):
    instance: WireInstance | None = None
    error_code: str | None = None
    error_message: str | None = None
    current_revision: int | None = None
    current_epoch: int | None = None


class RegistryResponse(Response, rename="camel"):
    failed_instances: list[WireFailedInstance] | None = None


class WireService(msgspec.Struct, rename="camel"):
    service_id: str
    instances: list[WireInstance] | None = None


class ServicesResponse(Response, rename="camel"):
    """The answer to a look-up and to a list of services."""

    services: list[WireService] | None = None


class WireChange(msgspec.Struct, rename="camel"):
    revision: int
    change_type: Literal["new", "change", "delete"]
    instance: WireInstance
    change_time: int = 0


class WatchResponse(Response, rename="camel"):
    """``changes`` after the revision asked for; or they are not kept any more (``compacted``)."""

    changes: list[WireChange] | None = None
    revision: int = 0
    compacted: bool = False


class _Zone(msgspec.Struct, rename="camel"):
    region_id: str | None = None
    zone_id: str | None = None


class _ServiceNode(msgspec.Struct, rename="camel"):
    url: str
    zone: _Zone | None = None
    node_id: str | None = None


class NodesResponse(Response, rename="camel"):
    nodes: list[_ServiceNode] | None = None


_encode = msgspec.json.Encoder().encode


def encode_instances(items: Iterable[tuple[Instance, int | None, Expected]]) -> bytes:
    """The body of register, heartbeat and unregister. Each instance goes whole: nodes validate it in all three."""
    return _encode(_Instances([_to_wire(instance, ttl_ms, expected) for instance, ttl_ms, expected in items]))


def encode_lookup(service_ids: Iterable[str], region_id: str | None, zone_id: str | None) -> bytes:
    return _encode(_Lookup([_DiscoveryConfig(service_id) for service_id in service_ids], region_id, zone_id))


def encode_scope(region_id: str | None, zone_id: str | None) -> bytes:
    return _encode(_Scope(region_id, zone_id))


def instance_of(wire: WireInstance) -> Instance:
    return Instance(
        service_id=wire.service_id or "",
        instance_id=wire.instance_id or "",
        region_id=wire.region_id,
        zone_id=wire.zone_id,
        group_id=wire.group_id,
        machine_name=wire.machine_name,
        ip=wire.ip,
        port=wire.port or 0,
        protocol=wire.protocol,
        url=wire.url,
        health_check_url=wire.health_check_url,
        status=wire.status,
        metadata=wire.metadata,
    )


def members_of(response: NodesResponse) -> tuple[Member, ...]:
    """``node_id`` is empty if the node does not tell it (the field is no part of the earlier contract)."""
    return tuple(
        Member(
            node_id=node.node_id or "",
            url=node.url,
            region_id=(node.zone and node.zone.region_id) or "",
            zone_id=(node.zone and node.zone.zone_id) or "",
        )
        for node in response.nodes or ()
    )


def _to_wire(instance: Instance, ttl_ms: int | None, expected: Expected) -> WireInstance:
    return WireInstance(
        service_id=instance.service_id,
        instance_id=instance.instance_id,
        region_id=instance.region_id,
        zone_id=instance.zone_id,
        group_id=instance.group_id,
        machine_name=instance.machine_name,
        ip=instance.ip,
        port=instance.port,
        protocol=instance.protocol,
        url=instance.url,
        health_check_url=instance.health_check_url,
        status=instance.status,
        metadata=instance.metadata,
        lease_ttl_ms=ttl_ms,
        expected_revision=expected.revision,
        expected_epoch=expected.epoch,
    )
