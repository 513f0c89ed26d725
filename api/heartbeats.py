"""Renewing leases, whichever way the heartbeat came: HTTP (``registry_routes``) or WebSocket (``push.java_heartbeat``).

Also the parts that a heartbeat shares with the other writes: which instances of a request may be touched, what of it
failed, and how a refusal is worded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from artemis.api.conditions import conditions_of, refusal_text
from artemis.api.dialects import Code, Dialect, FailedInstance, FailedKey
from artemis.api.dialects.bodies import WriteBody, read_write
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.api.faults import too_many
from artemis.api.ports import ReplicatedRegistry
from artemis.api.registrations import key_of_sent, rule_broken
from artemis.api.serving import Serving
from artemis.commands import Command, Condition, Renew, RequestId
from artemis.errors import ArtemisError, RequestIdReused, Unavailable
from artemis.model import InstanceKey
from artemis.outcomes import Conflict, Refused, Registered, Renewed, Unregistered

RE_REGISTER = "Instance is not exising! Need re-register."
"""The earlier servers' text, spelled as clients know it from their logs."""
UNKNOWN_OUTCOME = "the outcome is unknown: the write may have happened or may still happen"

T = TypeVar("T", Registered, Renewed, Unregistered)


class Targets(msgspec.Struct, frozen=True):
    """The instances that a heartbeat or unregister names, and where each name came from."""

    keys: list[InstanceKey]
    sent: list[SentInstance | SentKey]


class Failures(msgspec.Struct, frozen=True):
    """What of a request could not be done, in the order sent."""

    instances: list[FailedInstance] = []
    keys: list[FailedKey] = []

    def add(self, sent: SentInstance | SentKey, code: Code, message: str, conflict: Conflict | None = None) -> None:
        if isinstance(sent, SentKey):
            self.keys.append(FailedKey(sent, code, message, conflict))
        else:
            self.instances.append(FailedInstance(sent, code, message, conflict))

    def add_refused(self, sent: Sequence[SentInstance | SentKey], refused: Iterable[Conflict]) -> None:
        """Those of ``sent`` whose conditions did not hold."""
        for conflict in refused:
            self.add(sent[conflict.position], "condition-failed", refusal_text(conflict), conflict)

    def any(self) -> bool:
        return bool(self.instances or self.keys)


class Beat(msgspec.Struct, frozen=True):
    """What became of one heartbeat."""

    failures: Failures
    revision: int
    renewed: int
    ordered: bool
    """A log entry stands behind this. Without one the revision is only this node's own."""


