"""What a Java session still has to tell its client to look up again, and when it may.

A Java client looks up at once, in the thread that receives, and until that is done sees no pong. A client that came
back and subscribed to a thousand services was told a thousand reloads, did nothing else for seconds, missed its pong,
came back again, and was told them again (seen with 2.0.1). So a few are told, then a ping; a client answers pings in
the order in which it receives, and the next few wait for that answer.

What changed last comes first: it is what the client is most likely to have missed. A service is told once, however
often it became due meanwhile, since the look-up that follows sees everything.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Literal

from artemis.api.push.sessions import Session
from artemis.registry import Registry

Cause = Literal["subscribed", "behind", "too-large"]

TOLD_AT_ONCE = 16
"""Look-ups of 60 ms each would still let a pong through in its second."""


class Reloads:
    """``message`` makes the push of a canonical service id."""

    def __init__(self, registry: Callable[[], Registry], message: Callable[[str, Cause], bytes]) -> None:
        self._registry = registry
        self._message = message
        self._causes: dict[str, Cause] = {}
        self._order: list[tuple[int, str]] = []
        """A heap of what is in ``_causes``, by what comes first."""
        self._due = asyncio.Event()

    def add(self, service_id: str, cause: Cause) -> None:
        if service_id in self._causes:
            return
        registry = self._registry()
        view = registry.service(service_id)
        # A service without instances may have lost them while the client was away.
        revision = registry.revision if view is None else view.revision
        self._causes[service_id] = cause
        heapq.heappush(self._order, (-revision, service_id))
        self._due.set()

    async def tell(self, session: Session) -> None:
        """The part of a session that sends them. Does not return."""
        while True:
            await self._due.wait()
            for _ in range(min(TOLD_AT_ONCE, len(self._order))):
                _, service_id = heapq.heappop(self._order)
                await session.send(self._message(service_id, self._causes.pop(service_id)))
            if not self._order:
                self._due.clear()
            await session.caught_up()
