"""Nulls omitted, a closed set of codes: ``rust-http.md`` section 1. In snake_case (``Snake``), and in camelCase as that
server's later clients have it (``Rust``; ``java-client-and-push.md`` 10.1).

Strict decoders read these answers: a missing mandatory text, a port beyond 16 bits or an unknown status makes them
refuse the whole answer. So what another dialect registered is fitted here: absent mandatory texts are empty, an
absent status counts as ``up``, a foreign one as ``unknown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import orjson

from artemis.api.dialects import Code, Data, FailedInstance, FailedKey, Kind, changes_by_service, joined
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.model import Change, Instance, Member, Record

PORT_MAX = 65_535

_CODES: dict[Code, str] = {
    "success": "success",
    "partial_fail": "bad-request",
    "bad-request": "bad-request",
    "no-permission": "bad-request",
    "data-not-found": "bad-request",
    "internal-service-error": "internal-error",
    "service-unavailable": "service-unavailable",
    "rate-limited": "rate-limited",
    "condition-failed": "bad-request",
    "request-id-reused": "bad-request",
}
_STATUSES = frozenset(("starting", "up", "down", "unhealthy", "unknown"))
_SOME_FAILED: dict[Kind, str] = {
    "register": "Some registrations failed",
    "heartbeat": "Some heartbeats failed",
    "unregister": "Some unregistrations failed",
}


class Names(NamedTuple):
    """Every name in these answers that is spelled in two ways; the defaults are snake_case."""

    region_id: str = "region_id"
    zone_id: str = "zone_id"
    service_id: str = "service_id"
    instance_id: str = "instance_id"
    group_id: str = "group_id"
    machine_name: str = "machine_name"
    health_check_url: str = "health_check_url"
    response_status: str = "response_status"
    error_code: str = "error_code"
    error_message: str = "error_message"
    failed_instances: str = "failed_instances"
    failed_instance_keys: str = "failed_instance_keys"
    change_type: str = "change_type"
    change_time: str = "change_time"
    current_revision: str = "current_revision"
    current_epoch: str = "current_epoch"
    lease_epoch: str = "lease_epoch"


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


@lru_cache(maxsize=256)
def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


SNAKE_NAMES = Names()
CAMEL_NAMES = Names(*map(camel, Names._fields))


class Snake:
    """See ``Dialect``."""

    name: Literal["java", "snake", "rust"] = "snake"
    strict = True
    unknown_service_is_fault = True
    empty_write_is_fault = False

    def __init__(self, names: Names = SNAKE_NAMES) -> None:
        self._names = names
        success = {names.response_status: {names.error_code: "success", "status": "success"}}
        self._written = orjson.dumps(success)
        self._success = self._written[1:-1]

    def failed(self, kind: Kind, code: Code, message: str) -> bytes:
        answer: dict[str, object] = {self._names.response_status: self._status(code, message)}
        if kind == "delta":
            answer["version"] = 0
        return orjson.dumps(answer)

    def written(
        self, kind: Kind, instances: Sequence[FailedInstance], keys: Sequence[FailedKey], *, by_key: bool
    ) -> bytes:
        if not instances and not keys:
            return self._written
        names = self._names
        answer: dict[str, object] = {names.response_status: self._status("partial_fail", _SOME_FAILED[kind])}
        if instances:
            # Bare instances, as the earlier server had them, with the reason beside their fields.
            answer[names.failed_instances] = [
                instance_fields(failure.instance, names) | self._reason(failure) for failure in instances
            ]
        if keys:
            answer[names.failed_instance_keys] = [
                _key_fields(failure.key, names) | ({} if failure.conflict is None else self._reason(failure))
                for failure in keys
            ]
        return orjson.dumps(answer)

    def _reason(self, failure: FailedInstance | FailedKey) -> dict[str, object]:
        names = self._names
        fields: dict[str, object] = {names.error_code: failure.code, names.error_message: failure.message}
        if failure.conflict is not None:
            fields[names.current_revision] = failure.conflict.revision
            fields[names.current_epoch] = failure.conflict.epoch
        return fields

    def service(self, service_id: str, records: Iterable[Record]) -> bytes:
        """Only instances that are up (``rust-http.md`` 1.2)."""
        names = self._names
        fields = [instance_fields(record.instance, names) for record in records]
        return orjson.dumps(
            {names.service_id: service_id, "instances": [one for one in fields if one["status"] == "up"]}
        )

    def listed_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        names = self._names
        fields = [instance_fields(record.instance, names) for record in records]
        return orjson.dumps({names.service_id: service_id, "instances": fields})

    def revised_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        shown = [fields for fields in map(self._revised, records) if fields["status"] == "up"]
        return orjson.dumps({self._names.service_id: service_id, "instances": shown})

    def revised_listed_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        return orjson.dumps({self._names.service_id: service_id, "instances": list(map(self._revised, records))})

    def _revised(self, record: Record) -> dict[str, object]:
        names = self._names
        return instance_fields(record.instance, names) | {
            "revision": record.revision,
            names.lease_epoch: record.lease_id,
        }

    def unknown_service(self, service_id: str) -> bytes:
        return orjson.dumps({self._names.service_id: service_id, "instances": []})

    def found(self, service: bytes) -> bytes:
        return b'{%b,"service":%b}' % (self._success, service)

    def looked_up(self, services: Sequence[bytes]) -> bytes:
        return joined(b'{%b,"services":[' % self._success, services, b"]}")

    replicated = looked_up

    def listed(self, services: Sequence[bytes], version: int) -> bytes:
        return joined(b'{%b,"services":[' % self._success, services, b'],"version":%d}' % version)

    def changed(self, changes: Sequence[Change], version: int, epoch_offset_ms: int) -> bytes:
        names = self._names
        delta = {
            service_id: [
                {
                    "instance": instance_fields(change.instance, names),
                    names.change_type: change.type,
                    names.change_time: change.clock_ms + epoch_offset_ms,
                }
                for change in of_service
            ]
            for service_id, of_service in changes_by_service(changes).items()
        }
        return b'{%b,"delta":%b,"version":%d}' % (self._success, orjson.dumps(delta), version)

    def change(self, change: Change, epoch_offset_ms: int) -> bytes:
        names = self._names
        return orjson.dumps(
            {
                "revision": change.revision,
                names.change_type: change.type,
                names.change_time: change.clock_ms + epoch_offset_ms,
                "instance": instance_fields(change.instance, names),
            }
        )

    def nodes(self, members: Sequence[Member]) -> bytes:
        names = self._names
        nodes = [
            {"url": member.url, "zone": {names.region_id: member.region_id, names.zone_id: member.zone_id}}
            for member in members
        ]
        return b'{%b,"nodes":%b}' % (self._success, orjson.dumps(nodes))

    def picked(self, instance: Instance) -> bytes:
        """The answer to a look-up of one instance, which has an envelope of its own."""
        return orjson.dumps({"success": True, "instance": instance_fields(instance, self._names)})

    def not_picked(self, message: str) -> bytes:
        return orjson.dumps({"success": False, "message": message})

    def is_up(self, instance: Instance) -> bool:
        return _instance_status(instance.status) == "up"

    def fragment(self, fields: Mapping[str, object]) -> bytes:
        return orjson.dumps(self._fitted(fields))

    def reported(self, fields: Mapping[str, object]) -> bytes:
        body = self.fragment(fields)
        return b"{%b,%b" % (self._success, body[1:]) if len(body) > 2 else self._written

    def _fitted(self, value: object) -> object:
        """Nulls left out, and names (given in camelCase) spelled as this dialect does."""
        if isinstance(value, Data):
            return {key: self._fitted(item) for key, item in value.items()}
        if isinstance(value, Mapping):
            spelled = snake if self._names is SNAKE_NAMES else str
            return {spelled(key): self._fitted(item) for key, item in value.items() if item is not None}
        return [self._fitted(item) for item in value] if isinstance(value, list) else value

    def _status(self, code: Code, message: str) -> dict[str, object]:
        status = code if code in ("success", "partial_fail") else "fail"
        return {self._names.error_code: _CODES[code], self._names.error_message: message, "status": status}


class Rust(Snake):
    """See ``Dialect``."""

    name: Literal["java", "snake", "rust"] = "rust"

    def __init__(self) -> None:
        super().__init__(CAMEL_NAMES)


def instance_fields(instance: Instance | SentInstance, names: Names = SNAKE_NAMES) -> dict[str, object]:
    fields: dict[str, object] = {
        names.region_id: instance.region_id or "",
        names.zone_id: instance.zone_id or "",
        names.service_id: instance.service_id or "",
        names.instance_id: instance.instance_id or "",
        "ip": instance.ip or "",
        "port": instance.port if 0 <= instance.port <= PORT_MAX else 0,
        "url": instance.url or "",
        "status": _instance_status(instance.status),
    }
    if instance.group_id is not None:
        fields[names.group_id] = instance.group_id
    if instance.machine_name is not None:
        fields[names.machine_name] = instance.machine_name
    if instance.protocol is not None:
        fields["protocol"] = instance.protocol
    if instance.health_check_url is not None:
        fields[names.health_check_url] = instance.health_check_url
    if instance.metadata is not None:
        fields["metadata"] = {key: value or "" for key, value in instance.metadata.items()}
    return fields


def _instance_status(status: str | None) -> str:
    if not status:
        return "up"
    lowered = status.lower()
    return lowered if lowered in _STATUSES else "unknown"


def _key_fields(key: SentKey, names: Names) -> dict[str, object]:
    """As it was sent, in the order in which the earlier server wrote it."""
    fields: dict[str, object] = {names.region_id: key.region_id}
    if key.zone_id is not None:
        fields[names.zone_id] = key.zone_id
    fields[names.service_id] = key.service_id
    if key.group_id is not None:
        fields[names.group_id] = key.group_id
    fields[names.instance_id] = key.instance_id
    return fields
