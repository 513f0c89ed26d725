"""The exact request shapes of well-formed clients, in both spellings.

Decoding against a closed shape is several times cheaper than reading leniently, and a success proves which spelling
was used: every shape needs at least one field whose name differs between the two. Whatever does not fit (another
case, an unknown field, a number sent as text) is read again by ``reading``.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
Port = Annotated[int, msgspec.Meta(ge=INT32_MIN, le=INT32_MAX)]
Expected = Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] | None
"""A revision or epoch; 0 stands for an instance that does not exist."""
Text = str | None
TextMap = dict[str, str | None] | None


class SnakeInstance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    service_id: Text
    instance_id: Text
    region_id: Text = None
    zone_id: Text = None
    group_id: Text = None
    machine_name: Text = None
    ip: Text = None
    port: Port = 0
    protocol: Text = None
    url: Text = None
    health_check_url: Text = None
    status: Text = None
    metadata: TextMap = None
    lease_ttl_ms: int | None = None
    expected_revision: Expected = None
    expected_epoch: Expected = None


class CamelInstance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", gc=False):
    service_id: Text
    instance_id: Text
    region_id: Text = None
    zone_id: Text = None
    group_id: Text = None
    machine_name: Text = None
    ip: Text = None
    port: Port = 0
    protocol: Text = None
    url: Text = None
    health_check_url: Text = None
    status: Text = None
    metadata: TextMap = None
    lease_ttl_ms: int | None = None
    expected_revision: Expected = None
    expected_epoch: Expected = None


class SnakeKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    region_id: str
    service_id: str
    instance_id: str
    zone_id: Text = None
    group_id: Text = None
    expected_revision: Expected = None
    expected_epoch: Expected = None


class CamelKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", gc=False):
    region_id: str
    service_id: str
    instance_id: str
    zone_id: Text = None
    group_id: Text = None
    expected_revision: Expected = None
    expected_epoch: Expected = None


class SnakeConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    service_id: Text
    region_id: Text = None
    zone_id: Text = None
    discovery_data: TextMap = None


class CamelConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", gc=False):
    service_id: Text
    region_id: Text = None
    zone_id: Text = None
    discovery_data: TextMap = None


class SnakeInstances(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    instances: list[SnakeInstance]


class CamelInstances(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    instances: list[CamelInstance]


class SnakeKeys(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    instance_keys: list[SnakeKey]


class CamelKeys(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    instance_keys: list[CamelKey]


class SnakeLookup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    discovery_configs: list[SnakeConfig]
    region_id: Text = None
    zone_id: Text = None


class CamelLookup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", gc=False):
    discovery_configs: list[CamelConfig]
    region_id: Text = None
    zone_id: Text = None


class SnakeService(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    discovery_config: SnakeConfig
    region_id: Text = None
    zone_id: Text = None


class CamelService(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel", gc=False):
    discovery_config: CamelConfig
    region_id: Text = None
    zone_id: Text = None


SentInstance = SnakeInstance | CamelInstance
SentKey = SnakeKey | CamelKey
