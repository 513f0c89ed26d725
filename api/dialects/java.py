"""camelCase, nulls written, keys sorted: ``java-http.md`` sections 2 to 4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import orjson

from artemis.api.dialects import Code, FailedInstance, FailedKey, Kind, changes_by_service, joined
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.model import Change, Instance, Member, Record
from artemis.outcomes import Conflict

_STATUS = {"success": "success", "partial_fail": "partial_fail"}
_SUCCESS = b'"responseStatus":{"errorCode":"success","message":"","status":"success"}'
_WRITTEN = b'{"failedInstances":null,' + _SUCCESS + b"}"

_KEYS_FAILED: dict[Kind, str] = {"heartbeat": "Some heartbeats failed", "unregister": "Some unregistrations failed"}

_EMPTY_PAYLOAD: dict[Kind, dict[str, object]] = {
    "register": {"failedInstances": None},
    "heartbeat": {"failedInstances": None},
    "unregister": {"failedInstances": None},
    "lookup": {"services": None},
    "service": {"service": None},
    "services": {"services": None, "version": 0},
    "replicated-services": {"services": None},
    "delta": {"delta": None, "version": 0},
    "watch": {"changes": None},
    "nodes": {"nodes": None},
    "node-status": {"nodeStatus": None},
    "cluster-status": {"nodeCount": 0, "nodesStatus": None},
    "leases": {
        "isSafe": False,
        "isSafeCheckEnabled": False,
        "leaseCount": 0,
        "leaseUpdateCountLastTimeWindow": 0,
        "leaseUpdateMaxCount": 0,
        "leaseUpdateMaxCountLastUpdateTime": 0,
        "leases": None,
    },
    "config": {"properties": None, "sources": None},
    "deployment": {
        "appId": None,
        "ip": None,
        "machineName": None,
        "path": None,
        "port": 0,
        "properties": None,
        "protocol": None,
        "regionId": None,
        "sources": None,
        "zoneId": None,
    },
}


class Java:
    """See ``Dialect``."""

    name: Literal["java", "snake", "rust"] = "java"
    strict = False
    unknown_service_is_fault = False
    empty_write_is_fault = True

    def failed(self, kind: Kind, code: Code, message: str) -> bytes:
        return _dump({**_EMPTY_PAYLOAD[kind], "responseStatus": _status(code, message)})

    def written(
        self, kind: Kind, instances: Sequence[FailedInstance], keys: Sequence[FailedKey], *, by_key: bool
    ) -> bytes:
        if not instances and not keys:
            return _WRITTEN
        answer: dict[str, object] = {
            "failedInstances": [
                {
                    "errorCode": failure.code,
                    "errorMessage": f"{instance_text(failure.instance)}: {failure.message}",
                    "instance": instance_fields(failure.instance),
                    **_present(failure.conflict),
                }
                for failure in instances
            ]
            or None,
            "responseStatus": _status("partial_fail", ""),
        }
        if by_key:
            answer["failedInstanceKeys"] = [_failed_key(failure) for failure in keys]
            answer["responseStatus"] = {
                "errorCode": "bad-request",
                "errorMessage": _KEYS_FAILED[kind],
                "message": _KEYS_FAILED[kind],
                "status": "partial_fail",
            }
        return _dump(answer)

    def service(self, service_id: str, records: Iterable[Record]) -> bytes:
        return _service(service_id, [instance_fields(record.instance) for record in records])

    listed_service = service

    def revised_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        return _service(
            service_id,
            [
                instance_fields(record.instance) | {"leaseEpoch": record.lease_id, "revision": record.revision}
                for record in records
            ],
        )

    revised_listed_service = revised_service

    def unknown_service(self, service_id: str) -> bytes:
        return _service(service_id, None)

    def found(self, service: bytes) -> bytes:
        return b'{%b,"service":%b}' % (_SUCCESS, service)

    def looked_up(self, services: Sequence[bytes]) -> bytes:
        return joined(b'{%b,"services":[' % _SUCCESS, services, b"]}")

    def listed(self, services: Sequence[bytes], version: int) -> bytes:
        return joined(b'{%b,"services":[' % _SUCCESS, services, b'],"version":%d}' % version)

    def replicated(self, services: Sequence[bytes]) -> bytes:
        return joined(b'{%b,"services":[' % _SUCCESS, services, b"]}")

    def changed(self, changes: Sequence[Change], version: int, epoch_offset_ms: int) -> bytes:
        delta = {
            service_id: [
                {
                    "changeTime": change.clock_ms + epoch_offset_ms,
                    "changeType": change.type,
                    "instance": instance_fields(change.instance),
                }
                for change in of_service
            ]
            for service_id, of_service in changes_by_service(changes).items()
        }
        return b'{"delta":%b,%b,"version":%d}' % (_dump(delta), _SUCCESS, version)

    def change(self, change: Change, epoch_offset_ms: int) -> bytes:
        return _dump(
            {
                "changeTime": change.clock_ms + epoch_offset_ms,
                "changeType": change.type,
                "instance": instance_fields(change.instance),
                "revision": change.revision,
            }
        )

    def nodes(self, members: Sequence[Member]) -> bytes:
        nodes = [
            {
                "url": member.url,
                "zone": {"metadata": None, "regionId": member.region_id, "zoneId": member.zone_id},
            }
            for member in members
        ]
        return b'{"nodes":%b,%b}' % (_dump(nodes), _SUCCESS)

    def fragment(self, fields: Mapping[str, object]) -> bytes:
        return _dump(fields)

    def reported(self, fields: Mapping[str, object]) -> bytes:
        return _dump({**fields, "responseStatus": _status("success", "")})


def _service(service_id: str, instances: list[dict[str, object]] | None) -> bytes:
    return _dump(
        {
            "instances": instances,
            "logicInstances": None,
            "metadata": None,
            "routeRules": None,
            "serviceId": service_id,
        }
    )


def instance_fields(instance: Instance | SentInstance) -> dict[str, object]:
    """In alphabetical order, as the earlier servers wrote them."""
    return {
        "groupId": instance.group_id,
        "healthCheckUrl": instance.health_check_url,
        "instanceId": instance.instance_id,
        "ip": instance.ip,
        "machineName": instance.machine_name,
        "metadata": instance.metadata,
        "port": instance.port,
        "protocol": instance.protocol,
        "regionId": instance.region_id,
        "serviceId": instance.service_id,
        "status": instance.status,
        "url": instance.url,
        "zoneId": instance.zone_id,
    }


def instance_text(instance: Instance | SentInstance) -> str:
    """``region/zone/service[/group]/instance`` in lower case, as error messages name an instance."""
    parts = [instance.region_id, instance.zone_id, instance.service_id]
    if instance.group_id and not instance.group_id.isspace():
        parts.append(instance.group_id)
    parts.append(instance.instance_id)
    return "/".join("null" if part is None else part.lower() for part in parts)


def _present(conflict: Conflict | None) -> dict[str, object]:
    return {} if conflict is None else {"currentEpoch": conflict.epoch, "currentRevision": conflict.revision}


def _failed_key(failure: FailedKey) -> dict[str, object]:
    fields = _key_fields(failure.key)
    if failure.conflict is not None:
        fields |= {"errorCode": failure.code, "errorMessage": failure.message, **_present(failure.conflict)}
    return fields


def _key_fields(key: SentKey) -> dict[str, object]:
    return {
        "groupId": key.group_id,
        "instanceId": key.instance_id,
        "regionId": key.region_id,
        "serviceId": key.service_id,
        "zoneId": key.zone_id,
    }


def _status(code: Code, message: str) -> dict[str, object]:
    return {"errorCode": code, "message": message, "status": _STATUS.get(code, "fail")}


def _dump(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
