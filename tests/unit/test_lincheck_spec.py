"""The specification and the registry give the same answers to any log, and are in the same state afterwards."""

from __future__ import annotations

import msgspec
from hypothesis import given

from artemis.commands import Configure, Entry
from artemis.model import InstanceKey
from artemis.protection import ProtectionSettings
from artemis.registry import Registry, StateLimits
from jepsen_lite.linearizability.spec import Specification
from tests.support.histories import logs

REQUESTS_MAX, REQUEST_WINDOW_MS = 3, 2_000
"""Small, so that short logs go beyond them."""


def unprotected(entry: Entry) -> Entry:
    """The entry with all protection switched off: the specification knows none."""
    off = Configure(ProtectionSettings(enabled=False))
    proposals = [
        msgspec.structs.replace(proposal, command=off) if isinstance(proposal.command, Configure) else proposal
        for proposal in entry.proposals
    ]
    return Entry(entry.clock_ms, tuple(proposals))


@given(logs())
def test_the_registry_does_what_the_specification_says(log: list[tuple[int, Entry]]) -> None:
    registry = Registry(StateLimits(requests_max=REQUESTS_MAX, request_window_ms=REQUEST_WINDOW_MS))
    spec = Specification(REQUESTS_MAX, REQUEST_WINDOW_MS)
    for index, entry in [(index, unprotected(entry)) for index, entry in log]:
        assert spec.apply(entry) == registry.apply(index, entry)
        assert (spec.revision, spec.clock_ms) == (registry.revision, registry.clock_ms)
        rows = spec.rows()
        assert len(rows) == registry.instance_count
        for row in rows:
            record = registry.find(row.key)
            assert record is not None
            assert (record.instance, record.lease_id, record.revision) == (row.instance, row.lease_id, row.revision)
        for service in ("orders", "Stock"):
            view = registry.service(service)
            seen = frozenset() if view is None else frozenset(record.instance.instance_id for record in view.records)
            assert spec.instance_ids(service) == seen
    assert spec.members == dict(registry.members)


def test_what_is_not_there_is_not_found() -> None:
    assert Specification().find(InstanceKey("", "orders", "1")) is None
    assert Specification().instance_ids("orders") == frozenset()
