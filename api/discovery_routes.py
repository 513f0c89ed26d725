"""lookup, service, services, services-delta: ``java-http.md`` 6, ``rust-http.md`` 1.2.

A look-up is answered from this node's applied state after it is as current as the caller asked; nothing is sent for a
``stale`` one.
"""

from __future__ import annotations

from artemis.api.answers import Answer
from artemis.api.dialects import Code, Dialect, Kind
from artemis.api.dialects.bodies import (
    PlaceBody,
    ServiceBody,
    read_lookup,
    read_pick,
    read_place,
    read_query,
    read_service,
)
from artemis.api.faults import bad_request, too_many
from artemis.api.options import ReadOptions
from artemis.api.requests import Request
from artemis.api.serving import Serving, is_blank
from artemis.api.settings import Consistency
from artemis.api.single_lookup import SingleLookup
from artemis.consensus.status import NodeStatus
from artemis.errors import Unavailable
from artemis.model import Compacted, canonical

NO_CONFIGS = "Request is null or request.discoveryConfigs is empty."
NO_CONFIG = "Request is null or request.discoveryConfig is null."
NO_DELTA = "Delta is not found."
REPEATED = "request.discoveryConfigs: large services are named again and again; name each once"
REPEATED_BYTES_MAX = 4 * 1024 * 1024
"""Of the answer, for services that the request names once more. Each is answered as often as it is named, as it was by
the earlier servers, but 5,000 times the same large service would be an answer of gigabytes."""


