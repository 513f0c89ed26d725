"""up-registry-nodes and up-discovery-nodes: where else a client may go (``java-http.md`` 8.2).

This node's own view, at once: a client asks for it most when the cluster is not well, and must not wait for a majority.
Listed is who can serve: itself while it is ready, and every member in reach that does not say otherwise (``health``).
"""

from __future__ import annotations

from artemis.api.answers import Answer
from artemis.api.dialects.bodies import PlaceBody, read_place, read_query
from artemis.api.health import Health, own_health
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.model import Member

NO_NODES = "No available service nodes."


class ClusterRoutes:
    """Handlers of the cluster plane. They raise ``HttpFault`` for requests that are not understood."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._node = serving.node
        self._settings = serving.settings

    async def up_nodes(self, request: Request) -> Answer:
        return self._answer(request, read_place(await request.body(self._settings.body_bytes_max)))

    async def get_up_nodes(self, request: Request) -> Answer:
        body = read_query(request.query)
        return self._answer(request, PlaceBody(body.region_id, body.zone_id, 0, body.naming))

    def _answer(self, request: Request, body: PlaceBody) -> Answer:
        dialect = self._serving.dialect(body.naming, request)
        registry = self._node.registry
        status = self._node.status()
        health = {status.node_id: own_health(status, self._settings), **self._serving.peers.of(status)}
        members = [
            member
            for node_id, member in registry.members.items()
            if node_id in health and _serves(member, health[node_id], body)
        ]
        # Own zone first, and one order on every node within it.
        members.sort(key=lambda member: (member.zone_id != self._settings.zone_id, member.node_id))
        if not members:
            answer = dialect.failed("nodes", "data-not-found", NO_NODES)
            return Answer(answer, "data-not-found", status, registry.revision, "stale")
        return Answer(dialect.nodes(members), "success", status, registry.revision, "stale")


def _serves(member: Member, health: Health, body: PlaceBody) -> bool:
    """Nodes that refuse other zones are named only to callers of theirs; the earlier servers compared exactly."""
    if health.status != "up":
        return False
    if health.allow_registry_from_other_zone:
        return True
    return member.zone_id == body.zone_id and member.region_id == body.region_id
