"""The registry's specification, written to be read: lists, loops and no index, no queue, no ring.

It shares value types with the real one and no code. Every operation looks at everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
from artemis.model import Change, ChangeType, Instance, InstanceKey, Member
from artemis.outcomes import Announced, Configured, Conflict, Outcome, Refused, Registered, Renewed, Unregistered
from artemis.protection import ProtectionSettings

STAMP_ERROR_MS = 200
LOOK_MS = 1_000
REQUEST_WINDOW_MS = 600_000


@dataclass
class Row:
    instance: Instance
    lease_id: int
    revision: int
    ttl_ms: int
    renewed_at_ms: int
    held_until_ms: int | None = None

    @property
    def key(self) -> InstanceKey:
        parts = (self.instance.region_id, self.instance.service_id, self.instance.instance_id)
        return InstanceKey(*((part or "").lower() for part in parts))

    @property
    def ends_at_ms(self) -> int:
        return self.renewed_at_ms + self.ttl_ms + STAMP_ERROR_MS


@dataclass
class NaiveRegistry:
    clock_ms: int = 0
    revision: int = 0
    lease_ids_given: int = 0
    rows: list[Row] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    seen: list[Proposal] = field(default_factory=list)
    answered: list[tuple[RequestId, int, Outcome]] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    evictions_max: int = 5_000
    settings: ProtectionSettings = field(default_factory=ProtectionSettings)
    lost: list[tuple[int, str]] = field(default_factory=list)
    """(when, service) of each lease that ended at its deadline."""
    protected: dict[str | None, tuple[int, int | None]] = field(default_factory=dict)
    """By service, None being everything: since when, and since when it has been calm."""
    looked_at_ms: int = 0

    def apply(self, entry: Entry) -> list[Outcome | None]:
        self.clock_ms = max(self.clock_ms, entry.clock_ms)
        self.answered = [each for each in self.answered if each[1] + REQUEST_WINDOW_MS >= self.clock_ms]
        outcomes = [self._proposal(proposal) for proposal in entry.proposals]
        self._look()
        overdue = [row for row in self.rows if row.held_until_ms is not None and row.held_until_ms <= self.clock_ms]
        overdue.sort(key=lambda row: (row.held_until_ms, row.lease_id))
        ending = overdue[: self.evictions_max]
        due = [row for row in self.rows if row.held_until_ms is None and row.ends_at_ms <= self.clock_ms]
        due.sort(key=lambda row: (row.ends_at_ms, row.lease_id))
        due = due[: self.evictions_max - len(ending)]
        self._judge(due)
        for row in due:
            if self._protects(row.key.service_id):
                row.held_until_ms = min(row.ends_at_ms + self.settings.hold_ms, 2**63 - 1)
            else:
                ending.append(row)
                if self.settings.enabled:
                    self.lost.append((self.clock_ms, row.key.service_id))
        for row in ending:
            self.rows.remove(row)
            self._change("delete", row.instance)
        return outcomes

    # protection

    def _protects(self, service: str) -> bool:
        return None in self.protected or service in self.protected

    def _forget(self) -> None:
        self.lost = [each for each in self.lost if each[0] >= self.clock_ms - self.settings.window_ms]

    def _lost(self, service: str | None) -> int:
        return sum(service in (None, each) for _, each in self.lost)

    def _size(self, service: str | None) -> int:
        return sum(service in (None, row.key.service_id) for row in self.rows)

    def _too_many(self, count: int, of: int) -> bool:
        return count >= self.settings.leases_min and count * 100 > of * self.settings.share_percent

    def _judge(self, due: list[Row]) -> None:
        if not self.settings.enabled or not due:
            return
        self._forget()
        services = list(dict.fromkeys(row.key.service_id for row in due))
        free = not self.protected
        for service in services:
            count = sum(row.key.service_id == service for row in due) + self._lost(service)
            if service not in self.protected and self._too_many(count, self._size(service) + self._lost(service)):
                self.protected[service] = (self.clock_ms, None)
        loose = sum(row.key.service_id not in self.protected for row in due)
        count = loose + self._lost(None)
        if None not in self.protected and self._too_many(count, self._size(None) + self._lost(None)):
            self.protected[None] = (self.clock_ms, None)
        if free and self.protected:
            self.looked_at_ms = self.clock_ms

    def _look(self) -> None:
        if not self.protected or self.clock_ms < self.looked_at_ms + LOOK_MS:
            return
        self.looked_at_ms = self.clock_ms
        self._forget()
        held = [row.key.service_id for row in self.rows if row.held_until_ms is not None]
        protected: dict[str | None, tuple[int, int | None]] = {}
        for service, (since_ms, calm_ms) in self.protected.items():
            mine = sum(each == service if service is not None else each not in self.protected for each in held)
            if not mine:
                continue
            if self._too_many(mine, self._size(service)):
                protected[service] = (since_ms, None)
            elif calm_ms is None:
                protected[service] = (since_ms, self.clock_ms)
            elif self.clock_ms < calm_ms + self.settings.window_ms:
                protected[service] = (since_ms, calm_ms)
        self.protected = protected
        self._let_go()

    def _let_go(self) -> None:
        for row in self.rows:
            if row.held_until_ms is not None and not self._protects(row.key.service_id):
                row.held_until_ms = min(row.held_until_ms, self.clock_ms)

    # proposals

    def find(self, key: InstanceKey) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def _proposal(self, proposal: Proposal) -> Outcome | None:
        of_origin = [each for each in self.seen if each.origin == proposal.origin]
        if any(each.incarnation > proposal.incarnation for each in of_origin):
            return Refused(self.revision, "superseded")
        if any(each.incarnation == proposal.incarnation and each.seq >= proposal.seq for each in of_origin):
            return None
        self.seen.append(proposal)
        for request, _, outcome in self.answered:
            if proposal.request is not None and request.id == proposal.request.id:
                same = request.fingerprint == proposal.request.fingerprint
                return outcome if same else Refused(self.revision, "request-id-reused")
        if proposal.expires_at_ms < self.clock_ms:
            return Refused(self.revision, "expired")
        outcome = self._command(proposal.command)
        if proposal.request is not None:
            self.answered.append((proposal.request, self.clock_ms, outcome))
        return outcome

    def _command(self, command: Command) -> Outcome:
        if isinstance(command, Register):
            return self._register(command)
        if isinstance(command, Renew):
            return self._renew(command)
        if isinstance(command, Unregister):
            existed, refused = [], []
            for position, key in enumerate(command.keys):
                row = self.find(key)
                existed.append(row is not None)
                conflict = self._conflict(command.conditions, position, key)
                if conflict is not None:
                    refused.append(conflict)
                elif row is not None:
                    self.rows.remove(row)
                    self._change("delete", row.instance)
            return Unregistered(self.revision, tuple(existed), tuple(refused))
        if isinstance(command, Configure):
            self.settings = command.protection
            if not self.settings.enabled:
                self.protected, self.lost = {}, []
                self._let_go()
            return Configured(self.revision)
        assert isinstance(command, Announce)
        self.members[command.member.node_id] = command.member
        return Announced(self.revision)

    def _register(self, command: Register) -> Registered:
        lease_ids, created, refused = [], [], []
        for position, item in enumerate(command.items):
            row = Row(item.instance, self.lease_ids_given + 1, self.revision + 1, item.ttl_ms, self.clock_ms)
            conflict = self._conflict(command.conditions, position, row.key)
            if conflict is not None:
                refused.append(conflict)
                lease_ids.append(0)
                created.append(False)
                continue
            self.lease_ids_given += 1
            old = self.find(row.key)
            if old is None:
                self.rows.append(row)
            else:
                self.rows[self.rows.index(old)] = row
            self._change("new" if old is None else "change", row.instance)
            lease_ids.append(row.lease_id)
            created.append(old is None)
        return Registered(self.revision, tuple(lease_ids), tuple(created), tuple(refused))

    def _renew(self, command: Renew) -> Renewed:
        by_id = [next((row for row in self.rows if row.lease_id == each), None) for each in command.lease_ids]
        conflicts = [self._conflict(command.conditions, at, key) for at, key in enumerate(command.keys)]
        by_key = [self.find(key) for key in command.keys]
        allowed = [row for row, conflict in zip(by_key, conflicts, strict=True) if conflict is None]
        for row in by_id + allowed:
            if row is not None:
                row.renewed_at_ms, row.held_until_ms = self.clock_ms, None
        missing_leases = tuple(at for at, row in enumerate(by_id) if row is None)
        missing_keys = tuple(at for at, row in enumerate(by_key) if row is None and conflicts[at] is None)
        refused = tuple(conflict for conflict in conflicts if conflict is not None)
        return Renewed(self.revision, missing_leases, missing_keys, refused)

    def _conflict(self, conditions: tuple[Condition, ...], position: int, key: InstanceKey) -> Conflict | None:
        """What speaks against the command at this position."""
        row = self.find(key)
        found = Conflict(position, row.revision if row else 0, row.lease_id if row else 0)
        for condition in reversed(conditions):
            if condition.position == position:
                wrong_revision = condition.revision is not None and condition.revision != found.revision
                wrong_epoch = condition.epoch is not None and condition.epoch != found.epoch
                return found if wrong_revision or wrong_epoch else None
        return None

    def _change(self, kind: ChangeType, instance: Instance) -> None:
        self.revision += 1
        self.changes.append(Change(self.revision, kind, instance, self.clock_ms))
