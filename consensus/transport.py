"""The links between the nodes over TCP: one connection per direction, each proven by both ends before it counts.

A node dials every other member for what it has to say and only listens on the connections the others dial. So a
connection's two ends never disagree about who may speak, and each has one key, one order of frames and one end.

Failure means: close and dial anew. A slow or silent peer, a full queue, a damaged byte all end in
``on_disconnected`` and, when the peer is back, ``on_connected``; inside a connection nothing is ever missing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Mapping

from artemis.consensus import ports, wire
from artemis.consensus.handshake import NONCE_BYTES, DialerHandshake, Identity, ListenerHandshake
from artemis.consensus.link_acceptor import Acceptor
from artemis.consensus.link_inbound import InboundConnection
from artemis.consensus.link_outbound import PeerLink
from artemis.consensus.link_settings import LinkCounters, LinkSettings, PacedLog
from artemis.errors import InvalidInput

_log = logging.getLogger(__name__)


def fresh_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


class TcpLinks:
    """``ports.Links`` over asyncio. Every method and callback belongs to the loop's thread.

    ``members``: every member's (host, port), this node's too. ``server_socket``: bound, not listening yet; None is
    allowed for a cluster of one. ``secret``: at least ``handshake.SECRET_BYTES_MIN`` bytes, the same on all nodes;
    None = no authentication. Raises ``InvalidInput``.

    Use: ``start(events)``, ``await start_server()``, …, ``close()``, ``await wait_closed()``.
    """

    def __init__(
        self,
        *,
        node_id: str,
        cluster: str,
        members: Mapping[str, tuple[str, int]],
        secret: bytes | None,
        server_socket: socket.socket | None,
        rng: ports.Random,
        nonce: Callable[[], bytes] = fresh_nonce,
        settings: LinkSettings | None = None,
    ) -> None:
        self.settings = settings or LinkSettings()
        self.counters = LinkCounters()
        self._identity = Identity(node_id=node_id, cluster=cluster, members=members, secret=secret)
        self._addresses = {peer: _checked(peer, address) for peer, address in members.items() if peer != node_id}
        if server_socket is None and self._addresses:
            raise InvalidInput("server_socket", "is needed as soon as there are other members")
        self._server_socket = server_socket
        self._rng = rng
        self._nonce = nonce
        self._links: dict[str, PeerLink] = {}
        self._inbound: dict[str, InboundConnection] = {}
        self._accepted: set[InboundConnection] = set()
        self._unproven: dict[InboundConnection, None] = {}
        """In the order of their arrival."""
        self._accepted_gone = asyncio.Event()
        self._once_up: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._acceptor: Acceptor | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    # ports.Links

    def start(self, events: ports.LinkEvents) -> None:
        """Begin to dial. Needs a running loop; nothing is called back before this call has returned."""
        if self._sweeper is not None or self._closed:
            raise RuntimeError("links start once")
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._paced_log = PacedLog(_log, loop.time)
        self.events = events
        for peer, address in self._addresses.items():
            self._links[peer] = PeerLink(self, peer, address, loop, self._rng)
            self._tasks.append(loop.create_task(self._links[peer].keep_dialed(), name=f"link to {peer}"))
        self._sweeper = loop.call_later(self.settings.sweep_s, self._sweep)

    async def start_server(self) -> None:
        """Listen. After ``start``."""
        if self._sweeper is None:
            raise RuntimeError("start comes before start_server")
        if self._server_socket is not None:
            self._acceptor = Acceptor(self._loop, self._server_socket, self._new_inbound, self._never_joined)
            self._acceptor.listen(2 * self.settings.unauthenticated_max)

    def send(self, peer: str, message: wire.Message) -> None:
        link = self._links.get(peer)
        connection = None if link is None else link.connection
        if connection is None or not connection.up:
            self.counters.messages_dropped += 1
            return
        connection.send(wire.encode(message))

    def connected(self, peer: str) -> bool:
        link = self._links.get(peer)
        return link is not None and link.connection is not None and link.connection.up

    def close(self) -> None:
        """Close everything at once. Nothing is called back any more."""
        if self._closed:
            return
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._acceptor is not None:
            self._acceptor.close()
        elif self._server_socket is not None:
            self._server_socket.close()
        for task in self._tasks:
            task.cancel()
        for link in self._links.values():
            if link.connection is not None:
                link.connection.abort("closed", "this node closes its links")
        for connection in tuple(self._accepted):
            connection.close()

    async def wait_closed(self) -> None:
        """Close, and wait until no task and no connection is left."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._acceptor is not None:
            await self._acceptor.wait_closed()
        while self._accepted:
            self._accepted_gone.clear()
            await self._accepted_gone.wait()

    def _sweep(self) -> None:
        now = self._loop.time()
        self._sweeper = self._loop.call_later(self.settings.sweep_s, self._sweep)
        for link in self._links.values():
            if link.connection is not None:
                link.connection.sweep(now)
        for connection in tuple(self._inbound.values()):
            connection.sweep(now)

    # What the connections ask: link_outbound.OutboundOwner

    def new_dial(self, peer: str) -> DialerHandshake:
        return DialerHandshake(self._identity, peer, self._nonce())

    def up(self, peer: str) -> None:
        if self._closed:
            return
        self.counters.connects += 1
        if peer in self._once_up:
            self.counters.reconnects += 1
        self._once_up.add(peer)
        _log.info("link to %s is up", self._named(peer))
        self.events.on_connected(peer)

    def down(self, peer: str) -> None:
        if not self._closed:
            self.events.on_disconnected(peer)

    def lost(self, peer: str, reason: str, text: str) -> None:
        self.counters.lost[reason] += 1
        self._paced_log.warn((peer, reason), f"no link to {self._named(peer)}: {text}")

    # What the connections ask: link_inbound.InboundOwner

    def _new_inbound(self, address: str) -> InboundConnection:
        if len(self._unproven) >= self.settings.unauthenticated_max:
            self._make_room()
        connection = InboundConnection(self, address, self._loop)
        self._accepted.add(connection)
        self._unproven[connection] = None
        return connection

    def _make_room(self) -> None:
        """Close the unproven connection that has waited longest, first one that has not even said who it is.

        Refusing the new one instead would let strangers who say nothing, and come back, keep every member out: theirs
        are all the places, and a member's dial is one of thousands for the next one that becomes free.
        """
        waiting = self._unproven
        oldest = next((one for one in waiting if not one.introduced), None) or next(iter(waiting))
        self._refused("", "too_many", oldest.address, f"{len(waiting)} connections are proving themselves")
        oldest.close()
        waiting.pop(oldest, None)

    def _never_joined(self, connection: asyncio.BaseProtocol) -> None:
        assert isinstance(connection, InboundConnection)
        self.gone(connection)

    def new_answer(self) -> ListenerHandshake:
        return ListenerHandshake(self._identity, self._nonce())

    def authenticated(self, connection: InboundConnection, peer: str) -> None:
        self.counters.accepted += 1
        self._unproven.pop(connection, None)
        older = self._inbound.get(peer)
        if older is not None:
            # What still waits on it was sent before what comes now: delivering it later would turn the order round.
            self.refused(older, "replaced", f"{peer} opened a newer connection")
            older.close()
        self._inbound[peer] = connection
        self._links[peer].hint()

    def refused(self, connection: InboundConnection, reason: str, text: str) -> None:
        self._refused(connection.peer, reason, connection.address, text)

    def _refused(self, peer: str, reason: str, address: str, text: str) -> None:
        self.counters.refused[reason] += 1
        self._paced_log.warn((peer, reason), f"closed connection from {peer or 'unproven'} {address}: {text}")

    def gone(self, connection: InboundConnection) -> None:
        self._unproven.pop(connection, None)
        if self._inbound.get(connection.peer) is connection:
            del self._inbound[connection.peer]
        self._accepted.discard(connection)
        self._accepted_gone.set()

    def _named(self, peer: str) -> str:
        host, port = self._addresses[peer]
        return f"{peer} at {host}:{port}"


def _checked(peer: str, address: tuple[str, int]) -> tuple[str, int]:
    host, port = address
    if not host or not 1 <= port <= 65535:
        raise InvalidInput("members", f"{peer}={host}:{port}: a host and a port from 1 to 65535 are needed")
    try:
        host.encode("idna")
    except UnicodeError as exc:
        raise InvalidInput("members", f"{peer}={host}:{port}: {host!r} is not a host name") from exc
    return host, port
