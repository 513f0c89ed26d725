"""PySyncObj with types and names: its state as properties, its messages as calls.

Nothing is decided here; ``RaftCore`` is this with guards. The private names are those that ``seams`` checks. Every call
may end in messages out: the library hands them to ``outgoing`` at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node

from artemis.consensus import seams
from artemis.consensus.journal import Journal
from artemis.consensus.status import Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import LogEntry

_ROLES: Mapping[int, Role] = {0: "follower", 1: "candidate", 2: "leader"}


class Member(Node):  # type: ignore[misc]  # PySyncObj is untyped
    """A peer. There is one object of each, so two are equal only if they are the same: comparing and hashing names,
    as the library does, is a tenth of what a message costs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class TypedSyncObj(SyncObj):  # type: ignore[misc]  # PySyncObj is untyped
    """One node's Raft state, without guards. Single-threaded."""

    _SyncObj__lastResponseTime: dict[Member, float]
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__noopIDx: int
    _SyncObj__numOneSecondDumps: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__raftLastApplied: int
    _SyncObj__raftLeader: Member | None
    _SyncObj__raftMatchIndex: dict[Member, int]
    _SyncObj__raftNextIndex: dict[Member, int]
    _SyncObj__startTime: float

    def __init__(
        self,
        node_id: str,
        members: tuple[str, ...],
        journal: Journal,
        timing: Timing,
        bounds: Bounds,
        outgoing: Callable[[Member, dict[str, Any]], None],
    ) -> None:
        """Term, vote and log are those of ``journal``."""
        self._nodes = {member: Member(member) for member in members if member != node_id}
        self.role: Role = "follower"
        gate = seams.Gate()
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,
            appendEntriesBatchSizeBytes=bounds.append_batch_bytes,
            appendEntriesPeriod=timing.heartbeat_ms / 1000,
            commandsQueueSize=0,
            commandsWaitLeader=False,
            connectionTimeout=timing.election_timeout_ms_max / 1000 * 4,
            dynamicMembershipChange=False,
            journalFile=journal,
            # A leader without a majority is deposed within one election timeout (hazard G1: the default is 30 s).
            leaderFallbackTimeout=timing.election_timeout_ms_min / 1000,
            raftMaxTimeout=timing.election_timeout_ms_max / 1000,
            raftMinTimeout=timing.election_timeout_ms_min / 1000,
        )
        super().__init__(Member(node_id), list(self._nodes.values()), conf, transport=gate)
        seams.check_instance(self)
        self._poller = seams.NoPoller()
        self._SyncObj__serializer = seams.NoSerializer()
        gate.outgoing = outgoing

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    @property
    def leader_id(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else leader.name

    @property
    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def election_deadline(self) -> float:
        return self._SyncObj__raftElectionDeadline

    @election_deadline.setter
    def election_deadline(self, at: float) -> None:
        self._SyncObj__raftElectionDeadline = at

    def peers(self) -> tuple[str, ...]:
        return tuple(self._nodes)

    def match_index(self, peer: str) -> int:
        return self._SyncObj__raftMatchIndex.get(self._nodes[peer], 0)

    def set_match_index(self, peer: str, index: int) -> None:
        self._SyncObj__raftMatchIndex[self._nodes[peer]] = index

    def next_index(self, peer: str) -> int:
        return self._SyncObj__raftNextIndex[self._nodes[peer]]

    def set_next_index(self, peer: str, index: int) -> None:
        self._SyncObj__raftNextIndex[self._nodes[peer]] = index

    def answered(self, peer: str, at: float) -> None:
        """As leader: ``peer`` follows, as of then."""
        self._SyncObj__lastResponseTime[self._nodes[peer]] = at

    # -- changes -----------------------------------------------------------------------------------------------------

    def enter_term(self, term: int, voted_for: str | None) -> None:
        self._SyncObj__setCurrentTerm(term, voted_for)

    def follow_nobody(self) -> None:
        """A follower without a leader, whatever it was before."""
        self._SyncObj__raftLeader = None
        self._SyncObj__setState(0)

    def random_timeout(self) -> float:
        """Seconds without a leader after which to campaign, drawn anew."""
        timeout: float = self._SyncObj__generateRaftTimeout()
        return timeout

    def _become(self, role: Role) -> None:
        """The role changes: extended by those who have to do something before or after."""
        self.role = role

    def _SyncObj__setState(self, state: int) -> None:
        super()._SyncObj__setState(state)
        if _ROLES[state] != self.role:
            self._become(_ROLES[state])

    # -- messages in -------------------------------------------------------------------------------------------------

    def take_append_entries(
        self, peer: str, term: int, commit_index: int, prev: tuple[int, int | None], entries: tuple[LogEntry, ...]
    ) -> None:
        """``prev``: (index, term) of the entry before ``entries``. Answers with a ``next_node_idx``."""
        self._take(
            peer,
            {
                "type": "append_entries",
                "term": term,
                "commit_index": commit_index,
                "prevLogIdx": prev[0],
                "prevLogTerm": prev[1],
                "entries": entries,
            },
        )

    def take_append_reply(self, peer: str, next_index: int, *, success: bool, reset: bool) -> None:
        self._take(peer, {"type": "next_node_idx", "next_node_idx": next_index, "success": success, "reset": reset})

    def take_vote_request(self, peer: str, term: int, last_index: int, last_term: int) -> None:
        self._take(
            peer, {"type": "request_vote", "term": term, "last_log_index": last_index, "last_log_term": last_term}
        )

    def take_vote(self, peer: str, term: int) -> None:
        self._take(peer, {"type": "response_vote", "term": term})

    def _take(self, peer: str, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(self._nodes[peer], message)

    def send_append_entries(self) -> None:
        """As leader: one batch or heartbeat to each follower, now."""
        self._SyncObj__sendAppendEntries()
