"""The harness's HTTP client tells a request that never left from one that may have been served.

Each test is one behaviour of a server, played by a few lines on a real loopback socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from jepsen_lite.http1 import Answer, Connection, Lost, NotSent

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Artemis-Term: 7\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Client = Callable[[Connection], Awaitable[Answer]]


async def get(connection: Connection, timeout_s: float = 5.0) -> Answer:
    return await connection.request("GET", "/x", timeout_s=timeout_s)


def talk(serve: Serve, client: Client) -> Answer:
    """Run ``client`` against a server that plays ``serve`` on every connection and then closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async def play() -> Answer:
        server = await asyncio.start_server(handle, HOST, 0)
        connection = Connection(HOST, server.sockets[0].getsockname()[1])
        try:
            return await client(connection)
        finally:
            await connection.aclose()
            server.close()
            await server.wait_closed()

    return asyncio.run(play())


def answering(*chunks: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    return serve


def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # bound and not listening: connections are refused
        connection = Connection(HOST, unused.getsockname()[1])
        with pytest.raises(NotSent):
            asyncio.run(get(connection))


def test_a_connection_that_is_not_accepted_in_time_is_not_sent() -> None:
    """A listener with a full backlog drops new connections silently, as an unreachable host does."""
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        address = full.getsockname()

        async def play() -> None:
            filling = [socket.socket() for _ in range(4)]
            try:
                for one in filling:
                    one.setblocking(False)
                    one.connect_ex(address)
                await get(Connection(*address), timeout_s=0.3)
            finally:
                for one in filling:
                    one.close()

        with pytest.raises(NotSent, match="Timeout"):
            asyncio.run(play())


def test_a_server_that_closes_without_an_answer_may_have_acted() -> None:
    with pytest.raises(Lost):
        talk(answering(), get)


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"\x16\x03\x01 not http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["status line", "body", "chunk", "bad length", "not http", "endless head"],
)
def test_an_answer_that_is_cut_or_unreadable_proves_nothing(part: bytes) -> None:
    with pytest.raises(Lost):
        talk(answering(part), get)


def test_a_silent_server_is_lost_when_the_time_is_up() -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async def client(connection: Connection) -> Answer:
        try:
            return await get(connection, timeout_s=0.05)
        finally:
            release.set()

    with pytest.raises(Lost, match="Timeout"):
        talk(serve, client)


def test_an_answer_is_read_whole_with_lower_case_headers() -> None:
    answer = talk(answering(OK[:30], OK[30:]), get)
    assert (answer.status, answer.body, answer.headers["x-artemis-term"]) == (200, b"ok", "7")


def test_a_chunked_answer_is_put_together() -> None:
    body = b"5;x=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    answer = talk(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body), get)
    assert answer.body == b"hello world"


def test_an_answer_without_length_ends_with_the_connection() -> None:
    assert talk(answering(b"HTTP/1.1 200 OK\r\n\r\nall of it"), get).body == b"all of it"


def test_a_connection_is_used_again() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)

    async def client(connection: Connection) -> Answer:
        await get(connection)
        return await get(connection)

    assert talk(serve, client).status == 200
    assert connections == 1


@pytest.mark.parametrize("farewell", [b"", b"Connection: close\r\n"], ids=["in silence", "announced"])
def test_a_connection_closed_while_idle_is_opened_again(farewell: bytes) -> None:
    """Else every request after a server's keep-alive time would count as sent and lost."""
    answer = OK.replace(b"\r\n\r\n", b"\r\n" + farewell + b"\r\n")

    async def client(connection: Connection) -> Answer:
        await get(connection)
        while not connection.idle_closed():  # noqa: ASYNC110  turning the loop is what lets the end arrive
            await asyncio.sleep(0)
        return await get(connection)

    async def bounded(connection: Connection) -> Answer:
        async with asyncio.timeout(10):
            return await client(connection)

    assert talk(answering(answer), bounded).status == 200


def test_the_request_carries_length_type_and_headers() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
        writer.write(OK)

    async def client(connection: Connection) -> Answer:
        return await connection.request("POST", "/p", b"{}", {"x-artemis-request-id": "r1"}, timeout_s=5.0)

    talk(serve, client)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /p HTTP/1.1"
    assert {b"Content-Length: 2", b"Content-Type: application/json", b"x-artemis-request-id: r1"} <= set(lines)
    assert body == b"{}"
