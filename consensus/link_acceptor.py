"""Takes connections from a listening socket, in the loop's own turn.

Not ``loop.create_server``: on CPython 3.11 a connection accepted in the turn in which the server closes is dropped with
its socket open, and every accepted connection costs a transport and a task before it can be refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

_log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN = 16
_RETRY_S = 1.0


class Acceptor:
    """``new_protocol(address)`` makes the protocol of an accepted connection, or None: then it is closed at once.

    ``failed(protocol)``: it never got its connection, so none of the protocol's own callbacks came.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        new_protocol: Callable[[str], asyncio.BaseProtocol | None],
        failed: Callable[[asyncio.BaseProtocol], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._new_protocol = new_protocol
        self._failed = failed
        self._retry: asyncio.TimerHandle | None = None
        self._joining: set[asyncio.Task[object]] = set()

    def listen(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._watch()

    def _watch(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Out of file descriptors or memory: the connection stays in the backlog, so the socket stays readable
                # and the loop would spin. Others may free some in the meantime.
                _log.warning("cannot accept connections of peers, next attempt in %s s: %s", _RETRY_S, exc)
                self._loop.remove_reader(self._listener)
                self._retry = self._loop.call_later(_RETRY_S, self._watch)
                return
            protocol = self._new_protocol(f"{address[0]}:{address[1]}")
            if protocol is None:
                connection.close()
            else:
                self._join(protocol, connection)

    def _join(self, protocol: asyncio.BaseProtocol, connection: socket.socket) -> None:
        connection.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: protocol, connection)
        )

        def joined(done: asyncio.Task[object]) -> None:
            self._joining.discard(done)
            if done.cancelled() or done.exception() is not None:
                connection.close()
                self._failed(protocol)

        self._joining.add(task)
        task.add_done_callback(joined)

    def close(self) -> None:
        """Accept no more. Connections accepted before still join, and see for themselves that it is over."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._joining, return_exceptions=True)
