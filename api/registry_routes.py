"""register, heartbeat, unregister: ``java-http.md`` 4.2 and 4.4, ``rust-http.md`` 1.2.

Each request becomes at most one command, so what it changes appears together. Only a heartbeat may need a second one,
for leases this node believed in and the log no longer has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from artemis.api.answers import NOT_APPLIED, UNKNOWN, Answer
from artemis.api.dialects import Code, Dialect, FailedInstance, Kind
from artemis.api.dialects.bodies import WriteBody, read_write
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.api.faults import Headers
from artemis.api.registrations import (
    LeaseTtl,
    key_of_sent,
    name_write,
    port_rule_broken,
    rule_broken,
    to_instance,
    url_rule_broken,
)
from artemis.api.requests import Request
from artemis.api.serving import SNAKE, Serving
from artemis.commands import Command, Register, Registration, Renew, RequestId, Unregister
from artemis.errors import ArtemisError, RequestIdReused, Unavailable
from artemis.model import InstanceKey
from artemis.outcomes import Refused, Registered, Renewed, Unregistered

RE_REGISTER = "Instance is not exising! Need re-register."
"""The earlier servers' text, spelled as clients know it from their logs."""
NOTHING_SAID: Headers = []
"""No ``x-artemis-outcome``: at least part of the write was done."""
UNKNOWN_OUTCOME = "the outcome is unknown: the write may have happened or may still happen"

T = TypeVar("T", Registered, Renewed, Unregistered)


class _Targets(NamedTuple):
    """The instances that a heartbeat or unregister names, and where each name came from."""

    keys: list[InstanceKey]
    sent: list[SentInstance | SentKey]


class _Failures:
    """What of a request could not be done, in the order sent."""

    __slots__ = ("instances", "keys")

    def __init__(self) -> None:
        self.instances: list[FailedInstance] = []
        self.keys: list[SentKey] = []

    def add(self, sent: SentInstance | SentKey, code: Code, message: str) -> None:
        if isinstance(sent, SentKey):
            self.keys.append(sent)
        else:
            self.instances.append(FailedInstance(sent, code, message))

    def any(self) -> bool:
        return bool(self.instances or self.keys)


