"""The replication plane of the earlier servers: ``java-http.md`` 1.2 and 8.4, ``rust-http.md`` 3.1.

Their nodes told each other of changes here. Ours do that through the log, so this is one more door to it: what comes in
is ordered like any other write and takes effect on every node. A heartbeat brings nobody back, here as elsewhere.
Clusters of both kinds of nodes are not supported.

Zones are not checked (a node forwarded for all), regions are.
"""

from __future__ import annotations

import copy
import dataclasses
from http import HTTPStatus

from artemis.api.answers import Answer
from artemis.api.dialects.bodies import PlaceBody, read_place, read_query, read_write
from artemis.api.faults import HttpFault, bad_request
from artemis.api.registry_routes import RegistryRoutes
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.errors import Unavailable

MARK = b"x-artemis-replication"


class ReplicationRoutes:
    """Handlers of the replication plane. They raise ``HttpFault`` for requests that are not understood.

    ``marked``: as on the earlier Rust server a write needs the header ``X-Artemis-Replication``, with any value, and
    the list of services needs no region. It keeps clients from using this door by mistake; it is no protection.
    """

    def __init__(self, serving: Serving, *, marked: bool) -> None:
        self._serving = serving
        self._marked = marked
        self._bytes_max = serving.settings.body_bytes_max
        any_zone = copy.copy(serving)
        any_zone.settings = dataclasses.replace(serving.settings, any_zone=True)
        self._writes = RegistryRoutes(any_zone)

    async def register(self, request: Request) -> Answer:
        await self._require_mark(request)
        return await self._writes.register(request)

    async def heartbeat(self, request: Request) -> Answer:
        await self._require_mark(request)
        return await self._writes.heartbeat(request)

    async def unregister(self, request: Request) -> Answer:
        await self._require_mark(request)
        return await self._writes.unregister(request)

    async def services(self, request: Request) -> Answer:
        return await self._services(request, read_place(await request.body(self._bytes_max)))

    async def get_services(self, request: Request) -> Answer:
        body = read_query(request.query)
        if body.region_id is None and not self._marked:
            raise bad_request("regionId: a query parameter regionId (or region_id) is required")
        return await self._services(request, PlaceBody(body.region_id, body.zone_id, 0, body.naming))

    async def _services(self, request: Request, body: PlaceBody) -> Answer:
        """Every service of one revision, with all its instances."""
        serving = self._serving
        options = serving.options.read(request)
        dialect = serving.dialect(body.naming, request)
        registry = serving.node.registry
        try:
            status, level = await serving.given(options)
        except Unavailable as exc:
            message = serving.unavailable("registry", exc)
            answer = dialect.failed("replicated-services", "service-unavailable", message)
            return Answer(answer, "service-unavailable", serving.node.status(), registry.revision)
        # Without a region the earlier Rust server's request means all.
        misplaced = None if body.region_id is None and self._marked else serving.misplaced_region(body.region_id)
        if misplaced is not None:
            answer = dialect.failed("replicated-services", "no-permission", misplaced)
            return Answer(answer, "no-permission", status, registry.revision)
        registry = serving.node.registry
        revision = registry.revision
        fragments = await serving.services.many(dialect.listed_service, registry.services())
        return Answer(dialect.replicated(fragments), "success", status, revision, level)

    async def _require_mark(self, request: Request) -> None:
        if not self._marked or any(name == MARK for name, _ in request.scope["headers"]):
            return
        # What is wrong with the body is told first, as the earlier server did.
        read_write(await request.body(self._bytes_max))
        raise HttpFault(HTTPStatus.BAD_REQUEST, "", bare=True)
