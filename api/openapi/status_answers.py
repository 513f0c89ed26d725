"""The answers of the status plane as types (``java-http.md`` 4.5)."""

from __future__ import annotations

from typing import Literal

import msgspec

from artemis.api.openapi.answers import JavaNode, JavaStatus, Millis, SnakeStatus, SnakeZone, _Camel, _Snake

NodeState = Literal["starting", "up", "down", "unknown"]
Texts = dict[str, str]
Counts = dict[str, int]


class JavaNodeStatus(_Camel):
    node: JavaNode
    status: NodeState
    can_service_registry: bool | None
    can_service_discovery: bool | None
    allow_registry_from_other_zone: bool | None
    allow_discovery_from_other_zone: bool | None


class JavaNodeStatusAnswer(_Camel):
    response_status: JavaStatus
    node_status: JavaNodeStatus | None


class JavaClusterStatus(_Camel):
    response_status: JavaStatus
    node_count: int
    nodes_status: list[JavaNodeStatus] | None


class JavaLease(_Camel):
    """Times are ``yyyy-MM-dd HH:mm:ss.SSS`` in the node's time zone; a lease that has not ended shows the epoch."""

    instance: str
    creation_time: str
    renewal_time: str
    evition_time: str
    ttl: int


class JavaLeases(_Camel):
    response_status: JavaStatus
    is_safe: bool
    is_safe_check_enabled: bool
    lease_count: int
    lease_update_count_last_time_window: int
    lease_update_max_count: int
    lease_update_max_count_last_update_time: Millis
    leases: dict[str, list[JavaLease]] | None


class JavaConfig(_Camel):
    response_status: JavaStatus
    properties: Texts | None
    sources: Counts | None


class JavaDeployment(_Camel):
    response_status: JavaStatus
    app_id: str | None
    ip: str | None
    machine_name: str | None
    path: str | None
    port: int
    protocol: str | None
    properties: Texts | None
    region_id: str | None
    zone_id: str | None
    sources: Counts | None


class SnakeStatusNode(_Snake):
    node_id: str
    url: str
    region_id: str
    zone_id: str
    zone: SnakeZone


class SnakeNodeStatus(_Snake):
    node: SnakeStatusNode
    status: NodeState
    leader: bool | msgspec.UnsetType = msgspec.UNSET
    """Absent while this node knows no leader."""
    can_service_registry: bool | msgspec.UnsetType = msgspec.UNSET
    can_service_discovery: bool | msgspec.UnsetType = msgspec.UNSET
    allow_registry_from_other_zone: bool | msgspec.UnsetType = msgspec.UNSET
    allow_discovery_from_other_zone: bool | msgspec.UnsetType = msgspec.UNSET


class SnakeNodeStatusAnswer(_Snake):
    response_status: SnakeStatus
    node_status: SnakeNodeStatus | msgspec.UnsetType = msgspec.UNSET


class SnakeClusterStatus(_Snake):
    response_status: SnakeStatus
    node_count: int | msgspec.UnsetType = msgspec.UNSET
    nodes_status: list[SnakeNodeStatus] | msgspec.UnsetType = msgspec.UNSET


class SnakeLease(_Snake):
    """Times as in ``JavaLease``."""

    instance: str
    creation_time: str
    renewal_time: str
    evition_time: str
    ttl: int


class SnakeLeases(_Snake):
    response_status: SnakeStatus
    is_safe: bool | msgspec.UnsetType = msgspec.UNSET
    is_safe_check_enabled: bool | msgspec.UnsetType = msgspec.UNSET
    lease_count: int | msgspec.UnsetType = msgspec.UNSET
    lease_update_count_last_time_window: int | msgspec.UnsetType = msgspec.UNSET
    lease_update_max_count: int | msgspec.UnsetType = msgspec.UNSET
    lease_update_max_count_last_update_time: Millis | msgspec.UnsetType = msgspec.UNSET
    leases_status: dict[str, list[SnakeLease]] | msgspec.UnsetType = msgspec.UNSET


class SnakeConfig(_Snake):
    response_status: SnakeStatus
    properties: Texts | msgspec.UnsetType = msgspec.UNSET
    sources: Counts | msgspec.UnsetType = msgspec.UNSET


class SnakeDeployment(_Snake):
    response_status: SnakeStatus
    app_id: str | msgspec.UnsetType = msgspec.UNSET
    ip: str | msgspec.UnsetType = msgspec.UNSET
    machine_name: str | msgspec.UnsetType = msgspec.UNSET
    path: str | msgspec.UnsetType = msgspec.UNSET
    port: int | msgspec.UnsetType = msgspec.UNSET
    protocol: str | msgspec.UnsetType = msgspec.UNSET
    properties: Texts | msgspec.UnsetType = msgspec.UNSET
    region_id: str | msgspec.UnsetType = msgspec.UNSET
    zone_id: str | msgspec.UnsetType = msgspec.UNSET
    sources: Counts | msgspec.UnsetType = msgspec.UNSET
