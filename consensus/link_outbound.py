"""The way from this node to one peer: a connection that carries our messages, and the dialing that renews it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Protocol, cast

from artemis.consensus import ports
from artemis.consensus.frames import FrameWriter
from artemis.consensus.handshake import DialerHandshake, HandshakeRefused
from artemis.consensus.link_settings import LinkCounters, LinkSettings, set_socket_options
from artemis.consensus.wire import FRAME_BYTES_MAX

_ANSWER_BYTES_MAX = 1024


class OutboundOwner(Protocol):
    """What a way out asks of the links it belongs to."""

    settings: LinkSettings
    counters: LinkCounters

    def new_dial(self, peer: str) -> DialerHandshake: ...

    def up(self, peer: str) -> None: ...

    def down(self, peer: str) -> None: ...

    def lost(self, peer: str, reason: str, text: str) -> None:
        """A dial failed or a connection ended: counts and logs."""


class OutboundConnection(asyncio.BufferedProtocol):
    """One dialed connection, from its first byte to its end."""

    def __init__(self, owner: OutboundOwner, peer: str, loop: asyncio.AbstractEventLoop) -> None:
        self.up = False
        """Proven, and not given up: what is sent now arrives in order, or the connection ends."""
        self.up_since: float | None = None
        self.failure = ("closed", "the peer closed the connection")
        """Reason label and text, once it has ended."""
        self.gone = asyncio.Event()
        self._owner = owner
        self._peer = peer
        self._loop = loop
        self._handshake = owner.new_dial(peer)
        self._answer = bytearray(_ANSWER_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._writer: FrameWriter | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._written_bytes = 0
        self._drained_bytes = 0
        self._drained_at: float | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        self._transport = transport
        if self._ended:
            transport.abort()
            return
        if transport.get_extra_info("sockname") == transport.get_extra_info("peername"):
            # Nobody listens and the kernel joined this dial to itself, which also takes the port from the peer.
            self.abort("connect", "nobody listens there")
            return
        connection: socket.socket = transport.get_extra_info("socket")
        set_socket_options(connection, dead_after_s=self._owner.settings.stall_s)
        self._timer = self._loop.call_later(self._owner.settings.handshake_s, self._on_handshake_late)
        transport.write(self._handshake.hello())

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._answer

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended or self._transport is None or self._timer is None:
            return
        try:
            reply = self._handshake.receive(bytes(self._answer[:nbytes]))
        except HandshakeRefused as refused:
            said = "the peer refused: " if refused.by_peer else ""
            self.abort(refused.reason.name.lower(), f"{said}{refused}")
            return
        if reply:
            self._transport.write(reply)
        if self._handshake.done:
            self._timer.cancel()
            self._writer = FrameWriter(self._handshake.frame_key)
            self.up = True
            self.up_since = self._loop.time()
            self._owner.up(self._peer)

    def eof_received(self) -> None:
        # The default would go on flushing to a peer that left, and silently drop what is sent meanwhile.
        self.abort(*self.failure)

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort("closed", str(exc) if exc else "the connection broke")
        if self.up_since is not None:
            self._owner.down(self._peer)
        self.gone.set()

    # Sending.

    def send(self, payload: bytes) -> None:
        """Queue one message, to be written when the loop's current turn ends; or give the connection up."""
        if self._writer is None or not self.up:
            return
        size = len(payload)
        if size > FRAME_BYTES_MAX:
            self.abort("message_size", f"a message of {size} bytes; a frame takes at most {FRAME_BYTES_MAX}")
            return
        parts = self._parts
        if not parts:
            self._loop.call_soon(self._flush)
        parts.append(self._writer.head(payload))
        parts.append(payload)
        self._parts_bytes += size + self._writer.overhead_bytes
        if self._parts_bytes > self._owner.settings.queued_bytes_max:
            self._overflow()

    def _flush(self) -> None:
        if self._transport is None or not self.up:
            return
        data = b"".join(self._parts)
        counters = self._owner.counters
        counters.frames_out += len(self._parts) // 2
        counters.bytes_out += len(data)
        counters.writes += 1
        self._parts.clear()
        self._parts_bytes = 0
        self._written_bytes += len(data)
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._owner.settings.queued_bytes_max:
            self._overflow()

    def _overflow(self) -> None:
        self.abort("queue_full", f"more than {self._owner.settings.queued_bytes_max} bytes are unsent")

    def sweep(self, now: float) -> None:
        """Give the connection up if the peer has taken nothing of what is waiting for too long."""
        if self._transport is None or not self.up:
            return
        unsent = self._transport.get_write_buffer_size()
        drained = self._written_bytes - unsent
        if unsent == 0 or drained != self._drained_bytes or self._drained_at is None:
            self._drained_bytes = drained
            self._drained_at = now if unsent else None
        elif now - self._drained_at >= self._owner.settings.stall_s:
            self.abort("stalled", f"the peer has taken nothing for {self._owner.settings.stall_s} s")

    # The end.

    def abort(self, reason: str, text: str) -> None:
        """Nothing more is sent on it, also not what is queued: a gap is only allowed between connections."""
        if self._ended:
            return
        self._ended = True
        self.up = False
        self.failure = (reason, text)
        self._parts.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _on_handshake_late(self) -> None:
        self.abort("handshake_time", f"no proof within {self._owner.settings.handshake_s} s")


class Backoff:
    """Pauses between dials: a uniform share of a ceiling that doubles (full jitter)."""

    def __init__(self, settings: LinkSettings, rng: ports.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._ceiling_s = settings.redial_first_s

    def next_pause_s(self) -> float:
        pause_s = self._ceiling_s * self._rng.random()
        self._ceiling_s = min(2 * self._ceiling_s, self._settings.redial_max_s)
        return pause_s

    def reset(self) -> None:
        self._ceiling_s = self._settings.redial_first_s


class PeerLink:
    """Keeps an outbound connection to one peer until its task is cancelled."""

    def __init__(
        self,
        owner: OutboundOwner,
        peer: str,
        address: tuple[str, int],
        loop: asyncio.AbstractEventLoop,
        rng: ports.Random,
    ) -> None:
        self.connection: OutboundConnection | None = None
        self._owner = owner
        self._peer = peer
        self._address = address
        self._loop = loop
        self._backoff = Backoff(owner.settings, rng)
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """The peer was just seen alive: dial without waiting out the pause."""
        self._hint.set()

    async def keep_dialed(self) -> None:
        while True:
            self._hint.clear()
            await self._dial_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next_pause_s()):
                    await self._hint.wait()

    async def _dial_once(self) -> None:
        """One connection from dial to end."""
        settings = self._owner.settings
        try:
            async with asyncio.timeout(settings.connect_s):
                _, connection = await self._loop.create_connection(self._new_connection, *self._address)
        except OSError as exc:
            self._owner.lost(self._peer, "connect", str(exc) or f"no answer within {settings.connect_s} s")
            return
        try:
            await connection.gone.wait()
        finally:
            connection.abort("closed", "this node closes its links")
            await connection.gone.wait()
        if connection.up_since is not None and self._loop.time() - connection.up_since >= settings.lasted_s:
            self._backoff.reset()
        self._owner.lost(self._peer, *connection.failure)

    def _new_connection(self) -> OutboundConnection:
        # Known before its first callback: the engine may send from within ``on_connected``.
        self.connection = OutboundConnection(self._owner, self._peer, self._loop)
        return self.connection
