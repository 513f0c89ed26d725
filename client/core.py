"""All of a client but its IO: it builds calls, keeps what they share, and plans the heartbeats.

Not thread-safe, and it never blocks: the sync shell holds its lock around each use, the async one needs none.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

from artemis.client import wire
from artemis.client.actions import Answer
from artemis.client.answers import Accepted, FailedInstance, Interpret, Verdict, failures_of, interpreter, version_of
from artemis.client.call import Call, Operation, Session
from artemis.client.departure import Departure
from artemis.client.leases import Batch, HeartbeatPlan, Lease, Notice
from artemis.client.nodes import NodeChooser
from artemis.client.policy import RetryBudget, RetryPolicy
from artemis.client.results import CONSISTENCIES, Consistency, InstanceVersion, Provenance, Service, Services
from artemis.client.watching import FOUND, Found, Watching, checked
from artemis.errors import InvalidInput
from artemis.model import Instance, Member

logger = logging.getLogger("artemis.client")

T = TypeVar("T")

DEFAULT_TTL_MS = 20_000
"""The registry's own default, named in every registration: a client that guessed it would beat too slowly for a
registry configured otherwise."""
WATCHED_CHARACTERS_MAX = 60_000
"""Of the services of a watch, as an address spells them: nodes, and httpx, take no address beyond 64 KiB."""


class Core:
    def __init__(
        self,
        nodes: Sequence[str],
        *,
        region_id: str | None,
        zone_id: str | None,
        default_ttl_ms: int,
        policy: RetryPolicy,
        rng: random.Random,
        new_request_id: Callable[[], str],
    ) -> None:
        if isinstance(nodes, str) or not isinstance(nodes, Iterable):
            raise InvalidInput("nodes", f"must be a list of addresses, not {nodes!r}")
        for field, value in (("region_id", region_id), ("zone_id", zone_id)):
            if value is not None and not isinstance(value, str):
                raise InvalidInput(field, f"must be a text, not {value!r}")
        if not isinstance(policy, RetryPolicy):
            raise InvalidInput("policy", f"must be a RetryPolicy, not {policy!r}")
        self._region_id = region_id
        self._zone_id = zone_id
        self._default_ttl_ms = _checked_ttl("default_ttl_ms", default_ttl_ms)
        self.policy = policy
        self._rng = rng
        self._new_request_id = new_request_id
        self._nodes = NodeChooser(nodes, rng)
        self._retries = RetryBudget()
        # Heartbeats pay from their own budget: look-ups that retry through an outage must not cost a lease.
        self._lease_retries = RetryBudget()
        # So do watches, which ask for ever: what they spend in an outage is missing to the calls after it.
        self._watch_retries = RetryBudget()
        self.session = Session()
        self.plan = HeartbeatPlan(rng)

    def forget_leases(self) -> None:
        """After a fork: the leases stay with the parent, and no random number may be drawn twice."""
        self._rng.seed()
        self.plan = HeartbeatPlan(self._rng)

    def new_lease(self, instance: Instance, ttl_ms: int | None, expected: wire.Expected = wire.ANYTHING) -> Lease:
        """Checked before anything is sent. Raises ``InvalidInput``."""
        if not isinstance(instance, Instance):
            raise InvalidInput("instance", f"must be an Instance, not {instance!r}")
        for field in ("service_id", "instance_id", "url"):
            value = getattr(instance, field)
            if not (isinstance(value, str) and value.strip()):
                raise InvalidInput(f"instance.{field}", f"must be a text that is not blank, not {value!r}")
        for field, value in (("expected_revision", expected.revision), ("expected_epoch", expected.epoch)):
            if value is not None and not _is_count(value):
                raise InvalidInput(field, f"must be a whole number, 0 or more, not {value!r}")
        return Lease(
            instance=instance,
            ttl_ms=self._default_ttl_ms if ttl_ms is None else _checked_ttl("ttl_ms", ttl_ms),
            conditional=expected != wire.ANYTHING,
        )

    def register(self, lease: Lease, expected: wire.Expected = wire.ANYTHING) -> Call[InstanceVersion | None]:
        body = wire.encode_instances([(lease.instance, lease.ttl_ms, expected)])
        return self._call(wire.REGISTER_PATH, body, _registered, changes=True, request_id=True)

    def departure(self, leases: Sequence[Lease], deadline: float) -> Departure:
        return Departure(leases, self.plan.batch_max, deadline, self.unregister)

    def unregister(self, leases: Iterable[Lease], budget_s: float | None = None) -> Call[None]:
        body = wire.encode_instances([(lease.instance, None, lease.expected) for lease in leases])
        return self._call(wire.UNREGISTER_PATH, body, _GONE, changes=True, request_id=True, budget_s=budget_s)

    def lookup(
        self, service_id: str, consistency: Consistency, max_stale_ms: int | None, *, versions: bool = False
    ) -> Call[Service]:
        if not (isinstance(service_id, str) and service_id.strip()):
            raise InvalidInput("service_id", f"must be a text that is not blank, not {service_id!r}")
        body = wire.encode_lookup((service_id,), self._region_id, self._zone_id)

        def accept(response: wire.ServicesResponse, provenance: Provenance) -> Service:
            found = response.services or ()
            return _service(found[0] if found else wire.WireService(service_id), provenance)

        interpret = interpreter(wire.ServicesResponse, accept)
        return self._read(wire.LOOKUP_PATH, body, interpret, consistency, max_stale_ms, versions=versions)

    def services(self, consistency: Consistency, max_stale_ms: int | None) -> Call[Services]:
        body = wire.encode_scope(self._region_id, self._zone_id)
        return self._read(wire.SERVICES_PATH, body, _SERVICES, consistency, max_stale_ms)

    def watching(self, services: str | Sequence[str] | None, since: int | None, wait_s: float) -> Watching:
        """Checked before anything is sent. Raises ``InvalidInput``."""
        names = checked(services, since, wait_s)
        filtered = "" if names is None else f"&services={quote(','.join(names), safe=',')}"
        if len(filtered) > WATCHED_CHARACTERS_MAX:
            rule = f"take {len(filtered)} characters of an address, {WATCHED_CHARACTERS_MAX} are allowed"
            raise InvalidInput("services", f"{rule}; without it all are watched")

        def poll(revision: int, wait_ms: int) -> Call[Found]:
            # Two polls fit, each of which may last as long as it asks for; a node that is behind is left sooner.
            policy = replace(
                self.policy,
                budget_s=self.policy.budget_s + 2 * wait_ms / 1000,
                read_timeout_s=self.policy.read_timeout_s + wait_ms / 1000,
            )
            operation = Operation(
                path=f"{wire.WATCH_PATH}?since={revision}&wait={wait_ms}{filtered}",
                body=b"",
                headers={"accept": "application/json"},
                interpret=FOUND,
                changes=False,
                method="GET",
                node_budget_ms=max(1, int(self.policy.read_timeout_s * 900)),
            )
            return self._made(operation, policy, self._watch_retries)

        def read() -> Call[Services]:
            if names is None:
                path, body = wire.SERVICES_PATH, wire.encode_scope(self._region_id, self._zone_id)
            else:
                path, body = wire.LOOKUP_PATH, wire.encode_lookup(names, self._region_id, self._zone_id)
            return self._read(path, body, _SERVICES, "linearizable", None, retries=self._watch_retries)

        def pause_s() -> float:
            return self._rng.uniform(0.5, 1.0) * self.policy.backoff_max_s

        return Watching(since, wait_s, poll, read, pause_s)

    def members(self) -> Call[tuple[Member, ...]]:
        # Any zone and region: the members are asked for, not those near this client.
        return self._call(wire.MEMBERS_PATH, wire.encode_scope(None, None), _MEMBERS, changes=False)

    def next_batch(self, now: float) -> tuple[list[Notice], Batch | None, float | None]:
        """What the heartbeat loop does now: tell the notices, then send the batch; without one, seconds to wait (None:
        until a lease is added)."""
        notices = self.plan.expire(now)
        batch = self.plan.take(now)
        return notices, batch, None if batch else self.plan.delay_s(now)

    def lease_call(self, batch: Batch) -> Call[tuple[FailedInstance, ...]]:
        """A renewal has no request id. Repeating it is harmless by itself, and the registry keeps the outcomes of named
        requests for minutes and in bounded number: heartbeats would push out those of registrations."""
        path = _BATCH_PATHS[batch.kind]
        with_ttl = batch.kind == "register"
        body = wire.encode_instances(
            (lease.instance, lease.ttl_ms if with_ttl else None, lease.expected) for lease in batch.leases
        )
        return self._call(
            path,
            body,
            _FAILURES,
            changes=True,
            request_id=batch.kind != "renew",
            budget_s=batch.budget_s,
            retries=self._lease_retries,
        )

    def lease_call_done(
        self, batch: Batch, call: Call[tuple[FailedInstance, ...]], failed: Sequence[FailedInstance], now: float
    ) -> list[Notice]:
        began_at = call.attempt_started_at if batch.kind == "renew" else call.started_at
        return self.plan.settle(batch, failed, began_at, now)

    def _read(
        self,
        path: str,
        body: bytes,
        interpret: Interpret[T],
        consistency: Consistency,
        max_stale_ms: int | None,
        *,
        versions: bool = False,
        retries: RetryBudget | None = None,
    ) -> Call[T]:
        if consistency not in CONSISTENCIES:
            raise InvalidInput("consistency", f"must be one of {', '.join(CONSISTENCIES)}, not {consistency!r}")
        headers: dict[str, str] = {"x-artemis-consistency": consistency}
        if versions:
            headers["x-artemis-instance-revisions"] = "true"
        if consistency == "session":
            headers["x-artemis-min-revision"] = str(self.session.revision)
        if max_stale_ms is not None:
            if not _is_count(max_stale_ms) or consistency != "stale":
                rule = f"must be 0 or more, not {max_stale_ms!r}, and goes with consistency='stale' only"
                raise InvalidInput("max_stale_ms", rule)
            headers["x-artemis-max-stale-ms"] = str(max_stale_ms)
        return self._call(path, body, interpret, changes=False, headers=headers, retries=retries)

    def _call(
        self,
        path: str,
        body: bytes,
        interpret: Interpret[T],
        *,
        changes: bool,
        headers: dict[str, str] | None = None,
        request_id: bool = False,
        budget_s: float | None = None,
        retries: RetryBudget | None = None,
    ) -> Call[T]:
        all_headers = {"content-type": "application/json", "accept": "application/json", **(headers or {})}
        if request_id:
            all_headers["x-artemis-request-id"] = self._new_request_id()
        operation = Operation(path=path, body=body, headers=all_headers, interpret=interpret, changes=changes)
        return self._made(operation, self.policy if budget_s is None else self.policy.within(budget_s), retries)

    def _made(self, operation: Operation[T], policy: RetryPolicy, retries: RetryBudget | None = None) -> Call[T]:
        return Call(
            operation,
            policy=policy,
            nodes=self._nodes,
            retries=retries or self._retries,
            session=self.session,
            rng=self._rng,
        )


def tell(notices: Iterable[Notice]) -> None:
    """Log what happened to leases and call their owners. What an owner's code raises is logged and ends there: one
    faulty callback must not cost the other leases their heartbeats."""
    for notice in notices:
        logger.log(logging.WARNING if notice.is_loss else logging.INFO, "%s", notice.text)
        if notice.callback is None:
            continue
        try:
            notice.callback()
        except Exception:
            logger.exception("a callback raised; heartbeats go on")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _checked_ttl(field: str, ttl_ms: int) -> int:
    if isinstance(ttl_ms, bool) or not isinstance(ttl_ms, int) or ttl_ms <= 0:
        raise InvalidInput(field, f"must be a whole number of milliseconds above 0, not {ttl_ms!r}")
    return ttl_ms


def _service(found: wire.WireService, provenance: Provenance) -> Service:
    versions = [
        InstanceVersion(instance.revision, instance.lease_epoch)
        for instance in found.instances or ()
        if instance.revision is not None and instance.lease_epoch is not None
    ]
    return Service(
        service_id=found.service_id,
        instances=tuple(map(wire.instance_of, found.instances or ())),
        versions=tuple(versions),
        node=provenance.node,
        revision=provenance.revision,
        consistency=provenance.consistency,
        age_ms=provenance.age_ms,
    )


def _accept_services(response: wire.ServicesResponse, provenance: Provenance) -> Services:
    return Services(
        services=tuple(_service(found, provenance) for found in response.services or ()),
        node=provenance.node,
        revision=provenance.revision,
        consistency=provenance.consistency,
        age_ms=provenance.age_ms,
    )


def _accept_if_nothing_failed(response: wire.RegistryResponse, provenance: Provenance) -> None:
    for failure in failures_of(response):
        raise failure.to_error()


def _accept_if_gone(response: wire.RegistryResponse, provenance: Provenance) -> None:
    """What was another registration than the one to be taken out is not there any more."""
    for failure in failures_of(response):
        if not failure.is_conflict:
            raise failure.to_error()


def _registered(answer: Answer, node: str) -> Verdict[InstanceVersion | None]:
    verdict = _NOTHING_FAILED(answer, node)
    return Accepted(version_of(answer), verdict.provenance) if isinstance(verdict, Accepted) else verdict


_NOTHING_FAILED: Interpret[None] = interpreter(wire.RegistryResponse, _accept_if_nothing_failed)
_GONE: Interpret[None] = interpreter(wire.RegistryResponse, _accept_if_gone)
_FAILURES = interpreter(wire.RegistryResponse, lambda response, _: failures_of(response))
_SERVICES = interpreter(wire.ServicesResponse, _accept_services)
_MEMBERS = interpreter(wire.NodesResponse, lambda response, _: wire.members_of(response), empty_on_not_found=True)
_BATCH_PATHS = {"unregister": wire.UNREGISTER_PATH, "register": wire.REGISTER_PATH, "renew": wire.HEARTBEAT_PATH}
