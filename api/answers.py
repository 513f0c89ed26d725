"""Answers and their headers.

Every answer of the registry, discovery and cluster planes says which state it was computed from and by whom. The
headers of one node change only with its term, leader and protection, so all but four of them are ready-made tuples.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from artemis.api.compression import VARY
from artemis.api.faults import PHRASES, Headers, HttpFault
from artemis.api.ports import ReplicatedRegistry
from artemis.api.settings import Consistency
from artemis.consensus.status import NodeStatus

CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"*"),
    (b"access-control-allow-credentials", b"true"),
]
JSON: Headers = [(b"content-type", b"application/json"), *CORS]

NOT_APPLIED: Headers = [(b"x-artemis-outcome", b"not-applied")]
UNKNOWN: Headers = [(b"x-artemis-outcome", b"unknown")]

LEVELS: dict[Consistency | None, tuple[bytes, bytes]] = {
    "linearizable": (b"x-artemis-consistency", b"linearizable"),
    "session": (b"x-artemis-consistency", b"session"),
    "stale": (b"x-artemis-consistency", b"stale"),
    # The answer holds no data: nothing was read.
    None: (b"x-artemis-consistency", b"none"),
}


def head_bytes(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


LEVEL_LINES = {level: head_bytes([header]) for level, header in LEVELS.items()}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a handler made of a request. ``outcome`` is the code counted by the metrics."""

    body: bytes
    outcome: str
    status: NodeStatus
    revision: int
    """Of the state the body was computed from."""
    consistency: Consistency | None = None
    """The level really given; None when nothing was read."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    http_status: int = 200
    """Outcomes are HTTP 200 with their code in the body, with the few exceptions that clients rely on."""


class Heads:
    """Makes the heads of one node's answers: as header lists, or as the bytes they become."""

    def __init__(self, node: ReplicatedRegistry) -> None:
        self._node = node
        self._seen: tuple[int, str | None, bool, str | None] | None = None
        self._constant: Headers = []
        self._constant_bytes = b""

    def of(self, answer: Answer) -> Headers:
        self._refresh(answer.status)
        return [
            *self._constant,
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-artemis-revision", b"%d" % answer.revision),
            (b"x-artemis-apply-lag-ms", b"%d" % answer.status.apply_lag_ms),
            LEVELS[answer.consistency],
            *answer.headers,
        ]

    def bytes_of(self, answer: Answer) -> bytes:
        """The same, as a server writes it; what an answer adds by itself holds no line break (``options``)."""
        self._refresh(answer.status)
        head = b"%bcontent-length: %d\r\nx-artemis-revision: %d\r\nx-artemis-apply-lag-ms: %d\r\n%b" % (
            self._constant_bytes,
            len(answer.body),
            answer.revision,
            answer.status.apply_lag_ms,
            LEVEL_LINES[answer.consistency],
        )
        return head + head_bytes(answer.headers) if answer.headers else head

    def _refresh(self, status: NodeStatus) -> None:
        protected = self._node.registry.protected_scope
        seen = (status.term, status.leader_id, status.known_leader, protected)
        if seen != self._seen:
            self._constant = _constant(status)
            if protected is not None:
                # Some of what is listed may be gone: it is silent, and kept because too much is silent.
                self._constant.append((b"x-artemis-protection", protected.encode()))
            self._constant_bytes = head_bytes(self._constant)
            self._seen = seen

    def of_fault(self, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        """For an answer that no handler made: the state is named as it is now."""
        answer = Answer(body, "", self._node.status(), self._node.registry.revision, None, headers)
        return self.of(answer)


def _constant(status: NodeStatus) -> Headers:
    return [
        *JSON,
        VARY,
        (b"x-artemis-term", b"%d" % status.term),
        (b"x-artemis-node", status.node_id.encode()),
        (b"x-artemis-leader", (status.leader_id or "").encode()),
        (b"x-artemis-known-leader", b"true" if status.known_leader else b"false"),
    ]


def fault_body(fault: HttpFault, path: str, now_ms: int) -> bytes:
    if fault.bare:
        return b""
    return orjson.dumps(
        {
            "timestamp": now_ms,
            "status": fault.status.value,
            "error": PHRASES.get(fault.status, fault.status.phrase),
            "message": fault.message,
            "path": path,
        }
    )
