"""The history of a run before the searches and the certificate of jepsen-lite.

``contradictions`` trusts only what the clients saw, one service at a time: it finds one order of all operations or
shows that there is none. ``uncertified`` takes the order of the committed log, replays it through the sequential
specification, and holds every answer against it, over all services together. ``history.check`` is quicker than both
and looks for particular mistakes; these two leave no other mistake out.
"""

from __future__ import annotations

from artemis.commands import Command, RequestId, Unregister, decode_entry
from jepsen_lite.linearizability import certificate
from jepsen_lite.linearizability.certificate import Applied, Read, Write
from jepsen_lite.linearizability.check import check_all
from jepsen_lite.linearizability.instance_set import InstanceSet
from jepsen_lite.linearizability.operations import Op
from tests.simulation.clients import FOREVER_MS, key, register
from tests.simulation.history import History, Operation
from tests.simulation.invariants import Invariants

STEPS_MAX = 200_000


def contradictions(history: History, steps_max: int = STEPS_MAX) -> list[str]:
    """Why no order explains what the clients saw of each service; empty when there is one.

    A service that is undecided after its share of ``steps_max`` is listed too: what was not shown is no pass.
    """
    services: dict[str, list[Op]] = {}
    for operation in history.operations:
        op = as_op(operation)
        if op is not None:
            services.setdefault(operation.service, []).append(op)
    return list(check_all(services, InstanceSet(), steps_max=steps_max).reasons)


def as_op(operation: Operation) -> Op | None:
    """For ``InstanceSet``; None for what constrains nothing: failed operations and stale reads."""
    if operation.outcome == "fail" or operation.kind == "stale-read":
        return None
    ret = operation.returned_at if operation.outcome == "ok" else None
    if operation.kind == "read":
        return Op(operation.client, "read", None, operation.seen, operation.called_at, ret)
    there = frozenset(operation.elements) - frozenset(operation.missing) if operation.kind == "remove" else None
    return Op(operation.client, operation.kind, operation.elements, there, operation.called_at, ret)


def uncertified(history: History, watch: Invariants) -> list[str]:
    """Where the committed log and the answers contradict each other; empty when the log is a linearization."""
    log = [Applied(index, term, payload) for index, (term, payload) in sorted(watch.committed.items())]
    named = _request_ids(log)
    writes, reads = [], []
    for operation in history.operations:
        if operation.kind in ("add", "remove"):
            writes.append(_as_write(operation, named))
        elif operation.outcome == "ok":
            reads.append(_as_read(operation))
    first_index = log[0].index if log else 1
    found = certificate.check({"the committed log": log}, writes, reads, first_index=first_index)
    return [f"{anomaly.kind}: {anomaly.detail}" for anomaly in found.anomalies]


def _as_write(operation: Operation, named: dict[str, RequestId]) -> Write:
    command: Command
    if operation.command is not None:
        command = operation.command
    elif operation.kind == "add":
        command = register(operation.service, operation.elements, FOREVER_MS)
    else:
        command = Unregister(tuple(key(operation.service, element) for element in operation.elements))
    known = None if operation.outcome == "info" else operation.returned_at
    revision = operation.revision if operation.outcome == "ok" else None
    request = named.get(f"{operation.client}/{operation.number}")
    return Write(operation.client, command, request, revision, operation.called_at, known)


def _as_read(operation: Operation) -> Read:
    return Read(
        operation.client,
        operation.service,
        operation.seen,
        operation.revision,
        operation.kind == "read",
        operation.called_at,
        operation.returned_at,
    )


def _request_ids(log: list[Applied]) -> dict[str, RequestId]:
    """By name, as they are in the log. A history does not keep which of its writes had one."""
    requests = (
        proposal.request for record in log if record.payload for proposal in decode_entry(record.payload).proposals
    )
    return {request.id: request for request in requests if request is not None}
