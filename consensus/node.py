"""The engine on asyncio, TCP and files: what ``artemis-node`` runs and what the HTTP side talks to."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artemis.commands import Announce, Command, RequestId
from artemis.consensus.disk import FileDisk, ThreadDiskQueue
from artemis.consensus.engine import Engine
from artemis.consensus.link_settings import LinkCounters
from artemis.consensus.ports import World
from artemis.consensus.status import NodeStatus
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.transport import TcpLinks
from artemis.errors import ArtemisError, Unavailable
from artemis.model import Member
from artemis.outcomes import Outcome
from artemis.registry import Registry

log = logging.getLogger("artemis.consensus")

RESIGN_MS = 500
"""How long a leader that is told to stop waits for a successor. Without one the others wait out their election
timeout, as after a crash."""

ANNOUNCE_SECONDS = 0.2
"""How often a member looks whether the cluster knows its current address, until it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    node_id: str
    peers: Mapping[str, tuple[str, int]]
    """Every member, itself included: node id -> Raft (host, port). One entry is a one-node cluster."""
    raft_socket: socket.socket | None
    """Bound, not yet listening. None in a one-node cluster."""
    data_dir: Path
    member: Member
    """What this node announces to the cluster."""
    cluster: str = "artemis"
    secret: bytes | None = None
    rejoin: bool = False
    """The operator knows that this member's data is gone: take the state from the others (``admission``)."""
    timing: Timing = field(default_factory=Timing)
    bounds: Bounds = field(default_factory=Bounds)


class Node:
    """One running member. Implements ``artemis.api.ports.ReplicatedRegistry``."""

    def __init__(self, engine: Engine, links: TcpLinks, queues: tuple[ThreadDiskQueue, ...], disk: FileDisk) -> None:
        """Use ``start``."""
        self._engine = engine
        self._links = links
        self._queues = queues
        self._disk = disk
        self._announcing: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(cls, config: NodeConfig, *, on_fatal: Callable[[str], None]) -> Node:
        """Recover and take part. Raises ``DataDamaged``, ``InvalidInput`` or ``OSError`` for the operator.

        ``on_fatal`` is called once, with the reason, when the node has stopped itself; the process should then end.
        """
        loop = asyncio.get_running_loop()
        rng = random.Random(random.SystemRandom().getrandbits(256))
        disk = FileDisk(config.data_dir)
        queues = (ThreadDiskQueue(loop), ThreadDiskQueue(loop))
        links = TcpLinks(
            node_id=config.node_id,
            cluster=config.cluster,
            members=config.peers,
            secret=config.secret,
            server_socket=config.raft_socket,
            rng=rng,
        )
        world = World(
            clock=time.monotonic,
            rng=rng,
            scheduler=loop,
            disk=disk,
            disk_queue=queues[0],
            snapshot_queue=queues[1],
            links=links,
            wall_ms=int(time.time() * 1000),
        )
        try:
            engine = Engine(
                node_id=config.node_id,
                members=tuple(sorted(config.peers)),
                cluster=config.cluster,
                world=world,
                timing=config.timing,
                bounds=config.bounds,
                on_fatal=on_fatal,
                rejoin=config.rejoin,
            )
        except BaseException:
            for queue in queues:
                queue.close()
            links.close()
            disk.unlock()
            raise
        node = cls(engine, links, queues, disk)
        engine.start()
        await links.start_server()
        node._announcing = loop.create_task(node._announce(config.member))
        return node

    async def close(self) -> None:
        """Stop taking part: leadership is handed over, open proposals and reads are answered, files are closed."""
        if self._announcing is not None:
            self._announcing.cancel()
        resigned: asyncio.Future[None] = self._loop.create_future()
        self._engine.resign(RESIGN_MS, lambda: None if resigned.done() else resigned.set_result(None))
        await resigned
        for queue in self._queues:
            queue.close()
        self._engine.close()
        await self._links.wait_closed()

    # -- ReplicatedRegistry ------------------------------------------------------------------------------------------

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

    @property
    def link_counters(self) -> LinkCounters:
        """What the links carried and refused since the start."""
        return self._links.counters

    # -- membership --------------------------------------------------------------------------------------------------

    async def _announce(self, member: Member) -> None:
        """Tell the cluster where this node's HTTP side is, once it can see that the cluster does not know."""
        while True:
            if self.status().ready:
                if self.registry.members.get(member.node_id) == member:
                    return
                try:
                    await self.propose(Announce(member), timeout_ms=2000)
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
