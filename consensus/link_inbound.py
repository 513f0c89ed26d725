"""One connection that a peer opened to bring its messages. It only delivers; its handshake is the only answer."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

from artemis.consensus import wire
from artemis.consensus.frames import FrameReader
from artemis.consensus.handshake import HandshakeRefused, ListenerHandshake
from artemis.consensus.link_settings import LinkCounters, LinkSettings, set_socket_options
from artemis.consensus.ports import LinkEvents
from artemis.errors import DataDamaged

HANDSHAKE_BYTES_MAX = 1024
"""All that is ever read from a connection that has not proven itself."""


class InboundOwner(Protocol):
    """What a connection asks of the links it belongs to."""

    settings: LinkSettings
    counters: LinkCounters
    events: LinkEvents

    def new_answer(self) -> ListenerHandshake: ...

    def authenticated(self, connection: InboundConnection, peer: str) -> None: ...

    def refused(self, connection: InboundConnection, reason: str, text: str) -> None:
        """Counts and logs; the connection closes itself."""

    def gone(self, connection: InboundConnection) -> None: ...


class InboundConnection(asyncio.BufferedProtocol):
    """One accepted connection, from its first byte to its end."""

    def __init__(self, owner: InboundOwner, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = ""
        """Who it is, once proven."""
        self.address = address
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._handshake = owner.new_answer()
        self._hello = bytearray(HANDSHAKE_BYTES_MAX)
        self._hello_bytes = 0
        self._reader: FrameReader | None = None
        self._paused = False
        self._swept_frames = 0
        self._swept_at: float | None = None

    @property
    def introduced(self) -> bool:
        """It has said who it is, and that fits this cluster. Not proven yet: recordings can say it too."""
        return self._handshake.introduced

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        self._transport = transport
        if self._closed:
            transport.abort()
            return
        settings = self._owner.settings
        connection: socket.socket = transport.get_extra_info("socket")
        set_socket_options(connection, dead_after_s=settings.stall_s)
        self._timer = self._loop.call_later(settings.handshake_s, self._on_handshake_late)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._reader is not None:
            return self._reader.room()
        # The handshake refuses before this is full, so a stranger's bytes have no other place to go.
        return memoryview(self._hello)[self._hello_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._closed:
            return
        self._owner.counters.bytes_in += nbytes
        if self._reader is None:
            self._shake_hands(nbytes)
        else:
            self._reader.received(nbytes)
            self._deliver_slice()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()
        self._owner.gone(self)

    # The handshake.

    def _shake_hands(self, count: int) -> None:
        assert self._transport is not None
        data = bytes(self._hello[self._hello_bytes : self._hello_bytes + count])
        self._hello_bytes += count
        try:
            reply = self._handshake.receive(data)
        except HandshakeRefused as refused:
            self._owner.refused(self, refused.reason.name.lower(), str(refused))
            self._leave(refused.reply)
            return
        if reply:
            self._transport.write(reply)
        if self._handshake.peer is not None:
            self._cancel_timer()
            self.peer = self._handshake.peer
            self._reader = FrameReader(self._handshake.frame_key)
            self._owner.authenticated(self, self.peer)

    def _leave(self, reply: bytes) -> None:
        """Tell a misconfigured peer why, so that both logs say it. The timer ends one that does not take it."""
        assert self._transport is not None
        self._closed = True
        if reply:
            self._transport.write(reply)
            self._transport.close()
        else:
            self.close()

    def _on_handshake_late(self) -> None:
        if not self._closed:
            self._owner.refused(self, "handshake_time", f"no proof within {self._owner.settings.handshake_s} s")
        self.close()

    # Frames.

    def _deliver_slice(self) -> None:
        """Hand over what is whole, at most ``frames_per_turn``; then other callbacks of the loop have their turn."""
        reader = self._reader
        assert reader is not None
        counters, on_message, peer = self._owner.counters, self._owner.events.on_message, self.peer
        for _ in range(self._owner.settings.frames_per_turn):
            if self._closed:
                return
            try:
                payload = reader.next()
                message = None if payload is None else wire.decode(payload)
            except DataDamaged as damage:
                self._refuse("frame", str(damage))
                return
            if message is None:
                self._resume()
                return
            counters.frames_in += 1
            on_message(peer, message)
        self._pause()

    def _pause(self) -> None:
        """Read no more before the next slice: what waits stays with the sender, and TCP slows it down."""
        if self._closed or self._transport is None:
            return
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._loop.call_soon(self._deliver_slice)

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Close the connection if a frame began and did not end for too long."""
        reader = self._reader
        if reader is None or self._closed:
            return
        waiting = reader.buffered_bytes > 0
        if not waiting or reader.frames != self._swept_frames or self._swept_at is None:
            self._swept_frames = reader.frames
            self._swept_at = now if waiting else None
        elif now - self._swept_at >= self._owner.settings.frame_s:
            self._refuse("frame_time", f"a frame did not end within {self._owner.settings.frame_s} s")

    # The end.

    def _refuse(self, reason: str, text: str) -> None:
        self._owner.refused(self, reason, text)
        self.close()

    def close(self) -> None:
        """At once: nothing more is delivered, also not what has been received."""
        self._closed = True
        self._cancel_timer()
        if self._transport is not None:
            self._transport.abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
