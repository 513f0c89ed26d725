"""The status plane: ``java-http.md`` 4.5 and 8, ``rust-http.md`` 2.3.

Everything here is this node's own view at once, because it is asked for when the cluster is not well. The earlier Rust
server had this plane in camelCase only, so under ``/api/`` too that is the spelling of an answer to an open question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson

from artemis.api.answers import Answer
from artemis.api.deployment import SOURCES
from artemis.api.dialects import Data, Dialect
from artemis.api.dialects.bodies import LeasesBody, read_leases, read_leases_query, read_place, read_query
from artemis.api.faults import too_many
from artemis.api.health import Health, own_health
from artemis.api.lease_report import report
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.consensus.status import NodeStatus
from artemis.model import Member
from artemis.registry import Registry


class StatusRoutes:
    """Handlers of the status plane. They raise ``HttpFault`` for requests that are not understood."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._deployment = serving.deployment
        self._bytes_max = serving.settings.body_bytes_max
        # One at a time: the answers for 100,000 leases are some 20 MB while they are made.
        self._listing = asyncio.Lock()

    async def node(self, request: Request) -> Answer:
        dialect = await self._dialect(request)
        status = self._serving.node.status()
        member = self._members(status)[status.node_id]
        health = own_health(status, self._serving.settings)
        return self._answer(dialect, {"nodeStatus": _node_status(dialect, member, health, status)}, status)

    async def cluster(self, request: Request) -> Answer:
        """Every member, also those that cannot be reached; this node first."""
        dialect = await self._dialect(request)
        status = self._serving.node.status()
        health = {status.node_id: own_health(status, self._serving.settings), **self._serving.peers.of(status)}
        members = self._members(status)
        nodes = [_node_status(dialect, members[node_id], known, status) for node_id, known in health.items()]
        return self._answer(dialect, {"nodeCount": len(nodes), "nodesStatus": nodes}, status)

    async def leases(self, request: Request) -> Answer:
        return await self._leases(request, legacy=False)

    async def legacy_leases(self, request: Request) -> Answer:
        return await self._leases(request, legacy=True)

    async def config(self, request: Request) -> Answer:
        properties = Data(self._deployment.properties)
        answer = {"properties": properties, "sources": Data(SOURCES)}
        return self._answer(await self._dialect(request), answer, self._serving.node.status())

    async def deployment(self, request: Request) -> Answer:
        given = self._deployment
        properties = {
            "app.id": given.app_id,
            "app.port": str(given.port),
            "app.protocol": given.protocol,
            "region.id": given.region_id,
            "zone.id": given.zone_id,
        }
        answer: dict[str, object] = {
            "appId": given.app_id,
            "ip": given.ip,
            "machineName": given.machine_name,
            "path": given.path,
            "port": given.port,
            "properties": Data({key: value for key, value in properties.items() if value is not None}),
            "protocol": given.protocol,
            "regionId": given.region_id,
            "sources": Data(SOURCES),
            "zoneId": given.zone_id,
        }
        return self._answer(await self._dialect(request), answer, self._serving.node.status())

    async def connections(self, _request: Request) -> Answer:
        """How many WebSockets are open, as texts and without a status: the one answer of this kind."""
        sessions = self._serving.sessions
        counts = {"registry": str(sessions.count("registry")), "discovery": str(sessions.count("discovery"))}
        status = self._serving.node.status()
        return Answer(orjson.dumps(counts), "success", status, self._serving.node.registry.revision)

    async def _leases(self, request: Request, *, legacy: bool) -> Answer:
        body = await self._which_leases(request)
        dialect = self._serving.dialect(body.naming, request)
        async with self._listing:
            registry = self._serving.node.registry
            status, revision = self._serving.node.status(), registry.revision
            offset_ms = self._serving.epoch_offset_ms()
            leases = await report(registry, body.service_ids, dialect, offset_ms, legacy=legacy)
            # The two families of clients look for the list under different names.
            name = "leasesStatus" if dialect.strict else "leases"
            answer = {**safety(registry), "leaseCount": leases.total, name: leases.by_service}
            return Answer(dialect.reported(answer), "success", status, revision, "stale")

    async def _which_leases(self, request: Request) -> LeasesBody:
        if request.scope["method"] == "GET":
            return read_leases_query(request.query)
        body = read_leases(await request.body(self._bytes_max))
        most = self._serving.settings.items_max
        if len(body.service_ids) > most:
            raise too_many("serviceIds", most, len(body.service_ids))
        return body

    async def _dialect(self, request: Request) -> Dialect:
        if request.scope["method"] == "GET":
            naming = read_query(request.query).naming
        else:
            naming = read_place(await request.body(self._bytes_max)).naming
        return self._serving.dialect(naming, request)

    def _members(self, status: NodeStatus) -> Mapping[str, Member]:
        """Every member, with empty texts for one that has not told its address yet."""
        nameless = (status.node_id, *(peer.node_id for peer in status.peers))
        announced = self._serving.node.registry.members
        return {
            node_id: announced.get(node_id) or Member(node_id=node_id, url="", region_id="", zone_id="")
            for node_id in nameless
        }

    def _answer(self, dialect: Dialect, fields: Mapping[str, object], status: NodeStatus) -> Answer:
        revision = self._serving.node.registry.revision
        return Answer(dialect.reported(fields), "success", status, revision, "stale")


def safety(registry: Registry) -> dict[str, object]:
    """Protection against mass eviction in the words of the earlier servers' safe check. It is not safe while anything
    is protected. Their check compared counts of renewals, which ours does not, so those are 0."""
    return {
        "isSafe": not registry.protecting,
        "isSafeCheckEnabled": registry.protection_settings.enabled,
        "leaseUpdateCountLastTimeWindow": 0,
        "leaseUpdateMaxCount": 0,
        "leaseUpdateMaxCountLastUpdateTime": 0,
    }


def _node_status(dialect: Dialect, member: Member, health: Health, status: NodeStatus) -> dict[str, object]:
    """In Java's form exactly its fields: who leads is in the answer's headers. In the other form that server's names
    for a node's place, and who leads."""
    zone = {"metadata": None, "regionId": member.region_id, "zoneId": member.zone_id}
    node: dict[str, object] = {"url": member.url, "zone": zone}
    more: dict[str, object] = {}
    if dialect.strict:
        node |= {"nodeId": member.node_id, "regionId": member.region_id, "zoneId": member.zone_id}
        more["leader"] = member.node_id == status.leader_id if status.known_leader else None
    return {
        **more,
        "allowDiscoveryFromOtherZone": health.allow_discovery_from_other_zone,
        "allowRegistryFromOtherZone": health.allow_registry_from_other_zone,
        "canServiceDiscovery": health.can_service_discovery,
        "canServiceRegistry": health.can_service_registry,
        "node": node,
        "status": health.status,
    }
