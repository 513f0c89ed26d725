"""The state machine: what every node computes from the log.

Rule 1: ``apply`` is total. It raises for no entry that decodes; a refusal is a value. An exception that leaves it is a
bug of this package and the state may be half changed, so the caller must stop the node instead of applying on.

Rule 2: ``apply`` is deterministic. Time enters as ``entry.clock_ms``, identity as fields of proposals. No order in the
state comes from a set or from hashes: dicts keep the order the log gave them.

Rule 3: decide, then change. A proposal that is refused leaves everything as it was, except that its number is noted.

Who calls: one thread, in log order, each index once. Reads (``registry_state``) are valid between two calls of
``apply`` on the same thread; ``freeze`` makes a copy that another thread may read meanwhile.
"""

from __future__ import annotations

from typing import assert_never

from artemis.changes import ChangeRing
from artemis.commands import (
    Announce,
    Command,
    Condition,
    Configure,
    Entry,
    Proposal,
    Register,
    Renew,
    Unregister,
)
from artemis.lease_counts import LeaseCounts
from artemis.leases import LeaseTable
from artemis.model import Change, ChangeType, Instance, InstanceKey, Record, encode_instance, key_of
from artemis.outcomes import Announced, Configured, Conflict, Outcome, Refused, Registered, Renewed, Unregistered
from artemis.protection import Protection, ProtectionSettings
from artemis.registry_state import RegistryState
from artemis.services import ServiceIndex
from artemis.sessions import RequestWindow, Session
from artemis.state import FrozenState, StateLimits

__all__ = ["FrozenState", "Registry", "StateLimits"]


