"""Lets all pushes together take a bounded part of each turn of the event loop.

A send that finds room in the socket's buffer does not give up the turn. When a thousand instances of a service with a
thousand subscribers end in one entry, a million messages would follow each other before anything else ran: no pong, no
heartbeat of the leader, and an election.
"""

from __future__ import annotations

import asyncio
from collections import deque

MESSAGES_PER_TURN = 128
"""About 4 ms of sending."""


class Pace:
    def __init__(self, messages_per_turn: int = MESSAGES_PER_TURN) -> None:
        self._per_turn = messages_per_turn
        self._left = messages_per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def turn(self) -> None:
        """Return when one more message may be sent, in the order of the calls."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _next_turn(self) -> None:
        self._left = self._per_turn
        while self._left and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._left -= 1
                waiter.set_result(None)
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._next_turn)
