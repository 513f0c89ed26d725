"""Request bodies as the handlers see them, whatever they looked like on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from artemis.api.dialects import shapes
from artemis.api.dialects.reading import Document, Fields, Naming, parse
from artemis.api.dialects.shapes import SentInstance, SentKey, SnakeInstance, SnakeKey
from artemis.api.faults import WrongShape

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

Shape = TypeVar("Shape")


class WriteBody(msgspec.Struct, frozen=True):
    """``{instances: […]}`` and ``{instance_keys: […]}``; None where the field is absent or null."""

    instances: Sequence[SentInstance | None] | None
    keys: Sequence[SentKey] | None
    naming: Naming | None


class LookupBody(msgspec.Struct, frozen=True):
    """``service_ids``: None where a config is null or has no service id. ``region_id`` is the request's own."""

    service_ids: list[str | None] | None
    region_id: str | None
    zone_id: str | None
    naming: Naming | None


class PickBody(msgspec.Struct, frozen=True):
    """``{discovery_config, strategy}``: one instance of one service."""

    service_id: str | None
    region_id: str | None
    zone_id: str | None
    strategy: str | None
    naming: Naming | None


class ServiceBody(msgspec.Struct, frozen=True):
    service_id: str | None
    region_id: str | None
    zone_id: str | None
    naming: Naming | None


class PlaceBody(msgspec.Struct, frozen=True):
    """``{region_id, zone_id, version}``: services, services-delta, cluster nodes."""

    region_id: str | None
    zone_id: str | None
    version: int
    naming: Naming | None


class LeasesBody(msgspec.Struct, frozen=True):
    """``{service_ids: […]}``; empty where absent: all services."""

    service_ids: Sequence[str]
    naming: Naming | None


_camel_instances = msgspec.json.Decoder(shapes.CamelInstances)
_snake_instances = msgspec.json.Decoder(shapes.SnakeInstances)
_camel_keys = msgspec.json.Decoder(shapes.CamelKeys)
_snake_keys = msgspec.json.Decoder(shapes.SnakeKeys)
_camel_lookup = msgspec.json.Decoder(shapes.CamelLookup)
_snake_lookup = msgspec.json.Decoder(shapes.SnakeLookup)
_camel_service = msgspec.json.Decoder(shapes.CamelService)
_snake_service = msgspec.json.Decoder(shapes.SnakeService)


def _exact(decoder: msgspec.json.Decoder[Shape], body: bytes) -> Shape | None:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Not this shape, or not JSON at all: the lenient reader decides which, and names the fault.
        return None


def read_write(body: bytes) -> WriteBody:
    """Raises ``HttpFault`` (400) naming the field."""
    # A guess from the bytes picks the shape to try; a wrong guess costs time, never a different reading.
    if b'"serviceId"' in body:
        if b'"instanceKeys"' not in body:
            camel = _exact(_camel_instances, body)
            if camel is not None and camel.instances:
                return WriteBody(camel.instances, None, "camel")
        elif (camel_keys := _exact(_camel_keys, body)) is not None:
            return WriteBody(None, camel_keys.instance_keys, "camel")
    elif b'"instance_keys"' in body:
        snake_keys = _exact(_snake_keys, body)
        if snake_keys is not None:
            return WriteBody(None, snake_keys.instance_keys, "snake")
    else:
        snake = _exact(_snake_instances, body)
        if snake is not None and snake.instances:
            return WriteBody(snake.instances, None, "snake")
    return _read_write_leniently(body)


def _read_write_leniently(body: bytes) -> WriteBody:
    document = Document()
    top = document.fields(parse(body), "")
    for name in ("expectedrevision", "expectedepoch"):
        # Unknown names are ignored, but not one that the sender relies on.
        if top.get(name) is not None:
            raise WrongShape(f"{top.path(name)}: allowed in each instance or key, not beside them")
    instances = top.children("instances")
    keys = top.items("instancekeys")
    return WriteBody(
        None if instances is None else [None if fields is None else _instance(fields) for fields in instances],
        None
        if keys is None
        else [
            _key(document.fields(item, f"{top.path('instancekeys')}[{position}]")) for position, item in enumerate(keys)
        ],
        document.naming,
    )


def _instance(fields: Fields) -> SnakeInstance:
    return SnakeInstance(
        service_id=fields.text("serviceid"),
        instance_id=fields.text("instanceid"),
        region_id=fields.text("regionid"),
        zone_id=fields.text("zoneid"),
        group_id=fields.text("groupid"),
        machine_name=fields.text("machinename"),
        ip=fields.text("ip"),
        port=fields.integer("port", shapes.INT32_MIN, shapes.INT32_MAX) or 0,
        protocol=fields.text("protocol"),
        url=fields.text("url"),
        health_check_url=fields.text("healthcheckurl"),
        status=fields.text("status"),
        metadata=fields.texts("metadata"),
        lease_ttl_ms=fields.integer("leasettlms", INT64_MIN, INT64_MAX),
        expected_revision=fields.count("expectedrevision", INT64_MAX),
        expected_epoch=fields.count("expectedepoch", INT64_MAX),
    )


