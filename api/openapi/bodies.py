"""Request bodies that are only read leniently, as types: beside ``dialects.shapes`` for the API document."""

from __future__ import annotations

from typing import Annotated

import msgspec

from artemis.api.dialects.bodies import INT64_MAX, INT64_MIN
from artemis.api.dialects.shapes import CamelConfig, SnakeConfig

Int64 = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]


class SnakePlace(msgspec.Struct):
    region_id: str | None = None
    zone_id: str | None = None


class CamelPlace(msgspec.Struct, rename="camel"):
    region_id: str | None = None
    zone_id: str | None = None


class SnakeVersion(msgspec.Struct):
    region_id: str | None = None
    zone_id: str | None = None
    version: Int64 = 0


class CamelVersion(msgspec.Struct, rename="camel"):
    region_id: str | None = None
    zone_id: str | None = None
    version: Int64 = 0


class SnakeLeases(msgspec.Struct):
    service_ids: list[str] | None = None


class CamelLeases(msgspec.Struct, rename="camel"):
    service_ids: list[str] | None = None


class SnakePick(msgspec.Struct):
    """One config: one instance is picked. Only where clients of the earlier Rust server ask."""

    discovery_config: SnakeConfig
    strategy: str | None = None


class CamelPick(msgspec.Struct, rename="camel"):
    """See ``SnakePick``."""

    discovery_config: CamelConfig
    strategy: str | None = None
