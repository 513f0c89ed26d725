"""Which path does what: the table behind ``app.Application``.

Every path is served under ``/artemis``, under each configured context (1.x servers had their servlet context there) and
under the root, where the earlier Rust server had its API. What precedes ``/api/`` and how the path ends decide who is
likely to be asking, and so the dialect of the answer where the request's own spelling leaves it open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from artemis.api.answers import Answer
from artemis.api.cluster_routes import ClusterRoutes
from artemis.api.dialects import Kind, Spoken
from artemis.api.discovery_routes import DiscoveryRoutes
from artemis.api.rate_limits import RateLimit
from artemis.api.refusals import rate_limited
from artemis.api.registry_routes import RegistryRoutes
from artemis.api.replication_routes import ReplicationRoutes
from artemis.api.requests import Request
from artemis.api.serving import JAVA, RUST, SNAKE, Serving
from artemis.api.status_routes import StatusRoutes

Handler = Callable[[Request], Awaitable[Answer]]

BARE, JSON = "", ".json"
ROOT = ""
ARTEMIS = "/artemis"


class Endpoint(NamedTuple):
    """One path: which operation it is, its handlers by method, and how it answers."""

    operation: str
    """As the metrics name it."""
    handlers: dict[str, Handler]
    spoken: Spoken
    limit: RateLimit | None
    """Shared by all paths of the operation."""
    refuse: Handler
    """Answers a request beyond the limit."""


class _Operation(NamedTuple):
    path: str
    """What follows ``/api/``, without ``.json``."""
    operation: str
    kind: Kind
    post: Handler | None
    get: Handler | None = None
    limited_as: str | None = None
    """Its name among the rate limits; None if it has no limit."""
    suffixes: tuple[str, ...] = (BARE, JSON)
    contexts: tuple[str, ...] | None = None
    """Where it is served; None: everywhere."""
    spoken: Spoken | None = None
    """Under the root, where it differs from ``spoken_at``."""


def endpoints(serving: Serving) -> dict[str, Endpoint]:
    """By path."""
    found: dict[str, Endpoint] = {}
    for operation in _operations(serving):
        limit = serving.limits.of(operation.limited_as)
        refuse = rate_limited(serving, operation.kind)
        handlers = {
            method: handler
            for method, handler in (("POST", operation.post), ("GET", operation.get))
            if handler is not None
        }
        for context in operation.contexts or _contexts(serving):
            for suffix in operation.suffixes:
                spoken = spoken_at(context, suffix, snake_default=serving.settings.snake_default)
                if operation.spoken is not None and context == ROOT:
                    spoken = operation.spoken
                found[f"{context}/api/{operation.path}{suffix}"] = Endpoint(
                    operation.operation, handlers, spoken, limit, refuse
                )
    return found


def _contexts(serving: Serving) -> tuple[str, ...]:
    return (ARTEMIS, *serving.settings.contexts, ROOT)


def spoken_at(context: str, suffix: str, *, snake_default: bool) -> Spoken:
    """Java clients end every path in ``.json``, and those of the Rust server's clients that write camelCase never do
    (``java-client-and-push.md`` 1 and 11)."""
    if context:
        return Spoken(unhinted=JAVA, camel=JAVA)
    camel = JAVA if suffix else RUST
    return Spoken(unhinted=SNAKE if snake_default else camel, camel=camel)


def _operations(serving: Serving) -> Iterator[_Operation]:
    registry = RegistryRoutes(serving)
    yield _Operation("registry/register", "register", "register", registry.register, limited_as="register")
    yield _Operation("registry/heartbeat", "heartbeat", "heartbeat", registry.heartbeat, limited_as="heartbeat")
    yield _Operation("registry/unregister", "unregister", "unregister", registry.unregister, limited_as="unregister")
    discovery = DiscoveryRoutes(serving)
    yield _Operation("discovery/lookup", "lookup", "lookup", discovery.lookup)
    yield _Operation("discovery/service", "service", "service", discovery.service, discovery.get_service)
    yield _Operation("discovery/services", "services", "services", discovery.services, discovery.get_services)
    yield _Operation("discovery/services-delta", "delta", "delta", discovery.delta)
    cluster = ClusterRoutes(serving)
    for plane in ("registry", "discovery"):
        name = f"up-{plane}-nodes"
        yield _Operation(f"cluster/{name}", "nodes", "nodes", cluster.up_nodes, cluster.get_up_nodes, name)
    yield from _status(serving)
    yield from _replication(serving)


def _status(serving: Serving) -> Iterator[_Operation]:
    status = StatusRoutes(serving)
    # The earlier Rust server had this plane in camelCase only.
    spoken = Spoken(unhinted=RUST, camel=RUST)
    handlers: tuple[tuple[str, Kind, Handler, str | None], ...] = (
        ("node", "node-status", status.node, None),
        ("cluster", "cluster-status", status.cluster, "get-cluster"),
        ("leases", "leases", status.leases, "get-leases"),
        ("legacy-leases", "leases", status.legacy_leases, "get-legacy-leases"),
        ("config", "config", status.config, "get-config"),
        ("deployment", "deployment", status.deployment, "get-deployment"),
    )
    for name, kind, handler, limited_as in handlers:
        yield _Operation(f"status/{name}", "status", kind, handler, handler, limited_as, spoken=spoken)
    for path in ("status/websocket/connection", "status/message/connections"):  # 2.x and 1.x
        yield _Operation(path, "status", "node-status", None, status.connections, suffixes=(JSON,))


def _replication(serving: Serving) -> Iterator[_Operation]:
    for contexts in ((ARTEMIS, *serving.settings.contexts), (ROOT,)):
        routes = ReplicationRoutes(serving, marked=contexts == (ROOT,))
        handlers: tuple[tuple[str, Kind, Handler], ...] = (
            ("register", "register", routes.register),
            ("heartbeat", "heartbeat", routes.heartbeat),
            ("unregister", "unregister", routes.unregister),
        )
        for name, kind, handler in handlers:
            operation = f"replication-{name}"
            path = f"replication/registry/{name}"
            yield _Operation(path, operation, kind, handler, None, operation, (JSON,), contexts)
        yield _Operation(
            "replication/registry/services",
            "replication-services",
            "replicated-services",
            routes.services,
            routes.get_services,
            "replication-get-services",
            (JSON,),
            contexts,
        )
