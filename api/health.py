"""What the members of the cluster are able to do, as one of them sees it: ``java-http.md`` 8.

Of itself a node knows. Of the others it knows whether their Raft link is up, and what they last said of themselves
when asked over HTTP (``peer_polls``). The link alone does not tell: a member that is catching up, or whose state was
found to differ, has a link as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from artemis.api.settings import HttpSettings
from artemis.consensus.status import NodeStatus


class Health(NamedTuple):
    """One member. A flag is None where it is not known."""

    status: Literal["up", "down", "unknown"]
    can_service_registry: bool | None
    can_service_discovery: bool | None
    allow_registry_from_other_zone: bool | None
    allow_discovery_from_other_zone: bool | None


UNKNOWN = Health("unknown", None, None, None, None)


LAG_MS_MAX = 5_000
"""A node whose state may be older is not ready. A change of leader takes less."""


def is_current(status: NodeStatus) -> bool:
    """Whether clients should be with this node. One that is cut off from the majority is not for long."""
    return status.ready and status.apply_lag_ms <= LAG_MS_MAX


def own_health(status: NodeStatus, settings: HttpSettings) -> Health:
    return Health(
        # A client that asks a node on the wrong side of a cut for the list keeps its answer for minutes. An empty one
        # it does not take.
        "up" if is_current(status) else "down",
        # Without a leader it takes no writes, but it still answers reads that may be stale.
        status.ready and status.known_leader,
        status.ready,
        settings.any_zone,
        settings.any_zone,
    )


class PeerHealth:
    """What is known of the other members. ``heard`` is written by whoever asks them."""

    def __init__(self, settings: HttpSettings) -> None:
        # Settings such as any_zone are the same on all members where nothing else is known.
        self._linked = Health("up", True, True, settings.any_zone, settings.any_zone)
        self.heard: dict[str, Health] = {}
        """By node id; ``UNKNOWN`` for a member that answered once and does not any more. Absent until it answers:
        a node may be unable to reach the addresses that clients use."""

    def of(self, status: NodeStatus) -> Mapping[str, Health]:
        """Every other member by node id."""
        return {
            peer.node_id: self.heard.get(peer.node_id, self._linked) if peer.connected else UNKNOWN
            for peer in status.peers
        }
