"""Bounds, counters and socket options of the links between nodes."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    connect_s: float = 2.0
    handshake_s: float = 3.0
    """Time for the other end to prove itself, on either side."""
    unauthenticated_max: int = 64
    """Inbound connections that have not proven themselves yet; beyond them the oldest is closed for the new one."""
    queued_bytes_max: int = 32 * 1024 * 1024
    """Per peer. A link that holds more unsent bytes is closed: the engine resends what the peer lacks."""
    stall_s: float = 5.0
    """Unsent bytes of which the kernel took none for this long: the peer does not read."""
    frame_s: float = 10.0
    """Time for the rest of a frame that has begun. A damaged length would otherwise swallow what follows it."""
    redial_first_s: float = 0.05
    redial_max_s: float = 1.0
    """Ceiling of the pause between dials: doubles from first to max; the pause is a uniform share of it."""
    lasted_s: float = 1.0
    """A link that was up for so long starts the next pauses from ``redial_first_s``."""
    frames_per_turn: int = 256
    """Frames of one connection handled in one turn of the event loop; then the others have theirs."""

    @property
    def sweep_s(self) -> float:
        """How often stalled connections are looked for: late by a fifth at most."""
        return min(self.stall_s, self.frame_s) / 5


@dataclass(slots=True)
class LinkCounters:
    """Since the start of this process. Only ever grow."""

    accepted: int = 0
    """Inbound connections that proved themselves."""
    connects: int = 0
    """Outbound connections that proved themselves."""
    reconnects: int = 0
    """Those of them that were not the first to their peer."""
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    writes: int = 0
    """Hand-overs to the event loop's transport; a turn's messages to one peer go in one."""
    messages_dropped: int = 0
    """``send`` to a peer whose link was not up."""
    refused: Counter[str] = field(default_factory=Counter)
    """Inbound connections closed by this node, by reason; labels are a fixed set."""
    lost: Counter[str] = field(default_factory=Counter)
    """Outbound connections that did not come up or went down, by reason; labels are a fixed set."""


class PacedLog:
    """At most one line per key in ``every_s``: a stranger who dials all day must not fill the disk with log."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], every_s: float = 10.0) -> None:
        self._logger = logger
        self._clock = clock
        self._every_s = every_s
        self._next: dict[tuple[str, str], float] = {}
        self._skipped: Counter[tuple[str, str]] = Counter()

    def warn(self, key: tuple[str, str], text: str) -> None:
        """``key``: (peer id or "", reason label), both of bounded sets."""
        now = self._clock()
        if now < self._next.get(key, now):
            self._skipped[key] += 1
            return
        skipped = self._skipped.pop(key, 0)
        self._next[key] = now + self._every_s
        self._logger.warning("%s%s", text, f" (and {skipped} more like it)" if skipped else "")


def set_socket_options(connection: socket.socket, *, dead_after_s: float) -> None:
    """No delay for small frames; an unreachable peer is noticed by the kernel, idle or not."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux names; elsewhere the system's own keep-alive times hold.
    for name, value in (
        ("TCP_KEEPIDLE", max(1, round(dead_after_s))),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", round(dead_after_s * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
