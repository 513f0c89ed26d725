"""What the HTTP side needs of the replicated log. ``artemis.consensus.node.Node`` is the real one; the tests also run
the same application on an in-memory log (``tests/support/loopback.py``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from artemis.commands import Command, RequestId
from artemis.consensus.status import NodeStatus
from artemis.outcomes import Outcome
from artemis.registry import Registry


class ReplicatedRegistry(Protocol):
    """One node's view of the registry and its two doors: propose a change, wait until a read is current."""

    @property
    def registry(self) -> Registry:
        """The applied state. Read only, and only between two awaits: it changes at the next turn of the loop.
        Installing a snapshot replaces the object, so take it afresh for each request."""

    def propose(self, command: Command, *, request: RequestId | None = None, timeout_ms: int) -> Awaitable[Outcome]:
        """Order the command and apply it on this node. The outcome is this node's own ``apply``.

        Raises ``Unavailable``: definite while the proposal has not left this node, else it may still happen.
        """

    def barrier(self, *, timeout_ms: int) -> Awaitable[None]:
        """Return when the applied state holds every write acknowledged anywhere before this call.
        Raises ``Unavailable`` (definite) when the leader or its majority cannot be reached in time."""

    def applied(self, revision: int, *, timeout_ms: int) -> Awaitable[None]:
        """Return when the applied revision is at least ``revision``. Raises ``Unavailable`` (definite) when the
        budget ends first."""

    def status(self) -> NodeStatus: ...

    def on_applied(self, listener: Callable[[int], None]) -> None:
        """Call ``listener(applied_index)`` after each applied entry. It must not raise and not block."""
