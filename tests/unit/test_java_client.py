"""The Java-like client does what the contract says of the real one (``java-client-and-push.md`` 4, 6, 7, 8.4)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.java_client import JavaSettings, Observed, RegistryClient, java1, java2
from tests.support.java_client.addresses import AddressManager
from tests.support.java_client.http import ArtemisHttpClient, NodeFailed, Rejected
from tests.support.java_client.websocket import CONTINUATION, PING, PONG, TEXT, WebSocket

pytestmark = pytest.mark.anyio
URLS = ["http://a:1", "http://b:1", "http://c:1"]
SUCCESS = {"responseStatus": {"status": "success", "errorCode": "success"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def failed(code: str) -> dict[str, Any]:
    return {"responseStatus": {"status": "fail", "errorCode": code}}


class Calls:
    """Stands for the pool: answers from a list, and remembers the nodes that were asked."""

    def __init__(self, *answers: dict[str, Any] | NodeFailed) -> None:
        self.answers = list(answers)
        self.nodes: list[str] = []

    async def post(self, url: str, body: object, **_: object) -> dict[str, Any]:
        self.nodes.append(url.partition("/artemis")[0])
        answer = self.answers.pop(0)
        if isinstance(answer, NodeFailed):
            raise answer
        return answer


def client_with(calls: Calls, settings: JavaSettings | None = None) -> tuple[ArtemisHttpClient, AddressManager]:
    quick = replace(settings or java2(), retry_interval_s=0.0)
    addresses = AddressManager("http://domain:1/", 3_600.0, lambda: 0.0, random.Random(1))
    client = ArtemisHttpClient(quick, addresses, Observed())
    client.pool = calls  # type: ignore[assignment]
    return client, addresses


async def test_a_node_that_cannot_serve_is_left_and_one_that_limits_is_asked_again() -> None:
    calls = Calls(failed("service-unavailable"), failed("rate-limited"), failed("unknown"), SUCCESS)
    client, addresses = client_with(calls)
    first = addresses.get()
    assert await client.post("/x.json", {}) == SUCCESS
    assert not first.available
    assert addresses.get().available
    assert calls.answers == []


@pytest.mark.parametrize("code", ["bad-request", "no-permission", "data-not-found"])
async def test_a_final_code_is_returned_at_once(code: str) -> None:
    calls = Calls(failed(code))
    client, addresses = client_with(calls)
    assert await client.post("/x.json", {}) == failed(code)
    assert addresses.get().available


async def test_after_five_tries_it_gives_up() -> None:
    client, _ = client_with(Calls(*[failed("service-unavailable")] * 5))
    with pytest.raises(Rejected):
        await client.post("/x.json", {})
    client, addresses = client_with(Calls(*[NodeFailed("no")] * 5))
    with pytest.raises(NodeFailed):
        await client.post("/x.json", {})
    assert addresses.get().url == "http://domain:1", "a dead node is not remembered"


async def test_a_list_without_nodes_keeps_the_one_before() -> None:
    addresses = AddressManager("http://domain:1/", 10.0, lambda: 0.0, random.Random(1))
    assert addresses.get().url == "http://domain:1"
    addresses.heard({"nodes": [{"url": f"{url}/"} for url in (*URLS, *URLS)] + [{"url": " "}, {"url": None}]})
    without: list[dict[str, object]] = [{"nodes": None}, {"nodes": []}, {}]
    for answer in without:
        addresses.heard(answer)
    assert addresses.urls == URLS
    assert addresses.get().url == "http://domain:1", "a node in use is kept while it serves"
    addresses.get().mark_unavailable()
    assert addresses.get().url in URLS


async def test_five_connects_in_its_window_and_no_more() -> None:
    seen = Observed()
    settings = replace(java1(), check_s=0.001, address_connect_timeout_s=0.5)
    client = RegistryClient("http://127.0.0.1:9", settings, seen)
    await client.start()
    try:
        await until(lambda: seen.counts["reconnect held back"] >= 3)
    finally:
        await client.stop()
    assert seen.counts["connect failed"] == 5


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 10.0
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "not within 10 s"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def server(*frames: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Accepts one WebSocket, sends the frames, and collects what comes."""
    received: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + b"".join(frames))
        while data := await reader.read(4_096):
            received.append(data)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/x", received
        for writer in writers:
            writer.close()
            await writer.wait_closed()


