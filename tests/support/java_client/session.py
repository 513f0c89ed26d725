"""The one WebSocket of a client: pings, renewals, and reconnects within their limit (6, 7, 8.3)."""

from __future__ import annotations

import asyncio
import random
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
        choose: random.Random,
    ) -> None:
        self._settings = settings
        self._random = choose
        self._path = settings.websocket_path + path
        self._addresses = addresses
        self._observed = observed
        self._on_open = on_open
        self._on_text = on_text
        self._socket: WebSocket | None = None
        self._context: AddressContext | None = None
        self._opened_at = 0.0
        self._ponged = asyncio.Event()
        self._connects: deque[float] = deque()
        self._connecting = asyncio.Lock()
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
        expired = time.monotonic() - self._opened_at > self._settings.session_ttl_s
        if expired or not self._context_available() or not await self._is_alive():
            await self.reconnect()

    async def _is_alive(self) -> bool:
        """Ping and wait for the pong. When none came the SDK asks a clock of whole milliseconds whether the time is
        over, and mostly reads that it is just not."""
        if self._socket is None or not self._socket.open:
            return False
        self._ponged.clear()
        pinged_at = time.monotonic()
        self._socket.ping()
        try:
            async with asyncio.timeout(self._settings.ping_timeout_s):
                await self._ponged.wait()
        except TimeoutError:
            noticed = self._random.random() < self._settings.pong_noticed
            missing = "pong missing" if noticed else "pong missing, not noticed"
            self._observed.count(missing, f"{time.monotonic() - pinged_at:.3f} s at {self.connected_to}")
            return not noticed
        self._observed.pongs_s.append(time.monotonic() - pinged_at)
        return True

    def _context_available(self) -> bool:
        return self._context is not None and self._context.available

    async def reconnect(self) -> None:
        """A new connection, then the end of the old one; nothing when one is being made, or there were too many."""
        if self._connecting.locked():
            return
        async with self._connecting:
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
            self._observed.count("connected" if self.connected_to is None else "reconnected")
            self.connected_to = context.url
            if old is not None:
                old.close()
            if self._stopped:
                fresh.close()
            else:
                self._on_open()

    def _pong(self) -> None:
        self._ponged.set()

    def _closed(self) -> None:
        if not self.open and not self._stopped:
            self._observed.count("closed by the server")
            self._closed_now.set()
