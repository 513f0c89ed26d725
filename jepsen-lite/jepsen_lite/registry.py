"""The registry operations as HTTP requests, and what one attempt proves.

Requests use the Java 2.x dialect (``/artemis/api``, camelCase). Outcomes are three: ``ok`` (happened, result known),
``fail`` (did not happen and never will), ``info`` (unknown). When in doubt ``info``: a wrong ``fail`` raises false
alarms, a wrong ``ok`` hides lost writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from jepsen_lite.http1 import Answer

REGION = "lab"
ZONE = "zone1"
OutcomeType = Literal["ok", "fail", "info"]
Consistency = Literal["linearizable", "session", "stale"]

REGISTER = "/artemis/api/registry/register.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
UNREGISTER = "/artemis/api/registry/unregister.json"
SERVICE = "/artemis/api/discovery/service.json"
LOOKUP = "/artemis/api/discovery/lookup.json"

REFUSED_CODES = frozenset({"bad-request", "no-permission", "rate-limited", "request-id-reused", "condition-failed"})
REFUSED_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429})
"""Refusals that come before anything is proposed."""


def instance(
    service_id: str, instance_id: str, metadata: Mapping[str, str] | None = None, *, ttl_ms: int | None = None
) -> dict[str, object]:
    """A full instance as the wire carries it; ``ttl_ms`` asks for a lease of that length (the answer omits it)."""
    asked: dict[str, object] = {} if ttl_ms is None else {"leaseTtlMs": ttl_ms}
    return {
        **asked,
        "groupId": "g1",
        "healthCheckUrl": "http://10.0.0.1:8090/health",
        "instanceId": instance_id,
        "ip": "10.0.0.1",
        "machineName": "host-a",
        "metadata": dict(metadata or {}),
        "port": 8090,
        "protocol": "http",
        "regionId": REGION,
        "serviceId": service_id,
        "status": "up",
        "url": f"http://10.0.0.1:8090/{instance_id}",
        "zoneId": ZONE,
    }


def instances_body(instances: Sequence[Mapping[str, object]]) -> bytes:
    """The body of register, heartbeat and unregister."""
    return orjson.dumps({"instances": list(instances)})


def service_body(service_id: str) -> bytes:
    """The body of a look-up of one service."""
    return orjson.dumps({"discoveryConfig": {"serviceId": service_id}, "regionId": REGION, "zoneId": ZONE})


def lookup_body(service_ids: Sequence[str]) -> bytes:
    """The body of a look-up of several services, which are answered from one state."""
    configs = [{"serviceId": service_id} for service_id in service_ids]
    return orjson.dumps({"discoveryConfigs": configs, "regionId": REGION, "zoneId": ZONE})


def read_headers(consistency: Consistency) -> dict[str, str]:
    return {"x-artemis-consistency": consistency}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the client saw of one attempt; ``outcome_of`` and the checker judge by nothing else."""

    sent: bool
    """The first byte of the request may have left."""
    status: int | None = None
    """HTTP status; None when no complete answer came."""
    code: str | None = None
    """``responseStatus.errorCode``; None when the body has none."""
    failed: tuple[str, ...] = ()
    """Error codes in ``failedInstances``."""
    outcome: str | None = None
    """The header ``x-artemis-outcome``."""


def evidence_of(answer: Answer) -> Evidence:
    """What a complete answer says of its request. A body that is not the expected JSON gives no code."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    status = _mapping(_mapping(body).get("responseStatus"))
    code = status.get("errorCode")
    failed = _mapping(body).get("failedInstances")
    codes = [_mapping(item).get("errorCode") for item in failed] if isinstance(failed, list) else []
    return Evidence(
        sent=True,
        status=answer.status,
        code=code if isinstance(code, str) else None,
        failed=tuple(str(item) for item in codes),
        outcome=answer.headers.get("x-artemis-outcome"),
    )


def outcome_of(evidence: Evidence) -> OutcomeType:
    """The outcome of a write of one instance."""
    if not evidence.sent:
        return "fail"
    if evidence.status == 200 and evidence.code == "success" and not evidence.failed:
        return "ok"
    if evidence.outcome == "not-applied":
        return "fail"
    if evidence.outcome == "unknown":
        return "info"
    if evidence.status in REFUSED_STATUSES:
        return "fail"
    if evidence.status == 200 and evidence.code in REFUSED_CODES:
        return "fail"
    if evidence.status == 200 and evidence.failed and set(evidence.failed) <= REFUSED_CODES:
        return "fail"
    return "info"


def instances_in(answer: Answer) -> list[dict[str, object]] | None:
    """The instances of a look-up's answer, as sent. None when it is not a successful look-up."""
    if evidence_of(answer).code != "success" or answer.status != 200:
        return None
    service = _mapping(answer.json()).get("service")
    if not isinstance(service, dict):
        return None
    instances = service.get("instances")
    return list(instances) if isinstance(instances, list) else []


def instance_ids(answer: Answer) -> list[str] | None:
    """The instance ids of a look-up's answer, in its order, with repetitions."""
    found = instances_in(answer)
    return None if found is None else [str(item.get("instanceId")) for item in found]


def ids_looked_up(answer: Answer) -> set[str] | None:
    """The instance ids of a look-up of several services. None when it did not succeed."""
    if evidence_of(answer).code != "success" or answer.status != 200:
        return None
    services = _mapping(answer.json()).get("services")
    if not isinstance(services, list):
        return None
    return {str(item["instanceId"]) for service in services for item in service["instances"] or ()}


def number(answer: Answer, header: str) -> int | None:
    """A header that holds an integer. None when it is missing or something else."""
    text = answer.headers.get(header, "")
    return int(text) if text.lstrip("-").isdigit() else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
