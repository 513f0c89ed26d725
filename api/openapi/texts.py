"""What each operation is for, which bodies it reads and what it answers; by what follows ``/api/`` in its path."""

from __future__ import annotations

from typing import Literal, NamedTuple

Options = Literal["read", "write", "none"]
"""Which ``x-artemis-…`` request headers matter."""


class Text(NamedTuple):
    """``bodies``: names of request shapes without their spelling (``Instances`` is ``SnakeInstances`` and
    ``CamelInstances``). ``answer``: name of the answer without its family. ``query``: fields of the body that a GET
    takes from the query. ``picks``: a body with one config is answered with one instance, in an envelope of its own."""

    tag: str
    summary: str
    description: str
    bodies: tuple[str, ...]
    answer: str
    options: Options = "none"
    query: tuple[str, ...] = ()
    picks: bool = False


_PLACE = ("regionId", "zoneId")
_AT_ONCE = "What is accepted of one request becomes visible at once, at one revision."
_CONDITION = (
    "An instance may carry the revision or lease epoch that is expected to be there now (`expectedRevision`, "
    "`expectedEpoch`; 0: nothing); where it is not, the instance is refused and told what is there."
)
_OWN_VIEW = "This node's own view, at once, also when the cluster is not well."

_REGISTER = Text(
    "registry",
    "Register instances",
    "Puts each instance, replacing one with the same region, service and instance id, and starts its lease. "
    f"{_AT_ONCE} An instance that is refused is listed with its reason; the others are registered. {_CONDITION}",
    ("Instances",),
    "Written",
    "write",
)
_HEARTBEAT = Text(
    "registry",
    "Renew leases",
    "Restarts the lease of each instance. One that is not registered is listed as failed and must register again: a "
    "heartbeat never creates an instance.",
    ("Instances", "Keys"),
    "Written",
    "write",
)
_UNREGISTER = Text(
    "registry",
    "Remove instances",
    f"Removes each instance; one that is not registered counts as removed. {_AT_ONCE} {_CONDITION}",
    ("Instances", "Keys"),
    "Written",
    "write",
)
_NODES = Text(
    "cluster",
    "List the nodes to talk to",
    "The members that can serve now, those of the caller's zone first.",
    ("Place",),
    "Nodes",
    "none",
    _PLACE,
)
_LEASES = Text(
    "status",
    "List leases",
    f"{_OWN_VIEW} All services, or those that are named.",
    ("Leases",),
    "Leases",
    "none",
    ("appIds",),
)
_CONNECTIONS = Text("status", "Count open WebSockets", _OWN_VIEW, (), "Connections")


def _replicated(text: Text) -> Text:
    return text._replace(
        tag="replication",
        description="As nodes of earlier servers told each other; ordered like any other write. "
        "Under `/api/` the header `X-Artemis-Replication` is required, with any value.",
    )


TEXTS: dict[str, Text] = {
    "registry/register": _REGISTER,
    "registry/heartbeat": _HEARTBEAT,
    "registry/unregister": _UNREGISTER,
    "discovery/lookup": Text(
        "discovery",
        "Look up several services",
        "One service for each config, in the order asked. In camelCase an unknown service is an empty one. A body with "
        "one `discoveryConfig` instead of a list is answered with one instance, picked by `strategy` (`round-robin`, "
        "else by chance), or with 404.",
        ("Lookup", "Pick"),
        "Lookup",
        "read",
        picks=True,
    ),
    "discovery/service": Text(
        "discovery",
        "Look up one service",
        "In camelCase an unknown service is an empty one, in the others it is `bad-request`.",
        ("Service",),
        "ServiceAnswer",
        "read",
        ("serviceId", *_PLACE),
    ),
    "discovery/services": Text(
        "discovery",
        "List all services",
        "Every service with instances, all of one revision, which is `version`.",
        ("Place",),
        "Services",
        "read",
        _PLACE,
    ),
    "discovery/services-delta": Text(
        "discovery",
        "List what changed",
        "Every change after `version`, each once, in order of revision, from any node. The version of the answer is "
        "where to go on. A version that is not kept any more is `data-not-found`, and `x-artemis-compacted` names the "
        "oldest that still is; one that the cluster has not reached is `data-not-found` without that header.",
        ("Version",),
        "Delta",
        "read",
    ),
    "watch": Text(
        "discovery",
        "Wait for changes",
        "A long poll: answers as soon as something changed after `since` (a revision, or `now`), else after `wait` "
        "milliseconds without changes. The revision of the answer is where to go on, at any node. When changes after "
        "`since` are not kept any more, `compacted` is true and `oldest` names the smallest revision that still works. "
        "A WebSocket at the same path gives the same as a stream. Unknown parameters are refused.",
        (),
        "Watch",
        "none",
        ("since", "wait", "services", "naming"),
    ),
    "cluster/up-registry-nodes": _NODES,
    "cluster/up-discovery-nodes": _NODES,
    "status/node": Text("status", "Tell of this node", _OWN_VIEW, ("Place",), "NodeStatusAnswer"),
    "status/cluster": Text(
        "status",
        "Tell of every member",
        f"{_OWN_VIEW} A member that cannot be reached is `unknown`.",
        ("Place",),
        "ClusterStatus",
    ),
    "status/leases": _LEASES,
    "status/legacy-leases": _LEASES._replace(
        summary="List leases of instances marked as java_registry",
        description=f"{_OWN_VIEW} Only instances whose metadata has `java_registry`.",
    ),
    "status/config": Text("status", "Show the settings of this node", "Secrets are hidden.", ("Place",), "Config"),
    "status/deployment": Text("status", "Show where this node runs", _OWN_VIEW, ("Place",), "Deployment"),
    "status/websocket/connection": _CONNECTIONS,
    "status/message/connections": _CONNECTIONS,
    "replication/registry/register": _replicated(_REGISTER),
    "replication/registry/heartbeat": _replicated(_HEARTBEAT),
    "replication/registry/unregister": _replicated(_UNREGISTER),
    "replication/registry/services": Text(
        "replication",
        "List all services with all instances",
        "As nodes of earlier servers copied each other. Under `/api/` a region is not required.",
        ("Place",),
        "ReplicatedServices",
        "read",
        _PLACE,
    ),
}
