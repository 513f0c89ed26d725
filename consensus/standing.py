"""How this node stands: what it says of itself, and why it should not be trusted with new work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from artemis.consensus.admission import Admission
from artemis.consensus.alarm import Alarm
from artemis.consensus.applying import Applying
from artemis.consensus.core import RaftCore
from artemis.consensus.digests import StateDigests
from artemis.consensus.diskwatch import DiskWatch
from artemis.consensus.freshness import UNKNOWN_MS, UNKNOWN_US
from artemis.consensus.health import ApplyWatch
from artemis.consensus.journal import Journal
from artemis.consensus.snapshotting import Snapshotting
from artemis.consensus.status import NodeStatus, PeerStatus

BEHIND_SECONDS = 5
"""A node whose state may be older is not ready: it hears a leader and yet lags in the log, or hears none."""

STATUS_SECONDS = 0.001
"""For how long a status is good when nothing happened: every answer carries it."""


class Host(Protocol):
    """The engine, as far as it is described."""

    node_id: str
    core: RaftCore
    journal: Journal
    snapshots: Snapshotting
    admission: Admission
    digests: StateDigests
    disk: DiskWatch
    alarm: Alarm
    applying: Applying
    failed: str | None
    closed: bool

    @property
    def links_up(self) -> Mapping[str, int]: ...

    def now(self) -> float: ...


class Standing:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._apply_watch = ApplyWatch()
        self._caught_up = False
        self._status: NodeStatus | None = None
        self._status_at = float("-inf")

    def status(self) -> NodeStatus:
        """This moment's, or one made less than ``STATUS_SECONDS`` ago with nothing in between."""
        now = self._host.now()
        if self._status is None or now - self._status_at >= STATUS_SECONDS:
            self._status, self._status_at = self._describe(), now
        return self._status

    def changed(self) -> None:
        """Something happened: the next status is made anew."""
        self._status = None

    def look(self, now: float) -> None:
        """To be called several times per second."""
        self._apply_watch.look(now, self._host.core.commit_index, self._host.core.applied_index)

    def on_caught_up(self, error: Exception | None) -> None:
        """The first barrier after the start is passed, or will not be."""
        self._caught_up = error is None

    def _describe(self) -> NodeStatus:
        host, core, digests = self._host, self._host.core, self._host.digests
        return NodeStatus(
            node_id=host.node_id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            known_leader=core.leader_id is not None and core.hears_leader,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            last_log_index=host.journal.last_index,
            first_log_index=host.journal.first_index,
            snapshot_index=host.snapshots.index,
            apply_lag_ms=min(UNKNOWN_MS, -(-core.age_us() // 1000)),  # rounded up: it is a bound
            ready=self._caught_up
            and host.failed is None
            and not host.closed
            and host.disk.well
            and digests.reason() is None,
            reasons=tuple(self._reasons()),
            peers=tuple(
                PeerStatus(peer, peer in host.links_up, core.match_index(peer) if core.role == "leader" else None)
                for peer in core.peers()
            ),
            quarantined=digests.reason() is not None,
            verified_index=digests.verified_index,
            differing=tuple(sorted(digests.differing)),
            lease_clock_age_ms=int((host.now() - host.applying.clock_moved_at) * 1000),
        )

    def _reasons(self) -> Iterator[str]:
        host, core = self._host, self._host.core
        if host.failed is not None:
            yield f"stopped: {host.failed}"
        now = host.now()
        for reason in (
            host.disk.reason(),
            host.admission.reason(),
            host.digests.reason(),
            self._apply_watch.reason(now),
            host.alarm.stalls.reason(now),
        ):
            if reason is not None:
                yield reason
        if not self._caught_up:
            yield "has not yet applied what a current leader says is committed"
        if core.leader_id is None or not core.hears_leader:
            yield "no leader"
        age_us = core.age_us()
        if age_us > BEHIND_SECONDS * 1_000_000:
            age = "of unknown age" if age_us >= UNKNOWN_US else f"up to {age_us // 1000} ms old"
            yield f"its state is {age}"
