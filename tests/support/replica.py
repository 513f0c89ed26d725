"""A registry behind its log: every entry travels as bytes, as it does between nodes."""

from __future__ import annotations

from collections.abc import Iterable

from artemis import snapshot
from artemis.commands import (
    Command,
    Condition,
    Entry,
    Proposal,
    Register,
    Registration,
    Renew,
    RequestId,
    Unregister,
    decode_entry,
    encode_entry,
    encode_proposal,
)
from artemis.model import Instance, InstanceKey, key_of
from artemis.outcomes import Outcome, Registered
from artemis.registry import Registry, StateLimits

NO_LIMIT_MS = 2**62
TTL_MS = 20_000


def instance(service_id: str = "orders", instance_id: str = "i1", **fields: object) -> Instance:
    values: dict[str, object] = {"region_id": "lab", "zone_id": "zone1", "url": f"http://{instance_id}", "port": 8080}
    return Instance(service_id=service_id, instance_id=instance_id, **(values | fields))  # type: ignore[arg-type]


def register(*instances: Instance, ttl_ms: int = TTL_MS, conditions: Iterable[Condition] = ()) -> Register:
    return Register(tuple(Registration(each, ttl_ms) for each in instances), tuple(conditions))


def unregister(*instances: Instance) -> Unregister:
    return Unregister(tuple(map(key_of, instances)))


def renew_keys(*keys: InstanceKey) -> Renew:
    return Renew(keys=keys)


def through_bytes(clock_ms: int, *proposals: Proposal) -> Entry:
    return decode_entry(encode_entry(clock_ms, [encode_proposal(proposal) for proposal in proposals]))


def frozen_bytes(registry: Registry) -> bytes:
    return b"".join(snapshot.encode(snapshot.freeze(registry)))


class Replica:
    """Numbers proposals and entries, keeps the clock where the test left it, and hands outcomes back."""

    def __init__(self, limits: StateLimits | None = None) -> None:
        self.registry = Registry(limits)
        self.clock_ms = 0
        self._seq = 0

    def propose(
        self,
        command: Command,
        *,
        request: RequestId | None = None,
        expires_at_ms: int = NO_LIMIT_MS,
        origin: str = "n1",
        incarnation: int = 1,
        seq: int | None = None,
    ) -> Outcome | None:
        """One entry with this one proposal, at the present clock."""
        if seq is None:
            self._seq += 1
            seq = self._seq
        proposal = Proposal(origin, incarnation, seq, request, expires_at_ms, command)
        return self.entry(proposal)[0]

    def entry(self, *proposals: Proposal) -> list[Outcome | None]:
        return self.registry.apply(self.registry.applied_index + 1, through_bytes(self.clock_ms, *proposals))

    def together(self, *commands: Command) -> list[Outcome | None]:
        """One entry with a proposal for each command."""
        proposals = []
        for command in commands:
            self._seq += 1
            proposals.append(Proposal("n1", 1, self._seq, None, NO_LIMIT_MS, command))
        return self.entry(*proposals)

    def step(self, clock_ms: int) -> None:
        """A clock step: an entry without proposals."""
        self.clock_ms = clock_ms
        self.entry()

    def register(self, *instances: Instance, ttl_ms: int = TTL_MS) -> tuple[int, ...]:
        """Their lease ids."""
        outcome = self.propose(register(*instances, ttl_ms=ttl_ms))
        assert isinstance(outcome, Registered)
        return outcome.lease_ids