class RegistryRoutes:
    """Handlers of the registry plane. They raise ``HttpFault`` for requests that are not understood."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._node = serving.node
        self._bytes_max = serving.settings.body_bytes_max
        self._ttl = LeaseTtl(serving.settings)
        self._checks_place = not (serving.settings.any_region and serving.settings.any_zone)

    async def register(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_write(await request.body(self._bytes_max))
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances:
            return self._nothing_sent("register", dialect, body)
        failures = _Failures()
        items: list[Registration] = []
        for sent in body.instances:
            if sent is None:
                continue
            fault = self._fault(sent, dialect)
            if fault is not None:
                failures.add(sent, *fault)
                continue
            ttl_ms = self._ttl.of(sent, snake=dialect is SNAKE)
            if isinstance(ttl_ms, str):
                failures.add(sent, "bad-request", ttl_ms)
            else:
                items.append(Registration(to_instance(sent), ttl_ms))
        try:
            if not items:
                return self._none_acceptable("register", dialect, body, failures)
            name = name_write(options.request_id, "register", body.instances, ())
            outcome = await self._propose(Register(tuple(items)), Registered, name, options.timeout_ms)
        except ArtemisError as exc:
            return self._refused("register", dialect, exc)
        return self._written("register", dialect, body, failures, outcome.revision)

    async def unregister(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_write(await request.body(self._bytes_max))
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances and not body.keys:
            return self._nothing_sent("unregister", dialect, body)
        targets, failures = self._targets(body, dialect)
        try:
            if not targets.keys:
                return self._none_acceptable("unregister", dialect, body, failures)
            name = name_write(options.request_id, "unregister", body.instances or (), body.keys or ())
            outcome = await self._propose(Unregister(tuple(targets.keys)), Unregistered, name, options.timeout_ms)
        except ArtemisError as exc:
            return self._refused("unregister", dialect, exc)
        # Also for instances that did not exist: it is the first call of every Java registration.
        return self._written("unregister", dialect, body, failures, outcome.revision)

    async def heartbeat(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_write(await request.body(self._bytes_max))
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances and not body.keys:
            return self._nothing_sent("heartbeat", dialect, body)
        targets, failures = self._targets(body, dialect)
        try:
            if not targets.keys:
                return self._none_acceptable("heartbeat", dialect, body, failures)
            missing, revision = await self._renew(targets.keys, options.timeout_ms)
        except ArtemisError as exc:
            return self._refused("heartbeat", dialect, exc)
        for position in missing:
            failures.add(targets.sent[position], "data-not-found", RE_REGISTER)
        done = len(missing) < len(targets.keys)
        return self._written("heartbeat", dialect, body, failures, revision, NOTHING_SAID if done else NOT_APPLIED)

    async def _renew(self, keys: list[InstanceKey], timeout_ms: int) -> tuple[list[int], int]:
        """Positions in ``keys`` of the instances that do not exist, ascending, and the revision that says so.

        A request id is not passed on. Renewing again is harmless, while a remembered answer is not: it would
        acknowledge a renewal that did not restart the lease.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        find = self._node.registry.find
        lease_ids: list[int] = []
        leased: list[int] = []
        unleased: list[int] = []
        for position, key in enumerate(keys):
            record = find(key)
            if record is None:
                unleased.append(position)
            else:
                lease_ids.append(record.lease_id)
                leased.append(position)
        command = Renew(tuple(lease_ids), tuple([keys[position] for position in unleased]))
        outcome = await self._propose(command, Renewed, None, timeout_ms)
        missing = [unleased[index] for index in outcome.missing_keys]
        if outcome.missing_leases:
            # This node was behind: register on n1, register again on n2, heartbeat on n1 finds the first lease id
            # here and the second one in the log. The key says whether the instance still exists.
            again = [leased[index] for index in outcome.missing_leases]
            command = Renew((), tuple([keys[position] for position in again]))
            left_ms = max(1, timeout_ms - int((clock() - started) * 1000))
            try:
                outcome = await self._propose(command, Renewed, None, left_ms)
            except Unavailable as exc:
                # The others are renewed already.
                raise Unavailable(exc.message, definite=False) from exc
            missing += [again[index] for index in outcome.missing_keys]
            missing.sort()
        return missing, outcome.revision

    async def _propose(self, command: Command, expected: type[T], name: RequestId | None, timeout_ms: int) -> T:
        outcome = await self._node.propose(command, request=name, timeout_ms=timeout_ms)
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

    def _fault(self, sent: SentInstance, dialect: Dialect) -> tuple[Code, str] | None:
        if self._checks_place:
            misplaced = self._serving.misplaced(sent.region_id, sent.zone_id)
            if misplaced is not None:
                return "no-permission", misplaced
        broken = rule_broken(sent) or (port_rule_broken(sent) if dialect is SNAKE else url_rule_broken(sent))
        # The earlier servers answered broken rules with this code, not with bad-request.
        return None if broken is None else ("internal-service-error", broken)

    def _targets(self, body: WriteBody, dialect: Dialect) -> tuple[_Targets, _Failures]:
        targets = _Targets([], [])
        failures = _Failures()
        for sent in body.instances or ():
            if sent is None:
                continue
            fault = self._fault(sent, dialect)
            if fault is not None:
                failures.add(sent, *fault)
                continue
            targets.keys.append(key_of_sent(sent))
            targets.sent.append(sent)
        for key in body.keys or ():
            misplaced = self._serving.misplaced(key.region_id, key.zone_id)
            if misplaced is not None:
                failures.add(key, "no-permission", misplaced)
                continue
            targets.keys.append(key_of_sent(key))
            targets.sent.append(key)
        return targets, failures

    def _nothing_sent(self, kind: Kind, dialect: Dialect, body: WriteBody) -> Answer:
        # An empty list of keys is a request of the snake_case contract, whatever its spelling.
        asked_for_nothing = body.keys is not None or (body.instances is not None and not dialect.empty_write_is_fault)
        if asked_for_nothing:
            return self._written(kind, dialect, body, _Failures(), self._node.registry.revision, ordered=False)
        return self._failed(kind, dialect, "bad-request", "request.instances is null or empty.", NOT_APPLIED)

    def _none_acceptable(self, kind: Kind, dialect: Dialect, body: WriteBody, failures: _Failures) -> Answer:
        """Nothing to propose. Still, a node without a leader says so first: the order of ``java-http.md`` 4.2."""
        if not self._node.status().known_leader:
            raise Unavailable("no leader is known", definite=True)
        outcome = NOT_APPLIED if failures.any() else NOTHING_SAID
        return self._written(kind, dialect, body, failures, self._node.registry.revision, outcome, ordered=False)

    def _written(
        self,
        kind: Kind,
        dialect: Dialect,
        body: WriteBody,
        failures: _Failures,
        revision: int,
        headers: Sequence[tuple[bytes, bytes]] = NOTHING_SAID,
        *,
        ordered: bool = True,
    ) -> Answer:
        """``ordered``: a log entry stands behind this answer. Without one its revision is only this node's own."""
        return Answer(
            dialect.written(kind, failures.instances, failures.keys, by_key=bool(body.keys)),
            "partial_fail" if failures.any() else "success",
            self._node.status(),
            revision,
            "linearizable" if ordered else None,
            headers,
        )

    def _refused(self, kind: Kind, dialect: Dialect, exc: ArtemisError) -> Answer:
        outcome = NOT_APPLIED if exc.definite else UNKNOWN
        if not isinstance(exc, Unavailable):
            return self._failed(kind, dialect, "bad-request", exc.message, outcome)
        message = self._serving.unavailable("registry", exc)
        if not exc.definite:
            message = f"{message}; {UNKNOWN_OUTCOME}"
        return self._failed(kind, dialect, "service-unavailable", message, outcome)

    def _failed(
        self, kind: Kind, dialect: Dialect, code: Code, message: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> Answer:
        return Answer(
            dialect.failed(kind, code, message),
            code,
            self._node.status(),
            self._node.registry.revision,
            headers=headers,
        )
