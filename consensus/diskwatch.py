"""The journal's disk as the engine sees it: well, slow, or failing, and how it comes back.

A node whose journal cannot be written acknowledges nothing (what it would send waits for the disk or is dropped), does
not lead, and says so; when the disk works again it goes on where it was. A write that has not returned within an
election timeout counts as failing too: until it does, this node is no copy for anyone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from artemis.consensus.journal import Journal
from artemis.consensus.ports import DiskQueue
from artemis.errors import DataDamaged

log = logging.getLogger("artemis.consensus")

REPAIR_SECONDS = 1.0
"""How often a failed disk is tried again."""


class Host(Protocol):
    """What this part asks of the engine."""

    journal: Journal

    def now(self) -> float: ...

    def on_synced(self) -> None:
        """Everything up to ``journal.synced_lsn`` is on disk."""

    def on_disk_failed(self) -> None:
        """What waits for the disk will not be on it in the order in which it was promised."""

    def fail(self, reason: str) -> None: ...


class DiskWatch:
    def __init__(self, host: Host, queue: DiskQueue, stuck_seconds: float) -> None:
        self._host = host
        self._queue = queue
        self._stuck_seconds = stuck_seconds
        self._began_at: float | None = None
        self._try_again_at = float("-inf")
        self.failure: str | None = None

    @property
    def well(self) -> bool:
        return self.reason() is None

    def reason(self) -> str | None:
        """Why this node is no durable copy now; None when all is well."""
        if self.failure is not None:
            return f"the journal cannot be written: {self.failure}"
        if self._began_at is not None and self._host.now() - self._began_at >= self._stuck_seconds:
            return f"a write to the journal has not returned for {int((self._host.now() - self._began_at) * 1000)} ms"
        return None

    @property
    def due_at(self) -> float:
        """When the state of this disk changes although it says nothing, or it has to be tried again."""
        if self.failure is not None:
            return self._try_again_at
        return float("inf") if self._began_at is None else self._began_at + self._stuck_seconds

    def sync(self) -> None:
        """Bring what is pending to the disk, or the disk back to life."""
        journal = self._host.journal
        if self.failure is None:
            if journal.in_step:
                return
            journal.begin_sync(self._queue, self._guarded(self._synced))
        elif self._host.now() >= self._try_again_at:
            journal.repair(self._queue, self._guarded(self._repaired))
        if journal.syncing and self._began_at is None:
            self._began_at = self._host.now()

    def _guarded(self, done: Callable[[Exception | None], None]) -> Callable[[Exception | None], None]:
        def finished(error: Exception | None) -> None:
            self._began_at = None
            done(error)

        return finished

    def _synced(self, error: Exception | None) -> None:
        if error is not None:
            self._failed(error)
            self._host.on_disk_failed()
            return
        self._host.on_synced()

    def _repaired(self, error: Exception | None) -> None:
        if isinstance(error, DataDamaged):
            # Not a disk that fails now and may work later: what it had taken is gone.
            self._host.fail(str(error))
        elif error is not None:
            self._failed(error)
        else:
            log.warning("the journal can be written again")
            self.failure = None
            self._host.on_synced()

    def _failed(self, error: Exception) -> None:
        self._try_again_at = self._host.now() + REPAIR_SECONDS
        if self.failure is None:
            log.error("the journal cannot be written; this node neither leads nor acknowledges: %s", error)
        self.failure = str(error)
