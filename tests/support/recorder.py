"""A TCP relay on loopback that keeps what passes through it: what a client really sends."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

_READ_BYTES = 65_536


@dataclass(slots=True)
class Recorded:
    """One connection, as the client had it."""

    sent: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)


class Recorder:
    """Relays every connection to ``target_port``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._relays: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections: list[Recorded] = []

    async def start(self, port: int = 0) -> None:
        """``port`` 0: any."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._relays)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay is not None
        self._relays.add(relay)
        recorded = Recorded()
        self.connections.append(recorded)
        self._writers.append(writer)
        try:
            answers, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        self._writers.append(onward)
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(_pump(reader, onward, recorded.sent))
            pumps.create_task(_pump(answers, writer, recorded.heard))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    """Until either side is closed, which closes the other."""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_READ_BYTES):
            kept += piece
            writer.write(piece)
            await writer.drain()
    writer.close()
