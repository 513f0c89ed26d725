"""Closes connections whose client stopped in the middle of a request, or of reading an answer.

uvicorn waits for the rest of a request for ever, and so does the handler that reads its body. A client whose machine
vanished sends no end; ``connections_max`` of them, or one that means harm, would make a node refuse everybody. A
request is therefore given between one and two ``RECEIVE_SECONDS`` to arrive as a whole, however steadily its bytes
trickle; so is the first one of a new connection. Looking at all connections now and then costs requests nothing.

An answer that is not read keeps its bytes, megabytes where it lists all services, and a transport that is told to close
first waits until they are written. It is cut once the client has taken nothing of it for as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from artemis.api.http_protocol import OneWriteProtocol

RECEIVE_SECONDS = 30.0


class SlowRequests:
    """``connections``: the server's open ones, whatever they are at the time. Those of WebSockets are passed over."""

    def __init__(self, connections: Callable[[], Iterable[object]]) -> None:
        self._connections = connections
        self._waiting: dict[OneWriteProtocol, RequestResponseCycle | None] = {}
        """Connections that were waiting for bytes when last looked at, and the request before or with those bytes."""
        self._unread: dict[OneWriteProtocol, int] = {}
        """Connections with bytes that were not written when last looked at, and how many."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(RECEIVE_SECONDS, self._look, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        before, self._waiting = self._waiting, {}
        unread_before, self._unread = self._unread, {}
        for connection in list(self._connections()):
            if not isinstance(connection, OneWriteProtocol):
                continue
            unread = connection.transport.get_write_buffer_size()
            if unread and unread_before.get(connection) == unread:
                connection.transport.abort()
                continue
            if unread:
                self._unread[connection] = unread
            if not _waits_for_bytes(connection):
                continue
            if connection in before and before[connection] is connection.cycle:
                connection.transport.close()
            else:
                self._waiting[connection] = connection.cycle
        self.start(loop)


def _waits_for_bytes(connection: OneWriteProtocol) -> bool:
    cycle: RequestResponseCycle | None = connection.cycle
    if cycle is None:
        return True  # nothing yet, or a part of the first head
    if cycle.response_complete:
        # Between two requests keep-alive has its own bound, until a part of the next head has come.
        return not connection.idle
    return cycle.more_body
