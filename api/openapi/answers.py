"""The answers as types: what the dialects write, for the API document.

The handlers build their JSON directly, because an answer of look-ups is joined from cached fragments. These types say
what comes out, field by field and with nothing left open (``forbid_unknown_fields``); the contract tests hold every
answer against them. ``Java…`` are the answers in camelCase with nulls (``java-http.md`` 3); the others are those of
the earlier Rust server (``rust-http.md`` 1), spelled in snake_case here and in camelCase by ``schemas``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Version = Annotated[int, msgspec.Meta(ge=0, description="The revision of the registry that the answer shows.")]
TextMap = dict[str, str | None]
ChangeKind = Literal["new", "change", "delete", "reload"]
Millis = Annotated[int, msgspec.Meta(description="Milliseconds since 1970-01-01 UTC.")]

JavaCode = Literal[
    "success",
    "partial_fail",
    "bad-request",
    "no-permission",
    "data-not-found",
    "internal-service-error",
    "service-unavailable",
    "rate-limited",
    "condition-failed",
    "request-id-reused",
]
RustCode = Literal["success", "bad-request", "service-unavailable", "rate-limited", "internal-error"]
Revision = Annotated[int, msgspec.Meta(ge=0)]
Shown = Annotated[
    int | msgspec.UnsetType, msgspec.Meta(description="Only in look-ups with `x-artemis-instance-revisions`.")
]
Current = Annotated[
    int | msgspec.UnsetType, msgspec.Meta(description="Only where a condition did not hold: what is there. 0: nothing.")
]
Status = Literal["success", "partial_fail", "fail"]
InstanceStatus = Literal["starting", "up", "down", "unhealthy", "unknown"]


class _Camel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of the Java answers."""


