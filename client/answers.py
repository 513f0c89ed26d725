"""What an answer means: the value, an error for the caller, or a reason to ask another node. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import msgspec

from artemis.client.actions import Answer
from artemis.client.errors import ConditionFailed, Refused
from artemis.client.results import InstanceVersion, Provenance
from artemis.client.wire import RegistryResponse, Response, WireFailedInstance, instance_of
from artemis.errors import ArtemisError, InvalidInput, RequestIdReused
from artemis.model import InstanceKey, key_of

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R", bound=Response)

RETRYABLE_CODES = frozenset({"service-unavailable", "rate-limited", "internal-service-error", "unknown"})
"""Troubles of one node. All others are about the request, and every node would say the same."""
AGE_UNKNOWN_MS = 9_007_199_254_740
"""2**53 microseconds: what nodes write for an age that nobody vouches for."""
RETRYABLE_HTTP = frozenset({408, 425, 429})

# "lab/zone1/svc1/i1: Exception: instance.url is blank", and the older "argument instance.url is null or whitespace"
_FIELD_RULE = re.compile(r"(?:^|[:\s])(instance\.\w+):? (.+)$", re.DOTALL)


class _Fault(msgspec.Struct):
    message: str = ""


@dataclass(frozen=True, slots=True)
class Accepted(Generic[T_co]):
    value: T_co
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Rejected:
    error: ArtemisError


@dataclass(frozen=True, slots=True)
class TryElsewhere:
    reason: str


Verdict = Accepted[T] | Rejected | TryElsewhere
Interpret = Callable[[Answer, str], Verdict[T]]
"""``(answer, address of the node) -> verdict``"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedInstance:
    """One instance of a request that the registry did not take."""

    key: InstanceKey | None
    code: str
    message: str
    present: InstanceVersion | None = None
    """What is registered, where that is not what was expected."""

    @property
    def is_conflict(self) -> bool:
        return self.code == "condition-failed"

    @property
    def is_unknown(self) -> bool:
        """The registry has no such instance: it must be registered again (the second code is the earlier clients')."""
        return self.code in ("data-not-found", "unknown")

    def to_error(self) -> ArtemisError:
        if self.is_conflict:
            present = self.present or InstanceVersion(0, 0)
            return ConditionFailed(self.code, self.message, revision=present.revision, epoch=present.epoch)
        found = _FIELD_RULE.search(self.message)
        if found and self.code in ("internal-service-error", "bad-request"):
            return InvalidInput(found[1], found[2])
        if self.code == "bad-request":
            return InvalidInput("instance", self.message)
        return Refused(self.code, self.message)


def interpreter(
    response_type: type[R], accept: Callable[[R, Provenance], T], *, empty_on_not_found: bool = False
) -> Interpret[T]:
    """Reads answers of one type. ``accept`` may raise an ``ArtemisError``, which is then the verdict."""
    decode = msgspec.json.Decoder(response_type, strict=False).decode

    def interpret(answer: Answer, node: str) -> Verdict[T]:
        trouble = _http_trouble(answer)
        if trouble is not None:
            return trouble
        try:
            response = decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            # A proxy's page, or an answer cut short: it says nothing about the request.
            return TryElsewhere(f"unreadable answer: {exc}")
        status = response.response_status
        code = status.error_code or "unknown"
        if status.status == "fail" and not (empty_on_not_found and code == "data-not-found"):
            return _failed(code, status.message or "")
        provenance = _provenance(answer, node)
        if status.status == "partial_fail":
            # What a node refuses by itself was never ordered, so the revision beside it may be an old one.
            provenance = replace(provenance, consistency=None)
        try:
            return Accepted(accept(response, provenance), provenance)
        except ArtemisError as exc:
            return Rejected(exc)

    return interpret


def failures_of(response: RegistryResponse) -> tuple[FailedInstance, ...]:
    return tuple(
        FailedInstance(
            key=_key(failed),
            code=failed.error_code or "unknown",
            message=failed.error_message or "",
            present=InstanceVersion(failed.current_revision or 0, failed.current_epoch or 0)
            if failed.error_code == "condition-failed"
            else None,
        )
        for failed in response.failed_instances or ()
    )


def version_of(answer: Answer) -> InstanceVersion | None:
    """Of the one instance that was registered; None if the node did not say (an earlier Artemis server)."""
    revision = answer.headers.get("etag", "").strip('"')
    epoch = answer.headers.get("x-artemis-lease-epoch", "")
    if not (revision.isascii() and revision.isdecimal() and epoch.isascii() and epoch.isdecimal()):
        return None
    return InstanceVersion(int(revision), int(epoch))


def surely_not_applied(answer: Answer) -> bool:
    """Whether a node that failed says that the write did not and will not happen."""
    return answer.headers.get("x-artemis-outcome") == "not-applied"


def _http_trouble(answer: Answer) -> TryElsewhere | Rejected | None:
    if answer.status == 200:
        return None
    text = _fault_message(answer.body)
    if answer.status >= 500 or answer.status in RETRYABLE_HTTP:
        return TryElsewhere(f"HTTP {answer.status} {text}".rstrip())
    if answer.status in (400, 422):
        return Rejected(_invalid_input(text or "not understood (HTTP 400)"))
    return Rejected(Refused(f"http-{answer.status}", text))


def _fault_message(body: bytes) -> str:
    """The ``message`` of a node's fault body, else the beginning of whatever it is."""
    try:
        message = msgspec.json.decode(body, type=_Fault).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = ""
    return message or body[:300].decode("utf-8", "replace").strip()


def _invalid_input(text: str) -> InvalidInput:
    """Faults begin with the part that is wrong: ``body: a JSON object is required``."""
    field, colon, rule = text.partition(": ")
    return InvalidInput(field, rule) if colon and " " not in field else InvalidInput("request", text)


def _failed(code: str, message: str) -> TryElsewhere | Rejected:
    if code in RETRYABLE_CODES:
        return TryElsewhere(f"{code}: {message}" if message else code)
    if code == "request-id-reused":
        return Rejected(RequestIdReused(message))
    if code == "bad-request":
        return Rejected(_invalid_input(message))
    return Rejected(Refused(code, message))


def _key(failed: WireFailedInstance) -> InstanceKey | None:
    return key_of(instance_of(failed.instance)) if failed.instance is not None else None


def _provenance(answer: Answer, node: str) -> Provenance:
    headers = answer.headers
    revision = headers.get("x-artemis-revision", "")
    age_ms = _number(headers.get("x-artemis-apply-lag-ms", ""))
    return Provenance(
        node=headers.get("x-artemis-node") or node,
        revision=int(revision) if revision.isascii() and revision.isdecimal() else None,
        consistency=headers.get("x-artemis-consistency"),
        age_ms=age_ms if age_ms is not None and age_ms < AGE_UNKNOWN_MS else None,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
