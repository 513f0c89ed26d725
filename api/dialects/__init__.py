"""Wire forms. The domain never sees a dialect, and a dialect never sees the log.

``java`` is camelCase with nulls and sorted keys; ``snake`` is snake_case with nulls omitted and the closed set of error
codes of the earlier Rust server; ``rust`` is the same in camelCase, for that server's later clients. Reading is common
to all (``bodies``). Codes are named as in ``java-http.md`` 4.1; each dialect spells them its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.model import Change, Member, Record
from artemis.outcomes import Conflict

Kind = Literal[
    "register",
    "heartbeat",
    "unregister",
    "lookup",
    "service",
    "services",
    "replicated-services",
    "delta",
    "watch",
    "nodes",
    "node-status",
    "cluster-status",
    "leases",
    "config",
    "deployment",
]

Code = Literal[
    "success",
    "partial_fail",
    "bad-request",
    "no-permission",
    "data-not-found",
    "internal-service-error",
    "service-unavailable",
    "rate-limited",
    "condition-failed",
    "request-id-reused",
]
"""The last two only callers of our own options meet; strict dialects say ``bad-request`` where the set is closed."""


class Data(dict[str, object]):
    """A JSON object whose keys are data, such as service ids: no dialect respells them."""


class FailedInstance(NamedTuple):
    instance: SentInstance
    code: Code
    message: str
    conflict: Conflict | None = None
    """What the instance is, where it is not what was expected."""


class FailedKey(NamedTuple):
    key: SentKey
    code: Code
    message: str
    conflict: Conflict | None = None
    """As of ``FailedInstance``. Without one the contract has the bare key, without a reason."""


class Dialect(Protocol):
    """How one family of clients is answered. Every method returns JSON bytes; fragments fit into the answers."""

    name: Literal["java", "snake", "rust"]
    strict: bool
    """Its clients decode strictly: a closed set of codes, 16-bit ports, no missing texts (snake, rust)."""
    unknown_service_is_fault: bool
    """A look-up of one unknown service fails (snake) or finds an empty service (java)."""
    empty_write_is_fault: bool
    """A write with an empty list of instances is a bad request (java) or does nothing (snake)."""

    def failed(self, kind: Kind, code: Code, message: str) -> bytes:
        """The whole request failed."""
        ...

    def written(
        self, kind: Kind, instances: Sequence[FailedInstance], keys: Sequence[FailedKey], *, by_key: bool
    ) -> bytes:
        """A write was done, except for ``instances`` and ``keys``. ``by_key``: the request named keys, not instances,
        and its sender knows only the closed set of codes."""
        ...

    def service(self, service_id: str, records: Iterable[Record]) -> bytes:
        """Fragment: a service as look-ups show it."""
        ...

    def listed_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        """Fragment: a service as the list of all services shows it."""
        ...

    def revised_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        """``service`` with the revision and the lease epoch of each instance."""
        ...

    def revised_listed_service(self, service_id: str, records: Iterable[Record]) -> bytes:
        """``listed_service`` with the same."""
        ...

    def unknown_service(self, service_id: str) -> bytes:
        """Fragment: a service without instances."""
        ...

    def found(self, service: bytes) -> bytes: ...

    def looked_up(self, services: Sequence[bytes]) -> bytes: ...

    def listed(self, services: Sequence[bytes], version: int) -> bytes: ...

    def changed(self, changes: Sequence[Change], version: int, epoch_offset_ms: int) -> bytes:
        """``changes`` in order of revision; ``changeTime`` is their lease clock plus ``epoch_offset_ms``."""
        ...

    def change(self, change: Change, epoch_offset_ms: int) -> bytes:
        """Fragment: one change with its revision, as a watch shows it."""
        ...

    def replicated(self, services: Sequence[bytes]) -> bytes:
        """All services as one node told another: without a version."""
        ...

    def nodes(self, members: Sequence[Member]) -> bytes: ...

    def fragment(self, fields: Mapping[str, object]) -> bytes:
        """Fragment: ``fields``, which are named in camelCase, as this dialect names and writes them."""
        ...

    def reported(self, fields: Mapping[str, object]) -> bytes:
        """A success with these fields, named in camelCase."""
        ...


class Spoken(NamedTuple):
    """The dialects of one path. A request spelled in snake_case is answered in it on every path."""

    unhinted: Dialect
    """For a request that shows neither spelling."""
    camel: Dialect


def changes_by_service(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """Changes of each service, in order, under its id as it was spelled first: identity ignores case, names keep it."""
    spelled: dict[str, str] = {}
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        service_id = change.instance.service_id
        grouped.setdefault(spelled.setdefault(service_id.lower(), service_id), []).append(change)
    return grouped


def joined(head: bytes, fragments: Sequence[bytes], tail: bytes) -> bytes:
    """``head``, the fragments with commas between them, ``tail``: in one copy, since all services are tens of MB."""
    if not fragments:
        return head + tail
    parts = list(fragments)
    parts[0] = head + parts[0]
    parts[-1] += tail
    return b",".join(parts)
