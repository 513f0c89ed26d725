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

from artemis.consensus.disk import FileDisk, ThreadDiskQueue
from artemis.consensus.engine import Engine
from artemis.consensus.futures import EngineFutures
from artemis.consensus.link_settings import LinkCounters
from artemis.consensus.ports import World
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.transport import TcpLinks
from artemis.model import Member
from artemis.protection import ProtectionSettings

log = logging.getLogger("artemis.consensus")

RESIGN_MS = 500
"""How long a leader that is told to stop waits for a successor. Without one the others wait out their election
timeout, as after a crash."""


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
    protection: ProtectionSettings = field(default_factory=ProtectionSettings)
    """What the whole cluster is set to when this node starts."""


class Node(EngineFutures):
    """One running member. Implements ``artemis.api.ports.ReplicatedRegistry``."""

    def __init__(self, engine: Engine, links: TcpLinks, queues: tuple[ThreadDiskQueue, ...], disk: FileDisk) -> None:
        """Use ``start``."""
        super().__init__(engine, asyncio.get_running_loop())
        self._links = links
        self._queues = queues
        self._disk = disk
        self._announcing: asyncio.Task[None] | None = None

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
        _tell_what_was_found(engine, config)
        node = cls(engine, links, queues, disk)
        engine.start()
        await links.start_server()
        node._announcing = loop.create_task(node.announce(config.member, config.protection))
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

    @property
    def link_counters(self) -> LinkCounters:
        """What the links carried and refused since the start."""
        return self._links.counters


def _tell_what_was_found(engine: Engine, config: NodeConfig) -> None:
    journal = engine.journal
    found = journal.recovery
    if found.created:
        log.info("%s holds no data yet", config.data_dir)
    else:
        log.info(
            "%s holds entries %d to %d, and a snapshot up to entry %d",
            config.data_dir,
            journal.first_index,
            journal.last_index,
            engine.snapshots.index,
        )
    if found.cut_bytes:
        log.warning(
            "cut %d bytes off the end of the journal: a write that did not finish, told to nobody", found.cut_bytes
        )
    if config.rejoin and engine.admission.done:
        log.warning("--rejoin has no effect: this member has its data. To give it up, empty %s first", config.data_dir)
