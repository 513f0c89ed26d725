"""Every place where PySyncObj is touched beyond its public names, in one file.

PySyncObj is a dependency, not vendored, so its private names may change with any release. ``check`` runs at start and
refuses any version but the one that was read, and any class that lacks a name we use: a silent mismatch would be a
guard that guards nothing.

Two module functions are replaced, both to give the core what it otherwise takes from the machine:

- ``createJournal`` hands our ``Journal`` through, so that the constructor recovers term, vote and log from it;
- ``monotonicTime`` and ``random`` read the clock and the randomness of the engine that is running (``activate``).
  One thread runs one engine at a time, so one slot is enough, also when a simulation runs many engines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pysyncobj.syncobj as _syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION as _INSTALLED_VERSION

from artemis.consensus.journal import Journal
from artemis.consensus.ports import Clock, Random

PYSYNCOBJ_VERSION: Final = "0.3.17"

PRIVATE_METHODS: Final = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__connectedToAnyone",
    "_SyncObj__deleteEntriesTo",
    "_SyncObj__doApplyCommand",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__getCurrentLogIndex",
    "_SyncObj__onBecomeLeader",
    "_SyncObj__onMessageReceived",
    "_SyncObj__onNodeConnected",
    "_SyncObj__onNodeDisconnected",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
    "_SyncObj__tryLogCompaction",
    "_applyCommand",
    "_checkCommandsToApply",
)
PRIVATE_FIELDS: Final = (
    "_SyncObj__commandsQueue",
    "_SyncObj__lastResponseTime",
    "_SyncObj__newAppendEntriesTime",
    "_SyncObj__noopIDx",
    "_SyncObj__numOneSecondDumps",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftLeader",
    "_SyncObj__raftLog",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftState",
    "_SyncObj__serializer",
    "_SyncObj__startTime",
    "_SyncObj__votedForNodeId",
    "_poller",
)


def activate(clock: Clock, rng: Random) -> None:
    """Everything PySyncObj asks from here on, it asks of this clock and this randomness."""
    _syncobj.monotonicTime = clock
    _syncobj.random = rng


class Gate(Transport):  # type: ignore[misc]  # PySyncObj is untyped
    """Stands where PySyncObj expects its transport: everything it sends passes here."""

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.outgoing: Callable[[Node, dict[str, Any]], None] | None = None

    @property
    def ready(self) -> bool:
        return True

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        if self.outgoing is not None:
            self.outgoing(node, message)
        return True

    def destroy(self) -> None:
        self.outgoing = None


class NoSerializer:
    """Stands where PySyncObj expects its dump writer. Our own compaction and snapshot transfer do the work; this only
    turns "the log does not reach back far enough" into a message that ``RaftCore`` recognises.

    Never answer None: the library then spins on the send loop for a whole heartbeat period (hazard N3).
    """

    def getTransmissionData(self, _node: Node) -> tuple[bytes, bool, bool]:
        return b"", True, True

    def cancelTransmisstion(self, _node: Node) -> None:  # the library's spelling
        return


class NoPoller:
    def poll(self, _timeout: float) -> None:
        return


_original_create_journal = _syncobj.createJournal


def _create_journal(journal_file: Journal | str | None) -> Any:
    return journal_file if isinstance(journal_file, Journal) else _original_create_journal(journal_file)


def check() -> None:
    """Raise ``RuntimeError`` when the installed PySyncObj is not the one the guards were written for."""
    if _INSTALLED_VERSION != PYSYNCOBJ_VERSION:
        raise RuntimeError(f"pysyncobj {_INSTALLED_VERSION} is installed; the guards fit exactly {PYSYNCOBJ_VERSION}")
    missing = [name for name in PRIVATE_METHODS if not callable(getattr(_syncobj.SyncObj, name, None))]
    if missing:
        raise RuntimeError(f"pysyncobj lacks the methods {', '.join(missing)}")


def check_instance(core: _syncobj.SyncObj) -> None:
    missing = [name for name in PRIVATE_FIELDS if not hasattr(core, name)]
    if missing:
        raise RuntimeError(f"pysyncobj objects lack the fields {', '.join(missing)}")


check()
_syncobj.createJournal = _create_journal
