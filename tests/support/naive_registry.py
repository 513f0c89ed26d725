"""The registry's specification, written to be read: lists, loops and no index, no queue, no ring.

It shares value types with the real one and no code. Every operation looks at everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from artemis.commands import Announce, Command, Entry, Proposal, Register, Renew, RequestId, Unregister
from artemis.model import Change, ChangeType, Instance, InstanceKey, Member
from artemis.outcomes import Announced, Outcome, Refused, Registered, Renewed, Unregistered

STAMP_ERROR_MS = 200
REQUEST_WINDOW_MS = 600_000


@dataclass
class Row:
    instance: Instance
    lease_id: int
    revision: int
    ttl_ms: int
    renewed_at_ms: int

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

    def apply(self, entry: Entry) -> list[Outcome | None]:
        self.clock_ms = max(self.clock_ms, entry.clock_ms)
        self.answered = [each for each in self.answered if each[1] + REQUEST_WINDOW_MS >= self.clock_ms]
        outcomes = [self._proposal(proposal) for proposal in entry.proposals]
        for row in sorted(self.rows, key=lambda row: (row.ends_at_ms, row.lease_id)):
            if row.ends_at_ms <= self.clock_ms:
                self.rows.remove(row)
                self._change("delete", row.instance)
        return outcomes

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
            existed = []
            for key in command.keys:
                row = self.find(key)
                existed.append(row is not None)
                if row is not None:
                    self.rows.remove(row)
                    self._change("delete", row.instance)
            return Unregistered(self.revision, tuple(existed))
        assert isinstance(command, Announce)
        self.members[command.member.node_id] = command.member
        return Announced(self.revision)

    def _register(self, command: Register) -> Registered:
        lease_ids, created = [], []
        for item in command.items:
            self.lease_ids_given += 1
            row = Row(item.instance, self.lease_ids_given, self.revision + 1, item.ttl_ms, self.clock_ms)
            old = self.find(row.key)
            if old is None:
                self.rows.append(row)
            else:
                self.rows[self.rows.index(old)] = row
            self._change("new" if old is None else "change", row.instance)
            lease_ids.append(row.lease_id)
            created.append(old is None)
        return Registered(self.revision, tuple(lease_ids), tuple(created))

    def _renew(self, command: Renew) -> Renewed:
        by_id = [next((row for row in self.rows if row.lease_id == each), None) for each in command.lease_ids]
        by_key = [self.find(key) for key in command.keys]
        for row in by_id + by_key:
            if row is not None:
                row.renewed_at_ms = self.clock_ms
        missing = [tuple(at for at, row in enumerate(rows) if row is None) for rows in (by_id, by_key)]
        return Renewed(self.revision, missing[0], missing[1])

    def _change(self, kind: ChangeType, instance: Instance) -> None:
        self.revision += 1
        self.changes.append(Change(self.revision, kind, instance, self.clock_ms))
