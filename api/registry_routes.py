"""register, heartbeat, unregister: ``java-http.md`` 4.2 and 4.4, ``rust-http.md`` 1.2.

Each request becomes at most one command, so what it changes appears together. Only a heartbeat may need a second one,
for leases this node believed in and the log no longer has.
"""

from __future__ import annotations

from collections.abc import Sequence

from artemis.api.answers import NOT_APPLIED, UNKNOWN, Answer
from artemis.api.conditions import conditions_of, record_headers
from artemis.api.dialects import Code, Dialect, Kind
from artemis.api.dialects.bodies import WriteBody
from artemis.api.dialects.shapes import SentInstance
from artemis.api.faults import Headers
from artemis.api.heartbeats import (
    Failures,
    Heartbeats,
    Places,
    propose,
    read_bounded,
    refusal,
    require_leader,
)
from artemis.api.registrations import LeaseTtl, name_write, to_instance
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.commands import Register, Registration, Unregister
from artemis.errors import ArtemisError
from artemis.outcomes import Conflict, Registered, Unregistered

NOTHING_SAID: Headers = []
"""No ``x-artemis-outcome``: at least part of the write was done."""


class RegistryRoutes:
    """Handlers of the registry plane. They raise ``HttpFault`` for requests that are not understood."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._node = serving.node
        self._bytes_max = serving.settings.body_bytes_max
        self._items_max = serving.settings.items_max
        self._ttl = LeaseTtl(serving.settings)
        self._places = Places(serving)
        self._heartbeats = Heartbeats(serving, self._places)

    async def register(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_bounded(await request.body(self._bytes_max), self._items_max)
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances:
            return self._nothing_sent("register", dialect, body)
        failures = Failures()
        items: list[Registration] = []
        accepted: list[SentInstance] = []
        for sent in body.instances:
            if sent is None:
                continue
            fault = self._places.fault(sent, dialect)
            if fault is not None:
                failures.add(sent, *fault)
                continue
            ttl_ms = self._ttl.of(sent, strict=dialect.strict)
            if isinstance(ttl_ms, str):
                failures.add(sent, "bad-request", ttl_ms)
            else:
                items.append(Registration(to_instance(sent), ttl_ms))
                accepted.append(sent)
        conditions = conditions_of(accepted, body, options.expected_revision)
        try:
            if not items:
                return self._none_acceptable("register", dialect, body, failures)
            name = name_write(options.request_id, "register", body.instances, (), options.expected_revision)
            command = Register(tuple(items), conditions)
            outcome = await propose(self._node, command, Registered, name, options.timeout_ms)
        except ArtemisError as exc:
            return self._refused("register", dialect, exc)
        if outcome.refused:
            failures.add_refused(accepted, outcome.refused)
            headers = self._said_of(outcome.refused, len(items))
        else:
            headers = record_headers(outcome.revision, outcome.lease_ids[0]) if len(items) == 1 else NOTHING_SAID
        return self._written("register", dialect, body, failures, outcome.revision, headers)

    async def unregister(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_bounded(await request.body(self._bytes_max), self._items_max)
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances and not body.keys:
            return self._nothing_sent("unregister", dialect, body)
        targets, failures = self._places.targets(body, dialect)
        conditions = conditions_of(targets.sent, body, options.expected_revision)
        try:
            if not targets.keys:
                return self._none_acceptable("unregister", dialect, body, failures)
            name = name_write(
                options.request_id, "unregister", body.instances or (), body.keys or (), options.expected_revision
            )
            command = Unregister(tuple(targets.keys), conditions)
            outcome = await propose(self._node, command, Unregistered, name, options.timeout_ms)
        except ArtemisError as exc:
            return self._refused("unregister", dialect, exc)
        failures.add_refused(targets.sent, outcome.refused)
        # Success also for instances that did not exist: it is the first call of every Java registration.
        headers = self._said_of(outcome.refused, len(targets.keys))
        return self._written("unregister", dialect, body, failures, outcome.revision, headers)

    async def heartbeat(self, request: Request) -> Answer:
        options = self._serving.options.write(request)
        body = read_bounded(await request.body(self._bytes_max), self._items_max)
        dialect = self._serving.dialect(body.naming, request)
        if not body.instances and not body.keys:
            return self._nothing_sent("heartbeat", dialect, body)
        try:
            beat = await self._heartbeats.beat(body, dialect, options.timeout_ms, options.expected_revision)
        except ArtemisError as exc:
            return self._refused("heartbeat", dialect, exc)
        outcome = NOTHING_SAID if beat.renewed or not beat.failures.any() else NOT_APPLIED
        return self._written("heartbeat", dialect, body, beat.failures, beat.revision, outcome, ordered=beat.ordered)

    @staticmethod
    def _said_of(refused: Sequence[Conflict], proposed: int) -> Headers:
        """Of a write that was ordered, whether nothing was done; and of a lone refused instance, what it is."""
        headers = NOT_APPLIED if len(refused) == proposed else NOTHING_SAID
        if proposed == 1 and refused:
            headers = headers + record_headers(refused[0].revision, refused[0].epoch)
        return headers

    def _nothing_sent(self, kind: Kind, dialect: Dialect, body: WriteBody) -> Answer:
        # An empty list of keys is a request of the snake_case contract, whatever its spelling.
        asked_for_nothing = body.keys is not None or (body.instances is not None and not dialect.empty_write_is_fault)
        if asked_for_nothing:
            return self._written(kind, dialect, body, Failures(), self._node.registry.revision, ordered=False)
        return self._failed(kind, dialect, "bad-request", "request.instances is null or empty.", NOT_APPLIED)

    def _none_acceptable(self, kind: Kind, dialect: Dialect, body: WriteBody, failures: Failures) -> Answer:
        """Nothing to propose. Raises ``Unavailable`` without a leader."""
        require_leader(self._node)
        outcome = NOT_APPLIED if failures.any() else NOTHING_SAID
        return self._written(kind, dialect, body, failures, self._node.registry.revision, outcome, ordered=False)

    def _written(
        self,
        kind: Kind,
        dialect: Dialect,
        body: WriteBody,
        failures: Failures,
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
        code, message = refusal(self._serving, exc)
        return self._failed(kind, dialect, code, message, outcome)

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
