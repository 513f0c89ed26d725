"""All leases as ``status/leases.json`` lists them: ``java-http.md`` 4.5.

The state knows the lease clock only, which counts while the cluster could accept renewals. Times shown here are that
clock moved by the difference between this node's wall clock and the clock's latest stamp: right for what just happened,
early by the time the cluster stood still for what lies further back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import orjson

from artemis.api.dialects import Data, Dialect
from artemis.api.dialects.java import instance_text
from artemis.api.registrations import is_legacy
from artemis.model import Record
from artemis.registry import Registry

LEASES_AT_ONCE = 500
"""Encoded before other work gets its turn: about 4 ms."""


class Leases(NamedTuple):
    total: int
    by_service: Data
    """Service id -> encoded list of its leases."""


async def report(
    registry: Registry, service_ids: Iterable[str], dialect: Dialect, epoch_offset_ms: int, *, legacy: bool
) -> Leases:
    """The leases of these services, or of all if none is named: those with the ``java_registry`` mark (``legacy``), or
    the others. Services are listed as they stand now; what ends while they are encoded is left out."""
    views = [registry.service(service_id) for service_id in service_ids] or list(registry.services())
    services: dict[str, tuple[Record, ...]] = {view.service_id: view.records for view in views if view is not None}
    rows = _Rows(registry, dialect, epoch_offset_ms)
    found = Data()
    total = waiting = 0
    for service_id, records in services.items():
        encoded: list[bytes] = []
        for record in records:
            row = rows.of(record) if is_legacy(record.instance.metadata) == legacy else None
            if row is not None:
                encoded.append(row)
            waiting += 1
            if waiting >= LEASES_AT_ONCE:
                waiting = 0
                await asyncio.sleep(0)
        if encoded:
            found[service_id] = orjson.Fragment(b"[%b]" % b",".join(encoded))
            total += len(encoded)
    return Leases(total, found)


class _Rows:
    def __init__(self, registry: Registry, dialect: Dialect, epoch_offset_ms: int) -> None:
        self._registry = registry
        self._encode: Callable[[Mapping[str, object]], bytes] = dialect.fragment
        self._offset_ms = epoch_offset_ms

    def of(self, record: Record) -> bytes | None:
        """None if the lease has ended."""
        term = self._registry.lease(record.lease_id)
        if term is None:
            return None
        return self._encode(
            {
                "creationTime": local_time(term.granted_ms + self._offset_ms),
                # It has not ended. The name is spelled as the earlier servers did.
                "evitionTime": local_time(0),
                "instance": instance_text(record.instance),
                "renewalTime": local_time(term.renewed_ms + self._offset_ms),
                "ttl": term.ttl_ms,
            }
        )


def local_time(epoch_ms: int) -> str:
    """``yyyy-MM-dd HH:mm:ss.SSS`` in this machine's zone."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}"


@lru_cache(maxsize=4096)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s).strftime("%Y-%m-%d %H:%M:%S")
