"""The unique-element set: every add registers an instance that never existed before, reads return the whole service.

Each worker is one logical client. Adders send one add at a time, each to the next node of their own shuffled round;
readers do the same. Nothing is retried: a retry would hide what the first attempt left behind.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jepsen_lite.cluster import HOST, Address
from jepsen_lite.history import Event, EventType, Recorder
from jepsen_lite.http1 import Answer, Connection, Lost, NotSent
from jepsen_lite.registry import (
    REGISTER,
    SERVICE,
    Consistency,
    Evidence,
    evidence_of,
    instance,
    instance_ids,
    instances_body,
    number,
    outcome_of,
    read_headers,
    service_body,
)

SERVICE_ID = "jepsen-set"
TTL_MS = 24 * 3600 * 1000
"""No element ends by itself during a run: this workload is about writes, not leases."""
TIMEOUT_S = 3.0
"""Longer than the 2 s within which a node must refuse, so that a refusal is seen as such."""


@dataclass(slots=True)
class Counters:
    """Shared by the workers: what the run has reached so far."""

    warm_up_adds: int
    elements: int = 0
    ok_adds: int = 0
    highest_rev: int = 0
    stopping: bool = False
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when ``warm_up_adds`` adds were acknowledged."""

    def count_add(self) -> None:
        self.ok_adds += 1
        if self.ok_adds >= self.warm_up_adds:
            self.warm.set()


class Worker:
    """One logical client with at most one open operation. Its process number changes after every ``info``."""

    def __init__(
        self,
        process: int,
        concurrency: int,
        addresses: Mapping[str, Address],
        recorder: Recorder,
        counters: Counters,
    ) -> None:
        self.process = process
        self._concurrency = concurrency
        self._connections = {node: Connection(HOST, address.http_port) for node, address in addresses.items()}
        self._recorder = recorder
        self._counters = counters

    async def add(self, node: str) -> Event:
        """Register one new element through ``node``."""
        self._counters.elements += 1
        element = f"e{self._counters.elements}"
        op = self._invoke("add", node, value=element)
        body = instances_body([instance(SERVICE_ID, element, ttl_ms=TTL_MS)])
        headers = {"x-artemis-request-id": f"set-{element}"}
        answer, evidence, error = await self._attempt(node, REGISTER, body, headers)
        kind = outcome_of(evidence)
        if kind == "ok":
            self._counters.count_add()
        return self._complete(kind, "add", node, op, answer, value=element, evidence=evidence, error=error)

    async def read(self, node: str, consistency: Consistency, *, final: bool = False) -> Event:
        """Read the whole service from ``node``. A read that gets no answer is ``fail``: it changed nothing."""
        op = self._invoke("read", node, consistency=consistency, final=final)
        answer, evidence, error = await self._attempt(
            node, SERVICE, service_body(SERVICE_ID), read_headers(consistency)
        )
        found = instance_ids(answer) if answer is not None else None
        given = answer.headers.get("x-artemis-consistency") if answer is not None else None
        if found is not None and given != consistency:
            found, error = None, f"asked for {consistency}, given {given}"
        return self._complete(
            "fail" if found is None else "ok",
            "read",
            node,
            op,
            answer,
            value=found,
            consistency=consistency,
            final=final,
            error=error or (evidence.code if found is None else None),
        )

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.aclose()

    async def _attempt(
        self, node: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Answer | None, Evidence, str | None]:
        try:
            answer = await self._connections[node].request("POST", path, body, headers, timeout_s=TIMEOUT_S)
        except NotSent as exc:
            return None, Evidence(sent=False), str(exc)
        except Lost as exc:
            return None, Evidence(sent=True), str(exc)
        return answer, evidence_of(answer), None

    def _invoke(
        self,
        f: str,
        node: str,
        *,
        value: str | None = None,
        consistency: Consistency | None = None,
        final: bool = False,
    ) -> int:
        op = self._recorder.next_op()
        event = Event(
            index=0,
            time=0,
            process=self.process,
            type="invoke",
            f=f,
            op=op,
            node=node,
            value=value,
            consistency=consistency,
            final=final,
        )
        self._recorder.record(event)
        return op

    def _complete(
        self,
        kind: EventType,
        f: str,
        node: str,
        op: int,
        answer: Answer | None,
        *,
        value: str | list[str] | None,
        consistency: Consistency | None = None,
        final: bool = False,
        evidence: Evidence | None = None,
        error: str | None = None,
    ) -> Event:
        rev = number(answer, "x-artemis-revision") if answer else None
        event = self._recorder.record(
            Event(
                index=0,
                time=0,
                process=self.process,
                type=kind,
                f=f,
                op=op,
                node=node,
                value=value,
                consistency=consistency,
                final=final,
                rev=rev,
                term=number(answer, "x-artemis-term") if answer else None,
                leader=_known_leader(answer),
                served_by=answer.headers.get("x-artemis-node") if answer else None,
                evidence=evidence,
                error=error,
            )
        )
        if kind == "ok":
            self._counters.highest_rev = max(self._counters.highest_rev, rev or 0)
        if kind == "info":
            self.process += self._concurrency
        return event


async def keep_adding(
    worker: Worker, nodes: Sequence[str], counters: Counters, pause_s: float, rng: random.Random
) -> None:
    """Add through all nodes in turn until told to stop."""
    while not counters.stopping:
        for node in rng.sample(nodes, len(nodes)):
            await worker.add(node)
            await asyncio.sleep(pause_s * rng.uniform(0.5, 1.5))


async def keep_reading(
    worker: Worker, nodes: Sequence[str], counters: Counters, pause_s: float, rng: random.Random
) -> None:
    """Read all nodes in turn until told to stop: linearizably, and every third time whatever the node has."""
    levels: tuple[Consistency, ...] = ("linearizable", "linearizable", "stale")
    while not counters.stopping:
        for node in rng.sample(nodes, len(nodes)):
            await worker.read(node, rng.choice(levels))
            await asyncio.sleep(pause_s * rng.uniform(0.5, 1.5))


def _known_leader(answer: Answer | None) -> str | None:
    """The leader the node is in contact with; a node without one may still name the last."""
    if answer is None or answer.headers.get("x-artemis-known-leader") != "true":
        return None
    return answer.headers.get("x-artemis-leader")
