"""What a node knows of itself and its cluster at one moment. Immutable, cheap to make, safe to publish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["leader", "follower", "candidate"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    node_id: str
    connected: bool
    """This node's link to the peer is up."""
    match_index: int | None
    """On the leader: how far the peer's disk is known to agree. None elsewhere."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    node_id: str
    role: Role
    term: int
    leader_id: str | None
    known_leader: bool
    """A leader was heard of within the last election timeout (on the leader: a majority answered within it)."""
    commit_index: int
    applied_index: int
    last_log_index: int
    first_log_index: int
    snapshot_index: int
    apply_lag_ms: int
    """How old the applied state may be: a bound proven by round trips. ``freshness.UNKNOWN_MS`` while nobody vouches
    for any."""
    ready: bool
    """It has, since it started, applied what a current leader said is committed, and nothing has failed since."""
    reasons: tuple[str, ...]
    """Why it is not ready, or should not be trusted with new work; empty when all is well."""
    peers: tuple[PeerStatus, ...]
    lease_clock_age_ms: int = 0
    """Since when the lease clock has not moved here, on this node's own clock. While there are leases it moves several
    times a second wherever a leader and its majority are heard."""
    quarantined: bool = False
    """Its state differs from its peers', so it serves nobody (``digests``)."""
    verified_index: int = 0
    """The last entry at which a majority held the state that this node held."""
    differing: tuple[str, ...] = ()
    """Members whose state was last seen to differ from that of a majority."""