def _key(fields: Fields) -> SnakeKey:
    # A key without its region would silently name another instance: the identity has three parts.
    return SnakeKey(
        region_id=fields.required_text("regionid", "region_id"),
        service_id=fields.required_text("serviceid", "service_id"),
        instance_id=fields.required_text("instanceid", "instance_id"),
        zone_id=fields.text("zoneid"),
        group_id=fields.text("groupid"),
        expected_revision=fields.count("expectedrevision", INT64_MAX),
        expected_epoch=fields.count("expectedepoch", INT64_MAX),
    )


def read_lookup(body: bytes) -> LookupBody:
    """Raises ``HttpFault`` (400) naming the field."""
    camel = _exact(_camel_lookup, body) if b'"serviceId"' in body else None
    if camel is not None and camel.discovery_configs:
        return LookupBody(
            [config.service_id for config in camel.discovery_configs], camel.region_id, camel.zone_id, "camel"
        )
    snake = None if camel is not None else _exact(_snake_lookup, body)
    if snake is not None and snake.discovery_configs:
        return LookupBody(
            [config.service_id for config in snake.discovery_configs], snake.region_id, snake.zone_id, "snake"
        )
    document = Document()
    top = document.fields(parse(body), "")
    configs = top.children("discoveryconfigs")
    service_ids = None if configs is None else [None if fields is None else _config(fields) for fields in configs]
    return LookupBody(service_ids, top.text("regionid"), top.text("zoneid"), document.naming)


def read_pick(body: bytes) -> PickBody | None:
    """None when it is no such request. Raises ``HttpFault`` (400) naming the field."""
    document = Document()
    top = document.fields(parse(body), "")
    config = top.child("discoveryconfig")
    if config is None:
        return None
    service_id, region_id, zone_id = config.text("serviceid"), config.text("regionid"), config.text("zoneid")
    return PickBody(service_id, region_id, zone_id, top.text("strategy"), document.naming)


def read_service(body: bytes) -> ServiceBody:
    """Raises ``HttpFault`` (400) naming the field."""
    camel = _exact(_camel_service, body) if b'"serviceId"' in body else None
    if camel is not None:
        return ServiceBody(camel.discovery_config.service_id, camel.region_id, camel.zone_id, "camel")
    snake = _exact(_snake_service, body)
    if snake is not None:
        return ServiceBody(snake.discovery_config.service_id, snake.region_id, snake.zone_id, "snake")
    document = Document()
    top = document.fields(parse(body), "")
    config = top.child("discoveryconfig")
    service_id = None if config is None else _config(config)
    return ServiceBody(service_id, top.text("regionid"), top.text("zoneid"), document.naming)


def _config(fields: Fields) -> str | None:
    """The service id of a discovery config. Its other fields are read only so that a wrong type is told."""
    fields.text("regionid")
    fields.text("zoneid")
    fields.texts("discoverydata")
    return fields.text("serviceid")


def read_place(body: bytes) -> PlaceBody:
    """Raises ``HttpFault`` (400) naming the field."""
    document = Document()
    top = document.fields(parse(body), "")
    version = top.integer("version", INT64_MIN, INT64_MAX) or 0
    return PlaceBody(top.text("regionid"), top.text("zoneid"), version, document.naming)


def read_query(query: list[tuple[str, str]]) -> ServiceBody:
    """The query form of a service or place request: ``?serviceId=…&regionId=…&zoneId=…`` in either spelling."""
    document = Document()
    fields = document.fields(dict(query), "")
    return ServiceBody(fields.text("serviceid"), fields.text("regionid"), fields.text("zoneid"), document.naming)


def read_leases(body: bytes) -> LeasesBody:
    """Raises ``HttpFault`` (400) naming the field."""
    document = Document()
    top = document.fields(parse(body), "")
    return LeasesBody(tuple(top.plain_texts("serviceids")), document.naming)


def read_leases_query(query: list[tuple[str, str]]) -> LeasesBody:
    """``?appIds=a,b``, also repeated; ``serviceIds`` means the same. An empty element is ignored."""
    document = Document()
    service_ids: list[str] = []
    for name, value in query:
        if document.saw(name) in ("appids", "serviceids"):
            service_ids += (item for item in value.split(",") if item)
    return LeasesBody(tuple(service_ids), document.naming)
