"""A transport that does as told, for protocols without a network."""

from __future__ import annotations

import asyncio
from typing import Any


class ToldTransport(asyncio.Transport):
    """Takes everything, and is never lost by itself: a client that neither reads nor goes away."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 40_000)})
        self.written = b""
        self.unread = 0
        self.closing = False
        self.aborted = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True
