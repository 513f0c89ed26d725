"""Random logs over a small world, so that keys, lease ids, numbers and request ids meet often."""

from __future__ import annotations

from hypothesis import strategies as st

from artemis.commands import (
    Announce,
    Command,
    Condition,
    Configure,
    Entry,
    Proposal,
    Register,
    Registration,
    Renew,
    RequestId,
    Unregister,
)
from artemis.model import Instance, InstanceKey, Member
from artemis.protection import ProtectionSettings
from tests.support.replica import through_bytes

# Values come from small pools: one draw each, where building them field by field would cost most of a test's time.
_INSTANCES = [
    Instance(service_id=service_id, instance_id=instance_id, region_id=region_id, port=port, metadata=metadata)
    for service_id in ("orders", "Orders", "stock")
    for instance_id in ("1", "a", "A")
    for region_id in ("lab", "lab", "LAB", None)
    for port, metadata in ((0, None), (1, {"b": "ü", "a": None}))
]
_KEYS = [
    InstanceKey(region_id, service_id, instance_id)
    for region_id in ("lab", "lab", "")
    for service_id in ("orders", "orders", "stock")
    for instance_id in ("1", "a")
]
_TTLS_MS = [3_000, 3_000, 3_000, 800, 1_500, 300, 20_000, 1, 0, -1, 2**63 - 1, -(2**63)]
_REQUESTS = [RequestId(name, fingerprint) for name in "xyz" for fingerprint in (b"fingrpr1", b"fingrpr1", b"fingrpr2")]
_MEMBERS = [
    Member(node_id=node_id, url=url, region_id="lab", zone_id="z")
    for node_id in ("n1", "n2")
    for url in ("http://a", "http://b")
]

# Revisions and epochs are small numbers and often equal: a condition on the wrong one of them must show.
_conditions = st.lists(
    st.builds(
        Condition,
        st.sampled_from([0, 0, 0, 1, 2, 9]),
        st.none() | st.integers(0, 8) | st.just(0),
        st.none() | st.integers(0, 8),
    ),
    max_size=2,
).map(tuple)
_mostly_none = st.one_of(st.just(()), st.just(()), _conditions)
_PROTECTIONS = [
    ProtectionSettings(),
    ProtectionSettings(enabled=False),
    ProtectionSettings(leases_min=1, share_percent=1, window_ms=1_000, hold_ms=4_000),
    ProtectionSettings(leases_min=2, share_percent=20, window_ms=2_000, hold_ms=2_500),
    ProtectionSettings(leases_min=2, share_percent=60, window_ms=5_000, hold_ms=10_000),
]

_registrations = st.builds(Registration, st.sampled_from(_INSTANCES), st.sampled_from(_TTLS_MS))
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Register, st.lists(_registrations, min_size=1, max_size=4).map(tuple), _mostly_none),
    st.builds(Register, st.lists(_registrations, min_size=1, max_size=4).map(tuple), _mostly_none),
    st.lists(st.integers(1, 12), min_size=1, max_size=3).map(lambda lease_ids: Renew(lease_ids=tuple(lease_ids))),
    st.builds(
        Renew,
        keys=st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3).map(tuple),
        conditions=_mostly_none,
    ),
    st.builds(Unregister, st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3).map(tuple), _mostly_none),
    st.sampled_from(_MEMBERS).map(Announce) | st.sampled_from(_PROTECTIONS).map(Configure),
)
# Mostly a fresh number of the present start; sometimes one that was used, left out, or of another start.
_numbers = st.sampled_from([(0, 1)] * 12 + [(0, 3), (0, 0), (0, -2), (1, 1), (-1, 1)])
_requests = st.sampled_from([None] * 12 + _REQUESTS)
_budgets_ms = st.sampled_from([5_000] * 8 + [0, -1])


@st.composite
def logs(draw: st.DrawFn, size_max: int = 14) -> list[tuple[int, Entry]]:
    """(index, entry) pairs. Indices jump now and then, stamps go back now and then."""
    found: list[tuple[int, Entry]] = []
    index, clock_ms, incarnation, seq = 1, 0, 1, 1
    first = Proposal("n1", 1, 1, None, 0, Configure(draw(st.sampled_from(_PROTECTIONS))))
    found.append((index, through_bytes(clock_ms, first)))
    for _ in range(draw(st.integers(0, size_max) | st.just(size_max))):
        index += draw(st.sampled_from([1, 1, 5]))
        clock_ms += draw(st.sampled_from([0, 1, 500, 1_000, 3_000, -100]))
        proposals = []
        for command in draw(st.lists(commands, max_size=3)):
            start, number = draw(_numbers)
            incarnation, seq = incarnation + max(start, 0), seq + number
            expires_at_ms = clock_ms + draw(_budgets_ms)
            proposals.append(Proposal("n1", incarnation + min(start, 0), seq, draw(_requests), expires_at_ms, command))
        found.append((index, through_bytes(clock_ms, *proposals)))
    return found
