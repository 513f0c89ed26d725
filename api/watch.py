"""What both ways of watching share: how a watch is asked for, and how changes are written.

A watch is asked for by the last revision its client has seen (``since``), or ``now`` for what comes from here on, and
by the services it is for. Everything after that revision is then given once, in order, and the changes of one entry of
the log together; each answer names the revision to go on from, at this node or any other. A revision that this node has
not reached is waited for, as a session read waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from artemis.api.dialects import Dialect, Spoken
from artemis.api.faults import bad_request, shown
from artemis.api.feed import Batch, Subscription
from artemis.api.serving import JAVA, RUST, SNAKE, Serving
from artemis.api.sockets import SocketMessage, text_message
from artemis.consensus.status import NodeStatus
from artemis.errors import Unavailable
from artemis.model import Change, canonical

INT64_MAX = 2**63 - 1
SERVICES_MAX = 1_000
"""Services that one watch may name; to watch more, watch all."""
NOW: Literal["now"] = "now"
Since = int | Literal["now"]

MESSAGES_KEPT = 64
"""Ready-made messages: as many batches as may be on their way to slow and to quick readers at once."""
MESSAGE_CHANGES_MAX = 16
"""A message with more changes is put together for each reader anew, from encoded changes."""


class Asked(NamedTuple):
    since: Since
    services: frozenset[str] | None
    """Canonical; None for all."""


def read_since(value: object) -> Since:
    """Raises ``HttpFault``."""
    if value == NOW:
        return NOW
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INT64_MAX:
        return value
    raise bad_request(f'since: a revision from 0 to {INT64_MAX} or "now" is allowed, not {shown(value)}')


def read_services(names: Iterable[object]) -> frozenset[str]:
    """Raises ``HttpFault``. Spaces around a name are part of it, as they are for the registry: without them it would
    be a watch of another service, and nothing would ever come."""
    services: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name or name.isspace():
            raise bad_request(f"services: each must be the id of a service, not {shown(name)}")
        services.add(canonical(name))
    if not 0 < len(services) <= SERVICES_MAX:
        raise bad_request(
            f"services: 1 to {SERVICES_MAX} are allowed, not {len(services)}; without the parameter all are watched"
        )
    return frozenset(services)


def read_naming(value: object, spoken: Spoken) -> Dialect:
    """``naming`` says how the answer is spelled; without it the path decides. Raises ``HttpFault``."""
    if value is None:
        return spoken.unhinted
    if value == "snake":
        return SNAKE
    if value == "camel":
        return spoken.camel
    raise bad_request(f"naming: snake or camel is allowed, not {shown(value)}")


class WatchCounters:
    """Since the start of the node; ``watch_metrics`` shows them."""

    def __init__(self) -> None:
        self.batches = {"poll": 0, "socket": 0}
        self.changes = {"poll": 0, "socket": 0}
        self.bookmarks = {"poll": 0, "socket": 0}
        self.compacted = 0
        """Watches that began at a revision that is too old."""
        self.resyncs = 0
        """Readers that fell behind what is kept."""

    def lost(self, *, begun: bool) -> None:
        if begun:
            self.resyncs += 1
        else:
            self.compacted += 1

    def sent(self, kind: Literal["poll", "socket"], batch: Batch) -> None:
        if batch.changes:
            self.batches[kind] += 1
            self.changes[kind] += len(batch.changes)
        else:
            self.bookmarks[kind] += 1


class Watches:
    """Everything that is watched at one node."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._node = serving.node
        self._encoders = {dialect.name: Encoder(serving, dialect) for dialect in (JAVA, SNAKE, RUST)}
        self._open: dict[Subscription, None] = {}
        self._looked_at = -1.0
        self._seen = serving.node.status()
        self._bookmark = (-1, text_message(b""))
        self.counters = WatchCounters()

    def encoder(self, dialect: Dialect) -> Encoder:
        return self._encoders[dialect.name]

    async def reach(self, since: Since, timeout_ms: int) -> int:
        """The revision to watch from, when this node has it. Raises ``Unavailable``."""
        if since == NOW:
            await self._node.barrier(timeout_ms=timeout_ms)
            return self._node.registry.revision
        self.check_well()
        await self._node.applied(since, timeout_ms=timeout_ms)
        self.check_well()
        return since

    def bookmark(self, revision: int) -> SocketMessage:
        """Most sockets get theirs at the same revision, one after the other."""
        if self._bookmark[0] != revision:
            self._bookmark = revision, text_message(b'{"type":"bookmark","revision":%d}' % revision)
        return self._bookmark[1]

    @contextmanager
    def reading(self, subscription: Subscription) -> Iterator[None]:
        """Count it among the open ones."""
        self._open[subscription] = None
        try:
            yield
        finally:
            del self._open[subscription]

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def lag_revisions(self) -> int:
        """How far the slowest reader is behind."""
        revision = self._node.registry.revision
        return max((max(0, revision - subscription.revision) for subscription in self._open), default=0)

    def check_ready(self) -> None:
        """Raise ``Unavailable`` when this node may not be believed: it lags, or its state differs from its peers'."""
        if not self._status().ready:
            raise Unavailable("this node is not ready", definite=True)

    def check_well(self) -> None:
        """Raise ``Unavailable`` also when another node is a better place to watch: this one may hear late."""
        self.check_ready()
        if not self._status().known_leader:
            raise Unavailable("this node knows no leader", definite=True)

    def _status(self) -> NodeStatus:
        """Made once for all readers that are called in one turn of the loop."""
        now = asyncio.get_running_loop().time()
        if self._looked_at != now:
            self._looked_at, self._seen = now, self._node.status()
        return self._seen


class Encoder:
    """Changes in one dialect. Bytes are shared by all readers."""

    def __init__(self, serving: Serving, dialect: Dialect) -> None:
        self._serving = serving
        self._dialect = dialect
        self._messages: dict[tuple[int, ...], SocketMessage] = {}
        self._encode = self._change

    def changes(self, changes: Sequence[Change]) -> bytes:
        """A JSON array."""
        one, encode = self._serving.changes.one, self._encode
        return b"[%b]" % b",".join([one(encode, change) for change in changes])

    def message(self, batch: Batch) -> SocketMessage:
        """The batch as a message of a socket."""
        if len(batch.changes) > MESSAGE_CHANGES_MAX:
            return self._message(batch)
        key = (batch.revision, *(change.revision for change in batch.changes))
        message = self._messages.get(key)
        if message is None:
            while len(self._messages) >= MESSAGES_KEPT:
                del self._messages[next(iter(self._messages))]
            message = self._messages[key] = self._message(batch)
        return message

    def _message(self, batch: Batch) -> SocketMessage:
        return text_message(
            b'{"type":"changes","changes":%b,"revision":%d}' % (self.changes(batch.changes), batch.revision)
        )

    def _change(self, change: Change) -> bytes:
        # The lease clock counts from the cluster's beginning; the newest stamp was set about now.
        epoch_offset_ms = self._serving.now_ms() - self._serving.node.registry.clock_ms
        return self._dialect.change(change, epoch_offset_ms)
