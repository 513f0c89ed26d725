"""snake_case, nulls omitted, a closed set of codes: ``rust-http.md`` section 1.

Strict decoders read these answers: a missing mandatory text, a port beyond 16 bits or an unknown status makes them
refuse the whole answer. So what another dialect registered is fitted here: absent mandatory texts are empty, an
absent status counts as ``up``, a foreign one as ``unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import orjson

from artemis.api.dialects import Code, FailedInstance, Kind, changes_by_service
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.model import Change, Instance, Member

PORT_MAX = 65_535

_CODES: dict[Code, str] = {
    "success": "success",
    "partial_fail": "bad-request",
    "bad-request": "bad-request",
    "no-permission": "bad-request",
    "data-not-found": "bad-request",
    "internal-service-error": "internal-error",
    "service-unavailable": "service-unavailable",
}
_STATUSES = frozenset(("starting", "up", "down", "unhealthy", "unknown"))
_SUCCESS = b'"response_status":{"error_code":"success","status":"success"}'
_WRITTEN = b"{" + _SUCCESS + b"}"
_SOME_FAILED: dict[Kind, str] = {
    "register": "Some registrations failed",
    "heartbeat": "Some heartbeats failed",
    "unregister": "Some unregistrations failed",
}


class Snake:
    """See ``Dialect``."""

    name: Literal["java", "snake"] = "snake"
    unknown_service_is_fault = True
    empty_write_is_fault = False

    def failed(self, kind: Kind, code: Code, message: str) -> bytes:
        answer: dict[str, object] = {"response_status": _status(code, message)}
        if kind == "delta":
            answer["version"] = 0
        return orjson.dumps(answer)

    def written(
        self, kind: Kind, instances: Sequence[FailedInstance], keys: Sequence[SentKey], *, by_key: bool
    ) -> bytes:
        if not instances and not keys:
            return _WRITTEN
        answer: dict[str, object] = {"response_status": _status("partial_fail", _SOME_FAILED[kind])}
        if instances:
            # Bare instances, as the earlier server had them, with the reason beside their fields.
            answer["failed_instances"] = [
                instance_fields(failure.instance) | {"error_code": failure.code, "error_message": failure.message}
                for failure in instances
            ]
        if keys:
            answer["failed_instance_keys"] = [_key_fields(key) for key in keys]
        return orjson.dumps(answer)

    def service(self, service_id: str, instances: Iterable[Instance]) -> bytes:
        """Only instances that are up (``rust-http.md`` 1.2)."""
        shown = [fields for fields in map(instance_fields, instances) if fields["status"] == "up"]
        return orjson.dumps({"service_id": service_id, "instances": shown})

    def listed_service(self, service_id: str, instances: Iterable[Instance]) -> bytes:
        return orjson.dumps(
            {"service_id": service_id, "instances": [instance_fields(instance) for instance in instances]}
        )

    def unknown_service(self, service_id: str) -> bytes:
        return orjson.dumps({"service_id": service_id, "instances": []})

    def found(self, service: bytes) -> bytes:
        return b'{%b,"service":%b}' % (_SUCCESS, service)

    def looked_up(self, services: Sequence[bytes]) -> bytes:
        return b'{%b,"services":[%b]}' % (_SUCCESS, b",".join(services))

    def listed(self, services: Sequence[bytes], version: int) -> bytes:
        return b'{%b,"services":[%b],"version":%d}' % (_SUCCESS, b",".join(services), version)

    def changed(self, changes: Sequence[Change], version: int, epoch_offset_ms: int) -> bytes:
        delta = {
            service_id: [
                {
                    "instance": instance_fields(change.instance),
                    "change_type": change.type,
                    "change_time": change.clock_ms + epoch_offset_ms,
                }
                for change in of_service
            ]
            for service_id, of_service in changes_by_service(changes).items()
        }
        return b'{%b,"delta":%b,"version":%d}' % (_SUCCESS, orjson.dumps(delta), version)

    def nodes(self, members: Sequence[Member]) -> bytes:
        nodes = [
            {"url": member.url, "zone": {"region_id": member.region_id, "zone_id": member.zone_id}}
            for member in members
        ]
        return b'{%b,"nodes":%b}' % (_SUCCESS, orjson.dumps(nodes))


def instance_fields(instance: Instance | SentInstance) -> dict[str, object]:
    fields: dict[str, object] = {
        "region_id": instance.region_id or "",
        "zone_id": instance.zone_id or "",
        "service_id": instance.service_id or "",
        "instance_id": instance.instance_id or "",
        "ip": instance.ip or "",
        "port": instance.port if 0 <= instance.port <= PORT_MAX else 0,
        "url": instance.url or "",
        "status": _instance_status(instance.status),
    }
    if instance.group_id is not None:
        fields["group_id"] = instance.group_id
    if instance.machine_name is not None:
        fields["machine_name"] = instance.machine_name
    if instance.protocol is not None:
        fields["protocol"] = instance.protocol
    if instance.health_check_url is not None:
        fields["health_check_url"] = instance.health_check_url
    if instance.metadata is not None:
        fields["metadata"] = {key: value or "" for key, value in instance.metadata.items()}
    return fields


def _instance_status(status: str | None) -> str:
    if not status:
        return "up"
    lowered = status.lower()
    return lowered if lowered in _STATUSES else "unknown"


def _key_fields(key: SentKey) -> dict[str, object]:
    fields: dict[str, object] = {
        "region_id": key.region_id,
        "service_id": key.service_id,
        "instance_id": key.instance_id,
    }
    if key.zone_id is not None:
        fields["zone_id"] = key.zone_id
    if key.group_id is not None:
        fields["group_id"] = key.group_id
    return fields


def _status(code: Code, message: str) -> dict[str, object]:
    status = code if code in ("success", "partial_fail") else "fail"
    return {"error_code": _CODES[code], "error_message": message, "status": status}