def text_frame(text: str) -> bytes:
    body = text.encode()
    size = bytes([len(body)]) if len(body) < 126 else b"\x7e" + len(body).to_bytes(2, "big")
    return bytes([0x80 | TEXT]) + size + body


async def test_no_pong_is_seen_while_a_message_is_being_handled() -> None:
    order: list[str] = []
    go_on = asyncio.Event()

    async def on_text(text: str) -> None:
        order.append(text)
        await go_on.wait()
        order.append("done")

    pong = bytes([0x80 | PONG, 0])
    async with server(text_frame("one"), pong) as (url, _):
        socket = await WebSocket.connect(
            url, on_text, lambda: order.append("pong"), lambda: None, timeout_s=5, message_chars_max=8_192
        )
        await until(lambda: order == ["one"])
        go_on.set()
        await until(lambda: order == ["one", "done", "pong"])
        socket.close()


async def test_a_message_that_is_too_long_ends_the_session_with_1009() -> None:
    closed = asyncio.Event()

    async def on_text(text: str) -> None:
        raise AssertionError("it must not be handed on")

    async with server(text_frame("x" * 8_193)) as (url, received):
        socket = await WebSocket.connect(url, on_text, lambda: None, closed.set, timeout_s=5, message_chars_max=8_192)
        async with asyncio.timeout(5):
            await closed.wait()
        assert socket.too_long == 1
        await until(lambda: bool(received))
    (frame,) = received
    mask, masked = frame[2:6], frame[6:]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)) == (1009).to_bytes(2, "big")


async def test_a_ping_is_masked_and_empty() -> None:
    async def on_text(text: str) -> None: ...

    async with server() as (url, received):
        socket = await WebSocket.connect(url, on_text, lambda: None, lambda: None, timeout_s=5, message_chars_max=8_192)
        socket.ping()
        await until(lambda: bool(received))
        assert received[0][:2] == bytes([0x80 | PING, 0x80])
        assert len(received[0]) == 6
        socket.close()


async def test_a_long_text_goes_in_frames_of_eight_kilobytes() -> None:
    async def on_text(text: str) -> None: ...

    text = random.Random(1).randbytes(20_000).hex().encode()[:20_000]
    async with server() as (url, received):
        socket = await WebSocket.connect(url, on_text, lambda: None, lambda: None, timeout_s=5, message_chars_max=8_192)
        socket.send_text(text)
        frame_bytes = 8 + 8_192
        await until(lambda: sum(map(len, received)) == 2 * frame_bytes + 8 + 20_000 - 2 * 8_192)
        sent = b"".join(received)
        assert [sent[at] for at in (0, frame_bytes, 2 * frame_bytes)] == [TEXT, CONTINUATION, 0x80 | CONTINUATION]
        socket.close()


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_pong_that_is_missing_is_noticed_now_and_then(noticed: bool) -> None:
    seen = Observed()
    settings = replace(java2(), ping_timeout_s=0.01, check_s=0.01, pong_noticed=float(noticed))
    async with server() as (url, _):
        client = RegistryClient(url.replace("ws:", "http:").removesuffix("/x"), settings, seen)
        running = asyncio.ensure_future(client.session.run())
        await until(lambda: seen.counts["pong missing"] + seen.counts["pong missing, not noticed"] >= 3)
        client.session.stop()
        await running
    assert (seen.counts["pong missing"] > 0, seen.counts["reconnected"] > 0) == (noticed, noticed)


async def test_it_unregisters_before_it_stops_beating() -> None:
    calls = Calls(SUCCESS, SUCCESS)
    client = RegistryClient("http://domain:1", java2(), Observed())
    client.http.pool = calls  # type: ignore[assignment]
    one = {"regionId": "lab", "serviceId": "s", "instanceId": "i", "url": "http://x/"}
    await client.register(one)
    beating: list[int] = []

    async def post(_url: str, _body: object, **_: object) -> dict[str, Any]:
        beating.append(len(client.instances))
        return SUCCESS

    calls.post = post  # type: ignore[assignment, method-assign]
    await client.unregister(one)
    assert (beating, client.instances) == ([1], [])
