"""The proxies between nodes: what passes, what a cut holds, what a heal lets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jepsen_lite.cluster import HOST
from jepsen_lite.proxy import Proxies

pytestmark = pytest.mark.anyio
DEADLINE_S = 10.0
End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def joined(proxies: Proxies) -> AsyncIterator[tuple[End, asyncio.Queue[End]]]:
    """A connection that a dialed to b, and the queue of those that arrive at b."""
    arrived: asyncio.Queue[End] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await arrived.put((reader, writer))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        proxies.start({"a": 1, "b": server.sockets[0].getsockname()[1]})
        async with asyncio.timeout(DEADLINE_S):
            yield await asyncio.open_connection(HOST, proxies.ports["a", "b"]), arrived
    finally:
        await asyncio.to_thread(proxies.close)
        server.close()
        while not arrived.empty():
            arrived.get_nowait()[1].close()


async def passes(sender: End, receiver: End, data: bytes) -> None:
    sender[1].write(data)
    assert await receiver[0].readexactly(len(data)) == data


async def test_a_cut_holds_one_direction_and_a_heal_delivers_what_it_held() -> None:
    proxies = Proxies(["a", "b"])
    async with joined(proxies) as (near, arrived):
        far = await arrived.get()
        await passes(near, far, b"hello")
        await passes(far, near, b"challenge")
        proxies.cut("a", "b")
        near[1].write(b"late")
        held = asyncio.create_task(far[0].readexactly(4))
        for _ in range(20):
            await passes(far, near, b"the other direction is open")
        assert not held.done()
        proxies.heal()
        assert await held == b"late"
        assert [bytes(tape) for tape in proxies.tapes["a", "b"]] == [b"hellolate"]
        near[1].close()
        far[1].close()


async def test_a_dial_into_a_cut_succeeds_and_arrives_after_the_heal() -> None:
    proxies = Proxies(["a", "b"])
    async with joined(proxies) as (near, arrived):
        first = await arrived.get()
        proxies.isolate("a")
        second = await asyncio.open_connection(HOST, proxies.ports["a", "b"])
        second[1].write(b"knock")
        near[1].close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert arrived.empty()
        assert not first[0].at_eof()
        proxies.heal()
        assert await first[0].read() == b""
        far = await arrived.get()
        assert await far[0].readexactly(5) == b"knock"
        for _, writer in (first, second, far):
            writer.close()


async def test_an_end_that_leaves_takes_the_other_with_it() -> None:
    proxies = Proxies(["a", "b"])
    async with joined(proxies) as (near, arrived):
        far = await arrived.get()
        far[1].transport.abort()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await near[0].readexactly(1)
        near[1].close()
