"""Where the watch is served: ``GET`` and WebSocket on one path, under every prefix of the API."""

from __future__ import annotations

from artemis.api.endpoints import BARE, JSON, Endpoint, spoken_at
from artemis.api.serving import Serving
from artemis.api.sockets import SocketEndpoint
from artemis.api.watch import Watches
from artemis.api.watch_poll import WatchPoll
from artemis.api.watch_socket import WatchSocket

KIND = "watch"


def watch_polls(serving: Serving, watches: Watches) -> dict[str, Endpoint]:
    """The long poll, by path."""
    get = WatchPoll(serving, watches).get
    snake_default = serving.settings.snake_default
    return {
        f"{context}/api/watch{suffix}": Endpoint(
            KIND, {"GET": get}, spoken_at(context, suffix, snake_default=snake_default), limit=None, refuse=get
        )
        for context in _contexts(serving)
        for suffix in (BARE, JSON)
    }


def watch_sockets(serving: Serving, watches: Watches) -> dict[str, SocketEndpoint]:
    """The stream, by path."""
    socket = WatchSocket(serving, watches)
    snake_default = serving.settings.snake_default
    return {
        f"{context}/api/watch": SocketEndpoint(
            KIND, socket.handler(spoken_at(context, BARE, snake_default=snake_default))
        )
        for context in _contexts(serving)
    }


def _contexts(serving: Serving) -> tuple[str, ...]:
    return ("/artemis", *serving.settings.contexts, "")
