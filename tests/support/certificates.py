"""Histories with the evidence that certifies them: what clients saw of a real registry, and the logs of its nodes.

Clients have one write or read open at a time; every entry takes some of the open writes. Answers get lost, clients
retry under their request id (so copies land in the log) or give up, and some reads are stale.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from artemis.commands import (
    Command,
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
from artemis.model import Instance, InstanceKey
from artemis.outcomes import Outcome, Refused
from artemis.registry import Registry, StateLimits
from jepsen_lite.linearizability.certificate import Applied, Read, Write

SERVICES = ("alpha", "beta")
NODES = ("n1", "n2", "n3")
TTLS_MS = (300, 5_000, 3_600_000)
CLIENTS = 8


@dataclass
class Evidence:
    logs: dict[str, list[Applied]] = field(default_factory=lambda: {node: [] for node in NODES})
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


@dataclass
class _Open:
    process: int
    command: Command
    request: RequestId | None
    call: float


class Cluster:
    """Fills an ``Evidence``. ``limits`` are those of the registry that answers, which need not be a correct one."""

    def __init__(self, seed: int, limits: StateLimits | None = None, *, clients: int = CLIENTS) -> None:
        self.evidence = Evidence()
        self._rng = random.Random(seed)
        self._registry = Registry(limits)
        self._now = 0.0
        self._clock_ms = 0
        self._seq = 0
        self._requests = 0
        self._idle = list(range(clients))
        self._open: list[_Open] = []
        self._late: list[_Open] = []
        """Copies that are still under way."""
        self._past: list[tuple[int, dict[str, frozenset[str]]]] = []

    def run(self, entries: int) -> Evidence:
        self._append(b"")
        for _ in range(entries):
            self._begin_operations()
            self._entry()
        for index, node in enumerate(NODES[1:], start=1):
            del self.evidence.logs[node][len(self.evidence.logs[node]) - index :]
        return self.evidence

    def _begin_operations(self) -> None:
        self._rng.shuffle(self._idle)
        while self._idle and self._rng.random() < 0.8:
            process = self._idle.pop()
            if self._rng.random() < 0.4:
                self._read(process)
                self._idle.insert(0, process)
                continue
            self._requests += 1
            named = self._rng.random() < 0.8
            request = RequestId(f"r{self._requests}", self._requests.to_bytes(8, "big")) if named else None
            self._open.append(_Open(process, self._command(), request, self._tick()))

    def _command(self) -> Command:
        rng = self._rng
        known = [record for view in self._registry.services() for record in view.records]
        draw = rng.random()
        if draw < 0.2 and known:
            return Renew(lease_ids=(rng.choice(known).lease_id,))
        if draw < 0.4:
            return Unregister((InstanceKey("", rng.choice(SERVICES), f"i{rng.randrange(30)}"),))
        items = [
            Registration(
                Instance(service_id=rng.choice(SERVICES), instance_id=f"i{rng.randrange(30)}", port=self._requests),
                rng.choice(TTLS_MS),
            )
            for _ in range(rng.choice((1, 1, 3)))
        ]
        return Register(tuple(items))

    def _read(self, process: int) -> None:
        """Between two entries: at the present revision, or stale at an earlier one."""
        service, call = self._rng.choice(SERVICES), self._tick()
        stale = self._rng.random() < 0.3 and len(self._past) > 0
        revision, contents = self._rng.choice(self._past) if stale else self._state()
        self.evidence.reads.append(
            Read(process, service, contents[service], revision, not stale, call, self._tick(), revision if stale else 0)
        )

    def _state(self) -> tuple[int, dict[str, frozenset[str]]]:
        views = {service: self._registry.service(service) for service in SERVICES}
        contents = {
            service: frozenset(record.instance.instance_id for record in view.records)
            if view is not None
            else frozenset()
            for service, view in views.items()
        }
        return self._registry.revision, contents

    def _entry(self) -> None:
        rng = self._rng
        self._clock_ms += rng.choice((0, 1, 50, 200))
        rng.shuffle(self._open)
        taken = [self._open.pop() for _ in range(rng.randint(0, len(self._open)))]
        copies = [self._late.pop() for _ in range(rng.randint(0, len(self._late)))]
        proposals = [self._proposal(write) for write in (*taken, *copies)]
        payload = encode_entry(self._clock_ms, [encode_proposal(each) for each in proposals])
        outcomes = self._registry.apply(self._append(payload), decode_entry(payload))
        for write, outcome in zip(taken, outcomes, strict=False):
            self._answer(write, outcome)
        self._past.append(self._state())

    def _proposal(self, write: _Open) -> Proposal:
        self._seq += 1
        # Now and then the budget is over already.
        budget_ms = self._rng.choice((-1, 1_000, 1_000, 1_000, 1_000))
        return Proposal("n1", 1, self._seq, write.request, self._clock_ms + budget_ms, write.command)

    def _answer(self, write: _Open, outcome: Outcome | None) -> None:
        refused, copied = isinstance(outcome, Refused), False
        if write.request is not None and self._rng.random() < 0.2:
            self._late.append(write)
            copied = True
        if self._rng.random() < 0.1 or (refused and copied):
            # Unknown: the answer was lost, or a copy may still do what this one was refused.
            self._record(write, None, None)
            self._idle.append(write.process + 1_000)
        else:
            self._record(write, None if refused else outcome, self._tick())
            self._idle.append(write.process)

    def _record(self, write: _Open, outcome: Outcome | None, ret: float | None) -> None:
        self.evidence.writes.append(Write(write.process, write.command, write.request, outcome, write.call, ret))

    def _append(self, payload: bytes) -> int:
        index = len(self.evidence.logs["n1"]) + 1
        for log in self.evidence.logs.values():
            log.append(Applied(index, 1, payload))
        return index

    def _tick(self) -> float:
        self._now += 1
        return self._now
