"""Wire forms. The domain never sees a dialect, and a dialect never sees the log.

``java`` is camelCase with nulls and sorted keys; ``snake`` is snake_case with nulls omitted and the closed set of error
codes of the earlier Rust server. Reading is common to both (``bodies``). Codes are named as in ``java-http.md`` 4.1;
each dialect spells them its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.model import Change, Instance, Member

Kind = Literal["register", "heartbeat", "unregister", "lookup", "service", "services", "delta", "nodes"]

Code = Literal[
    "success",
    "partial_fail",
    "bad-request",
    "no-permission",
    "data-not-found",
    "internal-service-error",
    "service-unavailable",
]


class FailedInstance(NamedTuple):
    instance: SentInstance
    code: Code
    message: str


class Dialect(Protocol):
    """How one family of clients is answered. Every method returns JSON bytes; fragments fit into the answers."""

    name: Literal["java", "snake"]
    unknown_service_is_fault: bool
    """A look-up of one unknown service fails (snake) or finds an empty service (java)."""
    empty_write_is_fault: bool
    """A write with an empty list of instances is a bad request (java) or does nothing (snake)."""

    def failed(self, kind: Kind, code: Code, message: str) -> bytes:
        """The whole request failed."""
        ...

    def written(
        self, kind: Kind, instances: Sequence[FailedInstance], keys: Sequence[SentKey], *, by_key: bool
    ) -> bytes:
        """A write was done, except for ``instances`` and ``keys``. ``by_key``: the request named keys, not instances,
        and its sender knows only the closed set of codes."""
        ...

    def service(self, service_id: str, instances: Iterable[Instance]) -> bytes:
        """Fragment: a service as look-ups show it."""
        ...

    def listed_service(self, service_id: str, instances: Iterable[Instance]) -> bytes:
        """Fragment: a service as the list of all services shows it."""
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

    def nodes(self, members: Sequence[Member]) -> bytes: ...


def changes_by_service(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """Changes of each service, in order, under its id as it was spelled first: identity ignores case, names keep it."""
    spelled: dict[str, str] = {}
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        service_id = change.instance.service_id
        grouped.setdefault(spelled.setdefault(service_id.lower(), service_id), []).append(change)
    return grouped
