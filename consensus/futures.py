"""The engine's doors as awaitables: its callbacks become futures of one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from artemis.commands import Announce, Command, Configure, RequestId
from artemis.consensus.engine import Engine
from artemis.consensus.status import NodeStatus
from artemis.errors import ArtemisError, Unavailable
from artemis.model import Member
from artemis.outcomes import Outcome
from artemis.protection import ProtectionSettings
from artemis.registry import Registry

log = logging.getLogger("artemis.consensus")

ANNOUNCE_SECONDS = 0.2
"""How often a member looks whether the cluster knows its current address, until it does."""

ANNOUNCE_TIMEOUT_MS = 2000


class EngineFutures:
    """Implements ``artemis.api.ports.ReplicatedRegistry`` on an engine that runs in ``loop``."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    @property
    def registry(self) -> Registry:
        return self._engine.registry

    def propose(
        self, command: Command, *, request: RequestId | None = None, timeout_ms: int
    ) -> asyncio.Future[Outcome]:
        """See ``artemis.api.ports.ReplicatedRegistry.propose``."""
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def resolve(result: Outcome | ArtemisError) -> None:
            # A caller that went away has cancelled its future; the proposal goes on without it.
            if future.done():
                return
            if isinstance(result, ArtemisError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._engine.propose(command, request, timeout_ms, resolve)
        return future

    def barrier(self, *, timeout_ms: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._engine.barrier(timeout_ms, _completion(future))
        return future

    def applied(self, revision: int, *, timeout_ms: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._engine.applied(revision, timeout_ms, _completion(future))
        return future

    def status(self) -> NodeStatus:
        return self._engine.status()

    def on_applied(self, listener: Callable[[int], None]) -> None:
        self._engine.on_applied(listener)

    async def announce(self, member: Member, protection: ProtectionSettings | None = None) -> None:
        """Tell the cluster where this node's HTTP side is, once it can see that the cluster does not know, and how it
        is set to protect. Settings are told once: of members that are set differently the last to start counts, and
        they do not go on contradicting each other."""
        while True:
            if self.status().ready:
                told = self.registry.members.get(member.node_id) == member
                if protection == self.registry.protection_settings:
                    protection = None
                if told and protection is None:
                    return
                try:
                    if not told:
                        await self.propose(Announce(member), timeout_ms=ANNOUNCE_TIMEOUT_MS)
                    if protection is not None:
                        before = self.registry.protection_settings
                        await self.propose(Configure(protection), timeout_ms=ANNOUNCE_TIMEOUT_MS)
                        log.warning("the cluster's protection is now %s; it was %s", protection, before)
                        protection = None
                except Unavailable as exc:
                    log.debug("not announced yet: %s", exc)
            await asyncio.sleep(ANNOUNCE_SECONDS)


def _completion(future: asyncio.Future[None]) -> Callable[[ArtemisError | None], None]:
    def done(error: ArtemisError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    return done
