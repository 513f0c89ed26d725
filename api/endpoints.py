"""Which path does what: the table behind ``app.Application``.

Every path is served under ``/artemis``, under each configured context (1.x servers had their servlet context there) and
under the root, where the earlier Rust server had its API. What precedes ``/api/`` and how the path ends decide who is
likely to be asking, and so the dialect of the answer where the request's own spelling leaves it open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from artemis.api.answers import Answer
from artemis.api.cluster_routes import ClusterRoutes
from artemis.api.dialects import Spoken
from artemis.api.discovery_routes import DiscoveryRoutes
from artemis.api.registry_routes import RegistryRoutes
from artemis.api.requests import Request
from artemis.api.serving import JAVA, RUST, SNAKE, Serving

Handler = Callable[[Request], Awaitable[Answer]]
Handlers = dict[str, Handler]
"""By method."""


class Endpoint(NamedTuple):
    """One path: which operation it is, its handlers by method, and how it answers."""

    operation: str
    handlers: Handlers
    spoken: Spoken


def endpoints(serving: Serving) -> dict[str, Endpoint]:
    """By path."""
    operations = _operations(serving)
    return {
        f"{context}/api/{path}{suffix}": Endpoint(operation, handlers, spoken_at(context, suffix, serving))
        for path, (operation, handlers) in operations.items()
        for context in ("/artemis", *serving.settings.contexts, "")
        for suffix in ("", ".json")
    }


def spoken_at(context: str, suffix: str, serving: Serving) -> Spoken:
    """Java clients end every path in ``.json``, and those of the Rust server's clients that write camelCase never do
    (``java-client-and-push.md`` 1 and 11)."""
    if context:
        return Spoken(unhinted=JAVA, camel=JAVA)
    camel = JAVA if suffix else RUST
    return Spoken(unhinted=SNAKE if serving.settings.snake_default else camel, camel=camel)


def _operations(serving: Serving) -> dict[str, tuple[str, Handlers]]:
    registry = RegistryRoutes(serving)
    discovery = DiscoveryRoutes(serving)
    cluster = ClusterRoutes(serving)
    nodes: Handlers = {"POST": cluster.up_nodes, "GET": cluster.get_up_nodes}
    return {
        "registry/register": ("register", {"POST": registry.register}),
        "registry/heartbeat": ("heartbeat", {"POST": registry.heartbeat}),
        "registry/unregister": ("unregister", {"POST": registry.unregister}),
        "discovery/lookup": ("lookup", {"POST": discovery.lookup}),
        "discovery/service": ("service", {"POST": discovery.service, "GET": discovery.get_service}),
        "discovery/services": ("services", {"POST": discovery.services, "GET": discovery.get_services}),
        "discovery/services-delta": ("delta", {"POST": discovery.delta}),
        "cluster/up-registry-nodes": ("nodes", nodes),
        "cluster/up-discovery-nodes": ("nodes", nodes),
    }