class _Snake(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the others. A field with a default is left out of the answer when it has none."""


class JavaStatus(_Camel):
    status: Status
    error_code: JavaCode
    message: str | None
    error_message: str | msgspec.UnsetType = msgspec.UNSET
    """Only in answers to requests that named instances by key."""


class JavaInstance(_Camel):
    service_id: str
    instance_id: str
    region_id: str | None
    zone_id: str | None
    group_id: str | None
    machine_name: str | None
    ip: str | None
    port: int
    protocol: str | None
    url: str | None
    health_check_url: str | None
    status: str | None
    metadata: TextMap | None
    revision: Shown = msgspec.UNSET
    lease_epoch: Shown = msgspec.UNSET


class JavaSentInstance(_Camel):
    """An instance as it was sent: also its ids may be missing."""

    service_id: str | None
    instance_id: str | None
    region_id: str | None
    zone_id: str | None
    group_id: str | None
    machine_name: str | None
    ip: str | None
    port: int
    protocol: str | None
    url: str | None
    health_check_url: str | None
    status: str | None
    metadata: TextMap | None


class JavaKey(_Camel):
    region_id: str
    service_id: str
    instance_id: str
    zone_id: str | None
    group_id: str | None
    error_code: JavaCode | msgspec.UnsetType = msgspec.UNSET
    error_message: str | msgspec.UnsetType = msgspec.UNSET
    current_revision: Current = msgspec.UNSET
    current_epoch: Current = msgspec.UNSET


class JavaFailedInstance(_Camel):
    instance: JavaSentInstance
    error_code: JavaCode
    error_message: str
    current_revision: Current = msgspec.UNSET
    current_epoch: Current = msgspec.UNSET


class JavaWritten(_Camel):
    response_status: JavaStatus
    failed_instances: list[JavaFailedInstance] | None
    failed_instance_keys: list[JavaKey] | msgspec.UnsetType = msgspec.UNSET


class JavaService(_Camel):
    service_id: str
    metadata: TextMap | None
    instances: list[JavaInstance] | None
    logic_instances: list[JavaInstance] | None
    route_rules: None


class JavaLookup(_Camel):
    response_status: JavaStatus
    services: list[JavaService] | None


class JavaServiceAnswer(_Camel):
    response_status: JavaStatus
    service: JavaService | None


class JavaServices(_Camel):
    response_status: JavaStatus
    services: list[JavaService] | None
    version: Version


class JavaReplicatedServices(_Camel):
    response_status: JavaStatus
    services: list[JavaService] | None


class JavaChange(_Camel):
    instance: JavaInstance
    change_type: ChangeKind
    change_time: Millis


class JavaDelta(_Camel):
    response_status: JavaStatus
    delta: dict[str, list[JavaChange]] | None
    version: Version


class JavaZone(_Camel):
    region_id: str
    zone_id: str
    metadata: TextMap | None


class JavaNode(_Camel):
    url: str
    zone: JavaZone


class JavaNodes(_Camel):
    response_status: JavaStatus
    nodes: list[JavaNode] | None


class JavaWatchedChange(_Camel):
    revision: Revision
    change_type: ChangeKind
    change_time: Millis
    instance: JavaInstance


class JavaWatch(_Camel):
    """``changes`` and the revision to go on from, or ``compacted`` with the oldest revision that still works."""

    response_status: JavaStatus
    changes: list[JavaWatchedChange] | msgspec.UnsetType | None = msgspec.UNSET
    revision: Revision | msgspec.UnsetType = msgspec.UNSET
    compacted: bool | msgspec.UnsetType = msgspec.UNSET
    oldest: Revision | msgspec.UnsetType = msgspec.UNSET


class JavaConnections(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Open WebSockets, as texts."""

    registry: str
    discovery: str


class SnakeStatus(_Snake):
    status: Status
    error_code: RustCode
    error_message: str | msgspec.UnsetType = msgspec.UNSET


class SnakeInstance(_Snake):
    region_id: str
    zone_id: str
    service_id: str
    instance_id: str
    ip: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    url: str
    status: InstanceStatus
    group_id: str | msgspec.UnsetType = msgspec.UNSET
    machine_name: str | msgspec.UnsetType = msgspec.UNSET
    protocol: str | msgspec.UnsetType = msgspec.UNSET
    health_check_url: str | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    revision: Shown = msgspec.UNSET
    lease_epoch: Shown = msgspec.UNSET


class SnakeFailedInstance(SnakeInstance, kw_only=True):
    """The instance with the reason beside its fields."""

    error_code: str
    error_message: str
    current_revision: Current = msgspec.UNSET
    current_epoch: Current = msgspec.UNSET


class SnakeKey(_Snake):
    region_id: str
    service_id: str
    instance_id: str
    zone_id: str | msgspec.UnsetType = msgspec.UNSET
    group_id: str | msgspec.UnsetType = msgspec.UNSET
    error_code: str | msgspec.UnsetType = msgspec.UNSET
    error_message: str | msgspec.UnsetType = msgspec.UNSET
    current_revision: Current = msgspec.UNSET
    current_epoch: Current = msgspec.UNSET


class SnakeWritten(_Snake):
    response_status: SnakeStatus
    failed_instances: list[SnakeFailedInstance] | msgspec.UnsetType = msgspec.UNSET
    failed_instance_keys: list[SnakeKey] | msgspec.UnsetType = msgspec.UNSET


class SnakeService(_Snake):
    service_id: str
    instances: list[SnakeInstance]


class SnakeServiceAnswer(_Snake):
    response_status: SnakeStatus
    service: SnakeService | msgspec.UnsetType = msgspec.UNSET


class SnakeLookup(_Snake):
    response_status: SnakeStatus
    services: list[SnakeService] | msgspec.UnsetType = msgspec.UNSET


class SnakeReplicatedServices(_Snake):
    response_status: SnakeStatus
    services: list[SnakeService] | msgspec.UnsetType = msgspec.UNSET


class SnakePicked(_Snake):
    """The answer to a look-up with one config, which picks one instance."""

    success: bool
    instance: SnakeInstance | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET


class SnakeServices(_Snake):
    response_status: SnakeStatus
    services: list[SnakeService] | msgspec.UnsetType = msgspec.UNSET
    version: Version | msgspec.UnsetType = msgspec.UNSET


class SnakeChange(_Snake):
    instance: SnakeInstance
    change_type: ChangeKind
    change_time: Millis


class SnakeDelta(_Snake):
    response_status: SnakeStatus
    version: Version
    delta: dict[str, list[SnakeChange]] | msgspec.UnsetType = msgspec.UNSET


class SnakeZone(_Snake):
    region_id: str
    zone_id: str


class SnakeNode(_Snake):
    url: str
    zone: SnakeZone


class SnakeNodes(_Snake):
    response_status: SnakeStatus
    nodes: list[SnakeNode] | msgspec.UnsetType = msgspec.UNSET


class SnakeWatchedChange(_Snake):
    revision: Revision
    change_type: ChangeKind
    change_time: Millis
    instance: SnakeInstance


class SnakeWatch(_Snake):
    """``changes`` and the revision to go on from, or ``compacted`` with the oldest revision that still works."""

    response_status: SnakeStatus
    changes: list[SnakeWatchedChange] | msgspec.UnsetType = msgspec.UNSET
    revision: Revision | msgspec.UnsetType = msgspec.UNSET
    compacted: bool | msgspec.UnsetType = msgspec.UNSET
    oldest: Revision | msgspec.UnsetType = msgspec.UNSET


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What never reached the application: unreadable, not allowed here, or not found."""

    timestamp: Millis
    status: int
    error: str
    message: str
    path: str