class Registry(RegistryState):
    """The state machine of one node."""

    __slots__ = ()

    # The log

    def apply(self, index: int, entry: Entry) -> list[Outcome | None]:
        """Apply one entry: its clock, its proposals in order, then the end of every lease whose time has come.

        One outcome per proposal; None for one that was applied before. Renewals come before evictions, so a renewal
        in the entry whose clock reaches the deadline still counts.

        Raises ``RuntimeError``, with nothing changed, if ``index`` is not above ``applied_index``: the caller's bug.
        """
        if index <= self.applied_index:
            raise RuntimeError(f"entry {index} came after entry {self.applied_index} was applied")
        self.applied_index = index
        if entry.clock_ms > self.clock_ms:
            self.clock_ms = entry.clock_ms
            self._requests.forget_before(self.clock_ms)
        outcomes = [self._apply_proposal(proposal) for proposal in entry.proposals]
        if self._protection.active or self._leases.may_be_due(self.clock_ms):
            self._end_leases()
        return outcomes

    def _end_leases(self) -> None:
        """First what protection held long enough or holds no more, then what is due now: to be held, or to end."""
        leases, protection, clock_ms = self._leases, self._protection, self.clock_ms
        for service_id in protection.leave(clock_ms, leases.held.services):
            leases.held.let_go(service_id, clock_ms)
        most = self._limits.evictions_max
        overdue = leases.held.due(clock_ms, most)
        due = leases.take_due(clock_ms, most - len(overdue))
        if due:
            of_services: dict[str, int] = {}
            for _, key in due:
                of_services[key.service_id] = of_services.get(key.service_id, 0) + 1
            protection.judge(of_services, clock_ms)
            ending = [lease_id for lease_id, key in due if not protection.protects(key.service_id)]
            # First those that stay: while one is neither queued nor held, the queue must not be rebuilt.
            for lease_id, key in due:
                if protection.protects(key.service_id):
                    leases.hold(lease_id, protection.settings.hold_ms)
                    of_services.pop(key.service_id, None)
            protection.on_ended(of_services, clock_ms)
            self.lease_stats.held += len(due) - len(ending)
            overdue += ending
        for lease_id in overdue:
            self._evict(lease_id)

    def _evict(self, lease_id: int) -> None:
        deadline_ms = self._leases.deadline_ms(lease_id)
        assert deadline_ms is not None
        self.lease_stats.on_evicted(self.clock_ms - deadline_ms)
        self._remove(self._leases.drop(lease_id))

    def _apply_proposal(self, proposal: Proposal) -> Outcome | None:
        session = self._sessions.get(proposal.origin)
        if session is not None:
            if proposal.incarnation < session.incarnation:
                return Refused(self.revision, "superseded")
            if proposal.incarnation == session.incarnation and proposal.seq <= session.seq:
                return None
        self._sessions[proposal.origin] = Session(proposal.incarnation, proposal.seq)
        request = proposal.request
        if request is not None:
            # Before the time budget: when the first copy was applied and its answer lost, "expired" for a late second
            # copy would tell the client that its request never happened.
            remembered = self._requests.outcome_of(request, self.revision)
            if remembered is not None:
                return remembered
        if self.clock_ms > proposal.expires_at_ms:
            # Not remembered: the same request may come again with a new budget.
            return Refused(self.revision, "expired")
        outcome = self._execute(proposal.command)
        if request is not None:
            self._requests.remember(request, self.clock_ms, outcome)
        return outcome

    def _execute(self, command: Command) -> Outcome:
        match command:
            case Renew():
                return self._renew(command)
            case Register():
                return self._register(command)
            case Unregister():
                return self._unregister(command)
            case Announce():
                self._members[command.member.node_id] = command.member
                return Announced(self.revision)
            case Configure():
                return self._configure(command.protection)
            case _ as never:
                assert_never(never)

    def _configure(self, settings: ProtectionSettings) -> Configured:
        if self._protection.configure(settings):
            for service_id in list(self._leases.held.services):
                self._leases.held.let_go(service_id, self.clock_ms)
        return Configured(self.revision)

    def _register(self, command: Register) -> Registered:
        lease_ids: list[int] = []
        created: list[bool] = []
        refused: list[Conflict] = []
        conditions = {condition.position: condition for condition in command.conditions}
        for position, item in enumerate(command.items):
            instance = item.instance
            key = key_of(instance)
            replaced = self._index.find(key)
            if conditions and not _holds(conditions.get(position), replaced):
                refused.append(_conflict(position, replaced))
                lease_ids.append(0)
                created.append(False)
                continue
            if replaced is not None:
                key = self._leases.drop(replaced.lease_id)  # equal, and one object instead of two to keep
            lease_id = self._next_lease_id
            self._next_lease_id = lease_id + 1
            grant = self._leases.grant(lease_id, key, item.ttl_ms, self.clock_ms)
            encoded = encode_instance(instance)
            revision = self._change("new" if replaced is None else "change", instance, len(encoded))
            self._index.put(key, Record(instance, lease_id, revision, grant), encoded, replaced)
            lease_ids.append(lease_id)
            created.append(replaced is None)
        self.lease_stats.registrations += len(created) - len(refused)
        return Registered(self.revision, tuple(lease_ids), tuple(created), tuple(refused))

    def _renew(self, command: Renew) -> Renewed:
        renew = self._leases.renew
        clock_ms = self.clock_ms
        missing_leases = [
            position for position, lease_id in enumerate(command.lease_ids) if not renew(lease_id, clock_ms)
        ]
        missing_keys: list[int] = []
        refused: list[Conflict] = []
        conditions = {condition.position: condition for condition in command.conditions}
        for position, key in enumerate(command.keys):
            record = self._index.find(key)
            if conditions and not _holds(conditions.get(position), record):
                refused.append(_conflict(position, record))
            elif record is None:
                missing_keys.append(position)
            else:
                renew(record.lease_id, clock_ms)
        asked = len(command.lease_ids) + len(command.keys)
        self.lease_stats.renewals += asked - len(missing_leases) - len(missing_keys) - len(refused)
        return Renewed(self.revision, tuple(missing_leases), tuple(missing_keys), tuple(refused))

    def _unregister(self, command: Unregister) -> Unregistered:
        existed: list[bool] = []
        refused: list[Conflict] = []
        conditions = {condition.position: condition for condition in command.conditions}
        for position, key in enumerate(command.keys):
            record = self._index.find(key)
            existed.append(record is not None)
            if conditions and not _holds(conditions.get(position), record):
                refused.append(_conflict(position, record))
            elif record is not None:
                self._leases.drop(record.lease_id)
                self._remove(key)
        return Unregistered(self.revision, tuple(existed), tuple(refused))

    def _remove(self, key: InstanceKey) -> None:
        """Take out the instance, which exists and whose lease is gone."""
        record = self._index.find(key)
        assert record is not None
        encoded = encode_instance(record.instance)
        self._index.remove(key, record, encoded, self._change("delete", record.instance, len(encoded)))

    def _change(self, change_type: ChangeType, instance: Instance, instance_bytes: int) -> int:
        """Draw the next revision and put the change into the ring."""
        self.revision += 1
        self._ring.append(Change(self.revision, change_type, instance, self.clock_ms), instance_bytes)
        return self.revision

    # Snapshots

    def freeze(self) -> FrozenState:
        """The whole state as it is now, which later calls of ``apply`` do not touch. Copies the deadlines and the
        remembered requests, and no records: a service is copied by the first write that changes it afterwards."""
        return FrozenState(
            limits=self._limits,
            applied_index=self.applied_index,
            revision=self.revision,
            clock_ms=self.clock_ms,
            next_lease_id=self._next_lease_id,
            digest=self.digest,
            services=self._index.freeze(),
            deadlines_ms=self._leases.deadlines(),
            held_until_ms=self._leases.held.copy(),
            protection=self._protection.state(),
            changes_oldest=self._ring.oldest,
            changes=self._ring.copy(),
            sessions=self._sessions.copy(),
            members=self._members.copy(),
            requests=self._requests.copy(),
        )

    @classmethod
    def thaw(cls, state: FrozenState) -> Registry:
        """A registry in this state. It takes over the containers of ``state``, which must not be used again.

        The digest is computed anew from the records, not taken from ``state``.
        """
        limits = state.limits
        registry = cls(limits)
        registry.applied_index = state.applied_index
        registry.revision = state.revision
        registry.clock_ms = state.clock_ms
        registry._next_lease_id = state.next_lease_id
        registry._index = ServiceIndex.thaw(state.services)
        grants = {record.lease_id: record.grant for service in state.services for record in service.records}
        registry._leases = LeaseTable(grants, state.deadlines_ms, state.held_until_ms)
        registry._counts = LeaseCounts(registry._index, registry._leases)
        registry._protection = Protection(registry._counts, state.protection)
        registry._ring = ChangeRing(limits.changes_max, limits.change_bytes_max, state.changes_oldest, state.changes)
        registry._sessions = state.sessions
        registry._members = state.members
        registry._requests = RequestWindow(limits.requests_max, limits.request_window_ms, state.requests.items())
        return registry

    def __eq__(self, other: object) -> bool:
        """Equal in everything that later entries and readers can see. Costs a copy of both: for tests and checks."""
        if not isinstance(other, Registry):
            return NotImplemented
        return self._ordered() == other._ordered()

    __hash__ = None  # type: ignore[assignment]

    def _ordered(self) -> tuple[object, ...]:
        """The frozen state and the orders of those dicts that have a defined one: ``==`` of dicts ignores it."""
        state = self.freeze()
        return (*state, list(state.members), list(state.requests))


def _holds(condition: Condition | None, record: Record | None) -> bool:
    if condition is None:
        return True
    revision, epoch = (0, 0) if record is None else (record.revision, record.lease_id)
    return condition.revision in (None, revision) and condition.epoch in (None, epoch)


def _conflict(position: int, record: Record | None) -> Conflict:
    return Conflict(position, 0, 0) if record is None else Conflict(position, record.revision, record.lease_id)
