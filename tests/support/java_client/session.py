"""The one WebSocket of a client: pings, renewals, and reconnects within their limit (6, 7, 8.3)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from tests.support.java_client.addresses import AddressContext, AddressManager
from tests.support.java_client.observed import Observed
from tests.support.java_client.settings import JavaSettings
from tests.support.java_client.websocket import ConnectFailed, WebSocket


class Session:
    """``on_open`` is called after each connect, ``on_text`` with every message of the present connection."""

    def __init__(
        self,
        settings: JavaSettings,
        path: str,
        addresses: AddressManager,
        observed: Observed,
        *,
        on_open: Callable[[], None],
        on_text: Callable[[str], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._path = settings.websocket_path + path
        self._addresses = addresses
        self._observed = observed
        self._on_open = on_open
        self._on_text = on_text
        self._socket: WebSocket | None = None
        self._context: AddressContext | None = None
        self._opened_at = 0.0
        self._pinged_at: float | None = None
        self._connects: deque[float] = deque()
        self._checking = asyncio.Lock()
        self._closed_now = asyncio.Event()
        self.connected_to: str | None = None
        self._stopped = False

    @property
    def open(self) -> bool:
        return self._socket is not None and self._socket.open

    def send(self, text: bytes) -> bool:
        """False when there is no connection."""
        if self._socket is None or not self._socket.open:
            return False
        self._socket.send_text(text)
        return True

    def mark_unavailable(self) -> None:
        if self._context is not None:
            self._context.mark_unavailable()

    def stop(self) -> None:
        self._stopped = True
        if self._socket is not None:
            self._socket.close()

    async def run(self) -> None:
        """The health check: each second, and at once after the server closed."""
        while not self._stopped:
            await self.check_health()
            try:
                async with asyncio.timeout(self._settings.check_s):
                    await self._closed_now.wait()
            except TimeoutError:
                continue

    async def check_health(self) -> None:
        self._closed_now.clear()
        now = time.monotonic()
        if self._pinged_at is not None and now - self._pinged_at >= self._settings.ping_timeout_s and self.open:
            self._observed.count("pong missing", f"{now - self._pinged_at:.3f} s at {self.connected_to}")
            await self.reconnect()
        elif not self.open or now - self._opened_at > self._settings.session_ttl_s or not self._context_available():
            await self.reconnect()
        if self.open and self._pinged_at is None and self._socket is not None:
            self._pinged_at = time.monotonic()
            self._socket.ping()

    def _context_available(self) -> bool:
        return self._context is not None and self._context.available

    async def reconnect(self) -> None:
        """A new connection, then the end of the old one; nothing when there were too many of late."""
        async with self._checking:
            now = time.monotonic()
            while self._connects and now - self._connects[0] > self._settings.reconnects_window_s:
                self._connects.popleft()
            if len(self._connects) >= self._settings.reconnects_max:
                self._observed.count("reconnect held back")
                return
            self._connects.append(now)
            context = self._addresses.get()
            url = "ws://" + context.url.partition("://")[2] + self._path
            try:
                fresh = await WebSocket.connect(
                    url,
                    self._on_text,
                    self._pong,
                    self._closed,
                    timeout_s=self._settings.session_connect_timeout_s,
                    message_chars_max=self._settings.message_chars_max,
                )
            except ConnectFailed as exc:
                self._observed.count("connect failed", f"{url}: {exc}")
                context.mark_unavailable()
                return
            old, self._socket, self._context = self._socket, fresh, context
            self._opened_at = time.monotonic()
            self._pinged_at = None
            self._observed.count("connected" if self.connected_to is None else "reconnected")
            self.connected_to = context.url
            if old is not None:
                old.close()
            if self._stopped:
                fresh.close()
            else:
                self._on_open()

    def _pong(self) -> None:
        if self._pinged_at is not None:
            self._observed.pongs_s.append(time.monotonic() - self._pinged_at)
            self._pinged_at = None

    def _closed(self) -> None:
        if not self.open and not self._stopped:
            self._observed.count("closed by the server")
            self._closed_now.set()
