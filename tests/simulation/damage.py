"""Faults of memory: a node's applied state is changed behind the back of the program, as a flipped bit would do it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from artemis.model import InstanceKey, Record
from artemis.registry import Registry
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import ObservedEngine

Damage = Callable[[Registry], None]


def flip_a_bit_of_a_record(registry: Registry) -> None:
    """The record changes where it lies; what was counted when it was stored stays."""
    by_key, key = _some_record(registry)
    record = by_key[key]
    flipped = msgspec.structs.replace(record.instance, port=record.instance.port ^ 4)
    by_key[key] = msgspec.structs.replace(record, instance=flipped)


def flip_a_bit_of_the_digest(registry: Registry) -> None:
    registry._index._digest ^= 1 << 17


def flip_a_bit_of_the_revision(registry: Registry) -> None:
    registry.revision ^= 1 << 6


def forget_a_session(registry: Registry) -> None:
    """What an origin proposed could be applied twice."""
    registry._sessions.pop(next(iter(registry._sessions)))


DAMAGES: dict[str, Damage] = {
    "record": flip_a_bit_of_a_record,
    "digest": flip_a_bit_of_the_digest,
    "revision": flip_a_bit_of_the_revision,
    "session": forget_a_session,
}


def do(cluster: Cluster, node: str, damage: Damage) -> ObservedEngine:
    """Damage the state of ``node`` and tell the invariants, which would find it at once."""
    engine = cluster.engine(node)
    assert engine is not None
    cluster.watch.damaged.add(node)
    cluster.world.note(f"the state of {node} is damaged")
    damage(engine.registry)
    return engine


def _some_record(registry: Registry) -> tuple[dict[InstanceKey, Record], InstanceKey]:
    by_key = next(iter(registry.services()))._by_key
    return by_key, next(iter(by_key))
