"""Which WebSocket path is served by whom: ``java-client-and-push.md`` 1."""

from __future__ import annotations

from artemis.api.push.java_changes import AllChanges, ChangeMessages, ServiceChanges
from artemis.api.push.java_heartbeat import HeartbeatSocket
from artemis.api.push.rust_socket import RustSocket
from artemis.api.serving import Serving
from artemis.api.sockets import SocketEndpoint


def push_endpoints(serving: Serving) -> dict[str, SocketEndpoint]:
    """By path. Java 2.0 asks below ``/artemis/websocket``, 2.0.2 below ``/websocket``, 1.x below ``/ws`` or its
    servlet context; each is served under every prefix."""
    messages = ChangeMessages(serving)
    java = {
        "registry/heartbeat": SocketEndpoint("java-heartbeat", HeartbeatSocket(serving)),
        "discovery/instance-change": SocketEndpoint("java-changes", ServiceChanges(serving, messages)),
        "discovery/all-instance-change": SocketEndpoint("java-all-changes", AllChanges(serving, messages)),
    }
    endpoints = {
        f"{context}/{root}/{path}": endpoint
        for path, endpoint in java.items()
        for context in ("/artemis", *serving.settings.contexts, "")
        for root in ("websocket", "ws")
    }
    endpoints["/ws"] = SocketEndpoint("rust", RustSocket(serving))
    return endpoints