class DiscoveryRoutes:
    """Handlers of the discovery plane. They raise ``HttpFault`` for requests that are not understood."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._node = serving.node
        self._services = serving.services
        self._bytes_max = serving.settings.body_bytes_max
        self._items_max = serving.settings.items_max
        self._single = SingleLookup(serving)

    async def lookup(self, request: Request) -> Answer:
        """Several services in one answer, all of one revision, in the order asked."""
        options = self._serving.options.read(request)
        content = await request.body(self._bytes_max)
        body = read_lookup(content)
        pick = read_pick(content) if body.service_ids is None else None
        if pick is not None:
            return await self._single.answer(pick, options)
        dialect = self._serving.dialect(body.naming, request)
        if body.service_ids is not None and len(body.service_ids) > self._items_max:
            raise too_many("discoveryConfigs", self._items_max, len(body.service_ids))
        if not body.service_ids:
            return self._failed("lookup", dialect, "bad-request", NO_CONFIGS)
        try:
            status, level = await self._serving.given(options)
        except Unavailable as exc:
            return self._unavailable("lookup", dialect, exc)
        misplaced = self._serving.misplaced(body.region_id, body.zone_id)
        if misplaced is not None:
            return self._failed("lookup", dialect, "no-permission", misplaced)
        registry = self._node.registry
        encode = dialect.revised_service if options.instance_revisions else dialect.service
        fragments: list[bytes] = []
        named: set[str] = set()
        repeated_bytes = 0
        for service_id in body.service_ids:
            if service_id is None or is_blank(service_id):
                continue
            service = registry.service(service_id)
            if service is None:
                fragments.append(dialect.unknown_service(service_id))
                continue
            fragments.append(self._services.one(encode, service))
            if service.service_id in named:
                repeated_bytes += len(fragments[-1])
                if repeated_bytes > REPEATED_BYTES_MAX:
                    return self._failed("lookup", dialect, "bad-request", REPEATED)
            named.add(service.service_id)
        return Answer(dialect.looked_up(fragments), "success", status, registry.revision, level)

    async def service(self, request: Request) -> Answer:
        options = self._serving.options.read(request)
        return await self._service(request, read_service(await request.body(self._bytes_max)), options)

    async def get_service(self, request: Request) -> Answer:
        """``?serviceId=…``, else HTTP 400."""
        options = self._serving.options.read(request)
        body = read_query(request.query)
        if body.service_id is None:
            raise bad_request("serviceId: a query parameter serviceId (or service_id) is required")
        return await self._service(request, body, options)

    async def _service(self, request: Request, body: ServiceBody, options: ReadOptions) -> Answer:
        dialect = self._serving.dialect(body.naming, request)
        service_id = body.service_id
        if service_id is None or is_blank(service_id):
            return self._failed("service", dialect, "bad-request", NO_CONFIG)
        try:
            status, level = await self._serving.given(options)
        except Unavailable as exc:
            return self._unavailable("service", dialect, exc)
        misplaced = self._serving.misplaced(body.region_id, body.zone_id)
        if misplaced is not None:
            return self._failed("service", dialect, "no-permission", misplaced)
        registry = self._node.registry
        service = registry.service(service_id)
        outcome: Code = "success"
        if service is not None:
            encode = dialect.revised_service if options.instance_revisions else dialect.service
            answer = dialect.found(self._services.one(encode, service))
        elif dialect.unknown_service_is_fault:
            outcome = "bad-request"
            answer = dialect.failed("service", outcome, f"Service not found: {canonical(service_id)}")
        else:
            answer = dialect.found(dialect.unknown_service(service_id))
        return Answer(answer, outcome, status, registry.revision, level)

    async def services(self, request: Request) -> Answer:
        options = self._serving.options.read(request)
        return await self._list(request, read_place(await request.body(self._bytes_max)), options)

    async def get_services(self, request: Request) -> Answer:
        options = self._serving.options.read(request)
        body = read_query(request.query)
        return await self._list(request, PlaceBody(body.region_id, body.zone_id, 0, body.naming), options)

    async def _list(self, request: Request, body: PlaceBody, options: ReadOptions) -> Answer:
        """Every service of one revision. Region and zone of the request are ignored, as the contract has it."""
        dialect = self._serving.dialect(body.naming, request)
        try:
            status, level = await self._serving.given(options)
        except Unavailable as exc:
            return self._unavailable("services", dialect, exc)
        registry = self._node.registry
        revision = registry.revision
        encode = dialect.revised_listed_service if options.instance_revisions else dialect.listed_service
        fragments = await self._services.many(encode, registry.services())
        return Answer(dialect.listed(fragments, revision), "success", status, revision, level)

    async def delta(self, request: Request) -> Answer:
        """What changed after ``version``, in order; ``version`` of the answer is where to go on."""
        options = self._serving.options.read(request, names_revision=True)
        body = read_place(await request.body(self._bytes_max))
        dialect = self._serving.dialect(body.naming, request)
        if options.consistency == "session" and body.version > options.min_revision:
            # The version names a state the caller has seen, so the answer must not be older.
            options = options._replace(min_revision=body.version)
        try:
            status, level = await self._serving.given(options)
        except Unavailable as exc:
            return self._unavailable("delta", dialect, exc)
        registry = self._node.registry
        revision = registry.revision
        if body.version > revision:
            return self._beyond(dialect, status, level, body.version, revision)
        changes = registry.changes_since(max(body.version, 0))
        if isinstance(changes, Compacted) or body.version <= 0:
            oldest = changes.oldest if isinstance(changes, Compacted) else 0
            return Answer(
                dialect.failed("delta", "data-not-found", NO_DELTA),
                "data-not-found",
                status,
                revision,
                level,
                [(b"x-artemis-compacted", b"%d" % oldest)],
            )
        answer = dialect.changed(changes, revision, self._serving.epoch_offset_ms())
        return Answer(answer, "success", status, revision, level)

    def _beyond(self, dialect: Dialect, status: NodeStatus, level: Consistency, version: int, revision: int) -> Answer:
        """A version of nobody here: the earlier servers' were times, so a client that comes from one must hear what it
        heard there of a version it cannot go on from. Nothing was compacted, and no header says so."""
        if level == "stale":
            reason = Unavailable(f"this node has applied revision {revision}, not yet {version}", definite=True)
            return self._unavailable("delta", dialect, reason)
        body = dialect.failed("delta", "data-not-found", NO_DELTA)
        return Answer(body, "data-not-found", status, revision, level)

    def _unavailable(self, kind: Kind, dialect: Dialect, exc: Unavailable) -> Answer:
        return self._failed(kind, dialect, "service-unavailable", self._serving.unavailable("discovery", exc))

    def _failed(self, kind: Kind, dialect: Dialect, code: Code, message: str) -> Answer:
        return Answer(dialect.failed(kind, code, message), code, self._node.status(), self._node.registry.revision)