class Places:
    """Which instances of a request this node may touch."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._checks_place = not (serving.settings.any_region and serving.settings.any_zone)

    def fault(self, sent: SentInstance, dialect: Dialect) -> tuple[Code, str] | None:
        if self._checks_place:
            misplaced = self._serving.misplaced(sent.region_id, sent.zone_id)
            if misplaced is not None:
                return "no-permission", misplaced
        broken = rule_broken(sent, strict=dialect.strict)
        # The earlier servers answered broken rules with this code, not with bad-request.
        return None if broken is None else ("internal-service-error", broken)

    def targets(self, body: WriteBody, dialect: Dialect) -> tuple[Targets, Failures]:
        keys: list[InstanceKey] = []
        accepted: list[SentInstance | SentKey] = []
        failures = Failures()
        for sent in body.instances or ():
            if sent is None:
                continue
            fault = self.fault(sent, dialect)
            if fault is not None:
                failures.add(sent, *fault)
                continue
            keys.append(key_of_sent(sent))
            accepted.append(sent)
        for key in body.keys or ():
            misplaced = self._serving.misplaced(key.region_id, key.zone_id) if self._checks_place else None
            if misplaced is not None:
                failures.add(key, "no-permission", misplaced)
                continue
            keys.append(key_of_sent(key))
            accepted.append(key)
        return Targets(keys, accepted), failures


class Heartbeats:
    def __init__(self, serving: Serving, places: Places) -> None:
        self._node = serving.node
        self._places = places

    async def beat(
        self, body: WriteBody, dialect: Dialect, timeout_ms: int, expected_revision: int | None = None
    ) -> Beat:
        """Renew what ``body`` names, which is at least one instance or null. Raises ``ArtemisError``, and ``HttpFault``
        if ``expected_revision`` (``If-Match``) does not fit."""
        targets, failures = self._places.targets(body, dialect)
        conditions = conditions_of(targets.sent, body, expected_revision)
        if not targets.keys:
            require_leader(self._node)
            return Beat(failures, self._node.registry.revision, 0, ordered=False)
        missing, refused, revision = await self._renew(targets.keys, conditions, timeout_ms)
        for position in missing:
            failures.add(targets.sent[position], "data-not-found", RE_REGISTER)
        failures.add_refused(targets.sent, refused)
        renewed = len(targets.keys) - len(missing) - len(refused)
        return Beat(failures, revision, renewed, ordered=True)

    async def _renew(
        self, keys: list[InstanceKey], conditions: Sequence[Condition], timeout_ms: int
    ) -> tuple[list[int], list[Conflict], int]:
        """Positions in ``keys`` of the instances that do not exist, ascending, those whose condition did not hold, and
        the revision that says so.

        A request id is not passed on. Renewing again is harmless, while a remembered answer is not: it would
        acknowledge a renewal that did not restart the lease.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        find = self._node.registry.find
        lease_ids: list[int] = []
        leased: list[int] = []
        unleased: list[int] = []
        conditional = {condition.position: condition for condition in conditions}
        for position, key in enumerate(keys):
            record = find(key)
            # Under a condition by key: only the log knows whether it holds.
            if record is None or position in conditional:
                unleased.append(position)
            else:
                lease_ids.append(record.lease_id)
                leased.append(position)
        on_keys = [
            msgspec.structs.replace(conditional[position], position=index)
            for index, position in enumerate(unleased)
            if position in conditional
        ]
        command = Renew(tuple(lease_ids), tuple([keys[position] for position in unleased]), tuple(on_keys))
        outcome = await propose(self._node, command, Renewed, None, timeout_ms)
        missing = [unleased[index] for index in outcome.missing_keys]
        refused = [
            msgspec.structs.replace(conflict, position=unleased[conflict.position]) for conflict in outcome.refused
        ]
        if outcome.missing_leases:
            # This node was behind: register on n1, register again on n2, heartbeat on n1 finds the first lease id
            # here and the second one in the log. The key says whether the instance still exists.
            again = [leased[index] for index in outcome.missing_leases]
            command = Renew((), tuple([keys[position] for position in again]))
            left_ms = max(1, timeout_ms - int((clock() - started) * 1000))
            try:
                outcome = await propose(self._node, command, Renewed, None, left_ms)
            except Unavailable as exc:
                # The others are renewed already.
                raise Unavailable(exc.message, definite=False) from exc
            missing += [again[index] for index in outcome.missing_keys]
            missing.sort()
        return missing, refused, outcome.revision


def read_bounded(content: bytes, items_max: int) -> WriteBody:
    """Raises ``HttpFault`` for what is not understood, or names more than ``items_max``."""
    body = read_write(content)
    instances, keys = body.instances, body.keys
    if instances is not None and len(instances) > items_max:
        raise too_many("instances", items_max, len(instances))
    if keys is not None and len(keys) > items_max:
        raise too_many("instanceKeys", items_max, len(keys))
    return body


async def propose(
    node: ReplicatedRegistry, command: Command, expected: type[T], name: RequestId | None, timeout_ms: int
) -> T:
    """The outcome, which is an ``expected`` one. Raises ``ArtemisError`` for every other, and what the node raises."""
    outcome = await node.propose(command, request=name, timeout_ms=timeout_ms)
    if isinstance(outcome, expected):
        return outcome
    if isinstance(outcome, Refused):
        if outcome.reason == "request-id-reused":
            raise RequestIdReused("x-artemis-request-id: it belongs to another, earlier request")
        if outcome.reason == "expired":
            raise Unavailable("the time budget passed before the write was ordered", definite=True)
        raise Unavailable("this node has started anew since it took the write", definite=True)
    # The request id found the outcome of another kind of write; its fingerprint should have told.
    raise RequestIdReused("x-artemis-request-id: it belongs to another kind of request")


def require_leader(node: ReplicatedRegistry) -> None:
    """For a request that leaves nothing to propose: a node without a leader still says so first, and not what is
    wrong with the request (``java-http.md`` 4.2)."""
    if not node.status().known_leader:
        raise Unavailable("no leader is known", definite=True)


def refusal(serving: Serving, exc: ArtemisError) -> tuple[Code, str]:
    """The code and message of a write that was refused as a whole."""
    if isinstance(exc, RequestIdReused):
        return "request-id-reused", exc.message
    if not isinstance(exc, Unavailable):
        return "bad-request", exc.message
    message = serving.unavailable("registry", exc)
    return "service-unavailable", message if exc.definite else f"{message}; {UNKNOWN_OUTCOME}"
