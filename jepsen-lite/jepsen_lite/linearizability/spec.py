"""The sequential specification of the registry: what each log entry does and answers, said as plainly as replay allows.

It shares value types with the registry and no code: one dict per service, one row per lease, and a look at every lease
whenever one may have ended. The registry is compared with it entry by entry, and a recorded log is replayed through it.

It knows no protection against mass eviction (``tests/support/naive_registry.py`` does): what is replayed must end fewer
leases at a time than would be protected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from artemis.commands import (
    Announce,
    Command,
    Condition,
    Configure,
    Entry,
    Proposal,
    Register,
    Renew,
    RequestId,
    Unregister,
)
from artemis.model import Instance, InstanceKey, Member
from artemis.outcomes import Announced, Configured, Conflict, Outcome, Refused, Registered, Renewed, Unregistered

STAMP_ERROR_MS = 200
"""Added to every lease: a stamp may be older than the moment its entry was ordered, by at most this."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """The answer to a proposal. ``executed``: it came about now; not refused, and not remembered from a first copy."""

    outcome: Outcome
    executed: bool


class Row(msgspec.Struct, gc=False):
    """An instance with its lease, which is also the epoch of its registration."""

    key: InstanceKey
    instance: Instance
    lease_id: int
    revision: int
    ttl_ms: int
    ends_at_ms: int


class Specification:
    """The registry after some prefix of its log."""

    def __init__(self, requests_max: int = 100_000, request_window_ms: int = 600_000) -> None:
        self.revision = 0
        self.clock_ms = 0
        self.members: dict[str, Member] = {}
        self._requests_max = requests_max
        self._request_window_ms = request_window_ms
        self._services: dict[str, dict[InstanceKey, Row]] = {}
        self._leases: dict[int, Row] = {}
        self._leases_given = 0
        self._earliest_end_ms: float = float("inf")
        """No lease ends before this. Renewals may have made it too early, never too late."""
        self._sessions: dict[str, tuple[int, int]] = {}
        self._answered: dict[str, tuple[RequestId, int, Outcome]] = {}

    # one entry

    def apply(self, entry: Entry) -> list[Outcome | None]:
        """The outcome of each proposal, None for a copy of one that was there before."""
        self.advance(entry.clock_ms)
        done = [self.propose(proposal) for proposal in entry.proposals]
        self.expire()
        return [None if each is None else each.outcome for each in done]

    def advance(self, clock_ms: int) -> None:
        """The first part of an entry: its clock, by which remembered requests are forgotten."""
        self.clock_ms = max(self.clock_ms, clock_ms)
        while self._answered:
            oldest = next(iter(self._answered))
            if self._answered[oldest][1] + self._request_window_ms >= self.clock_ms:
                break
            del self._answered[oldest]

    def propose(self, proposal: Proposal) -> Done | None:
        """Each proposal of the entry in turn."""
        number = (proposal.incarnation, proposal.seq)
        last = self._sessions.get(proposal.origin)
        if last is not None and proposal.incarnation < last[0]:
            return Done(Refused(self.revision, "superseded"), executed=False)
        if last is not None and number <= last:
            return None
        self._sessions[proposal.origin] = number
        request = proposal.request
        first = self._answered.get(request.id) if request is not None else None
        if first is not None:
            same = first[0] == request
            return Done(first[2] if same else Refused(self.revision, "request-id-reused"), executed=False)
        if proposal.expires_at_ms < self.clock_ms:
            return Done(Refused(self.revision, "expired"), executed=False)
        outcome = self._execute(proposal.command)
        if request is not None:
            self._answered[request.id] = (request, self.clock_ms, outcome)
            if len(self._answered) > self._requests_max:
                del self._answered[next(iter(self._answered))]
        return Done(outcome, executed=True)

    def expire(self) -> None:
        """The last part of an entry: whoever's lease is over, goes."""
        if self._earliest_end_ms > self.clock_ms:
            return
        due = [row for row in self._leases.values() if row.ends_at_ms <= self.clock_ms]
        for row in sorted(due, key=lambda row: (row.ends_at_ms, row.lease_id)):
            self._remove(row)
        self._earliest_end_ms = min((row.ends_at_ms for row in self._leases.values()), default=float("inf"))

    # reads

    def instance_ids(self, service_id: str) -> frozenset[str]:
        """As they were registered; of all regions."""
        rows = self._services.get(service_id.lower(), {}).values()
        return frozenset([row.instance.instance_id for row in rows])

    def find(self, key: InstanceKey) -> Row | None:
        return self._services.get(key.service_id, {}).get(key)

    def rows(self) -> list[Row]:
        """Everything, by age of the lease."""
        return list(self._leases.values())

    # commands

    def _execute(self, command: Command) -> Outcome:
        if isinstance(command, Renew):
            by_id = [self._leases.get(lease_id) for lease_id in command.lease_ids]
            refused = self._unmet(command.conditions, command.keys)
            kept = {conflict.position for conflict in refused}
            by_key = {at: self.find(key) for at, key in enumerate(command.keys) if at not in kept}
            for row in (*by_id, *by_key.values()):
                if row is not None:
                    row.ends_at_ms = self.clock_ms + row.ttl_ms + STAMP_ERROR_MS
                    self._earliest_end_ms = min(self._earliest_end_ms, row.ends_at_ms)
            missing_leases = tuple(at for at, row in enumerate(by_id) if row is None)
            missing_keys = tuple(at for at, row in by_key.items() if row is None)
            return Renewed(self.revision, missing_leases, missing_keys, refused)
        if isinstance(command, Register):
            return self._register(command)
        if isinstance(command, Unregister):
            return self._unregister(command)
        if isinstance(command, Configure):
            return Configured(self.revision)
        assert isinstance(command, Announce)
        self.members[command.member.node_id] = command.member
        return Announced(self.revision)

    def _register(self, command: Register) -> Registered:
        put: list[tuple[int, bool]] = []
        refused: list[Conflict] = []
        for at, item in enumerate(command.items):
            # One by one: an item may name what an earlier one has put there.
            unmet = self._unmet(command.conditions, {at: _key(item.instance)})
            refused += unmet
            put.append((0, False) if unmet else self._put(item.instance, item.ttl_ms))
        leases, created = tuple(lease for lease, _ in put), tuple(new for _, new in put)
        return Registered(self.revision, leases, created, tuple(refused))

    def _unregister(self, command: Unregister) -> Unregistered:
        existed: list[bool] = []
        refused: list[Conflict] = []
        for at, key in enumerate(command.keys):
            row = self.find(key)
            existed.append(row is not None)
            unmet = self._unmet(command.conditions, {at: key})
            refused += unmet
            if not unmet:
                self._remove(row)
        return Unregistered(self.revision, tuple(existed), tuple(refused))

    def _unmet(
        self, conditions: Sequence[Condition], keys: Sequence[InstanceKey] | Mapping[int, InstanceKey]
    ) -> tuple[Conflict, ...]:
        """The positions whose present row is not what was expected of it, and what it is."""
        asked = keys if isinstance(keys, Mapping) else dict(enumerate(keys))
        found = []
        for at, condition in sorted({each.position: each for each in conditions}.items()):
            if at in asked:
                row = self.find(asked[at])
                present = Conflict(at, 0, 0) if row is None else Conflict(at, row.revision, row.lease_id)
                expected = (
                    present.revision if condition.revision is None else condition.revision,
                    present.epoch if condition.epoch is None else condition.epoch,
                )
                if expected != (present.revision, present.epoch):
                    found.append(present)
        return tuple(found)

    def _put(self, instance: Instance, ttl_ms: int) -> tuple[int, bool]:
        key = _key(instance)
        service = self._services.setdefault(key.service_id, {})
        replaced = service.get(key)
        if replaced is not None:
            del self._leases[replaced.lease_id]
        self._leases_given += 1
        self.revision += 1
        ends_at_ms = self.clock_ms + ttl_ms + STAMP_ERROR_MS
        row = Row(key, instance, self._leases_given, self.revision, ttl_ms, ends_at_ms)
        service[key] = self._leases[row.lease_id] = row
        self._earliest_end_ms = min(self._earliest_end_ms, ends_at_ms)
        return row.lease_id, replaced is None

    def _remove(self, row: Row | None) -> None:
        if row is not None:
            self.revision += 1
            del self._leases[row.lease_id]
            del self._services[row.key.service_id][row.key]


def _key(instance: Instance) -> InstanceKey:
    return InstanceKey((instance.region_id or "").lower(), instance.service_id.lower(), instance.instance_id.lower())
