"""What the Java SDK 2.0.1 sends, to the byte where bytes are fixed, and that our imitation of it sends the same."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from jepsen_lite.cluster import Cluster, free_ports
from jepsen_lite.registry import REGION, ZONE
from jepsen_lite.registry import instance as wire_instance
from tests.cluster.calls import SETTLE_S
from tests.support.java_client import DiscoveryClient, Observed, RegistryClient, java2
from tests.support.java_sdk import Sdk, until
from tests.support.recorder import Recorder

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.anyio]

DIFFERS_BY_RUN = (
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"Sec-WebSocket-Key: \S+"), "Sec-WebSocket-Key: KEY"),
    (re.compile(r"HttpClient/[\d.]+ \(Java/[\d._]+\)"), "HttpClient/… (Java/…)"),
)
FINAL = 0x80
CLOSE, PING, PONG = 0x8, 0x9, 0xA


def frames(sent: bytes) -> Iterator[tuple[int, bytes]]:
    """First byte and payload of each WebSocket frame that is there whole."""
    at = 0
    while at + 6 <= len(sent):
        first, size, start = sent[at], sent[at + 1] & 0x7F, at + 2
        if size == 126:
            size, start = int.from_bytes(sent[start : start + 2], "big"), start + 2
        mask, at = sent[start : start + 4], start + 4 + size
        if at > len(sent):
            return
        yield first, bytes(byte ^ mask[number % 4] for number, byte in enumerate(sent[start + 4 : at]))


@dataclass(slots=True)
class Sent:
    """What one client sent, as far as it is the same in each run; everything by path."""

    heads: dict[str, str] = field(default_factory=dict)
    """All before the body, or the handshake."""
    said: dict[str, set[bytes]] = field(default_factory=dict)
    """The JSON of requests and text messages, each once. Of those that list instances only the instances: how they are
    shared out and ordered differs."""
    parts: dict[str, set[int]] = field(default_factory=dict)
    """The lengths of chunks and frames that are followed by another."""
    first_chunks: set[bytes] = field(default_factory=set)
    controls: set[tuple[int, bytes]] = field(default_factory=set)
    """Opcode and payload of control frames that do not close."""

    def add(self, sent: bytes) -> None:
        """Everything that was sent on one connection."""
        at = 0
        while at < len(sent):
            end = sent.index(b"\r\n\r\n", at) + 4
            head = sent[at:end].decode()
            for pattern, constant in DIFFERS_BY_RUN:
                head = pattern.sub(constant, head)
            path = head.split(" ")[1]
            self.heads[path] = head
            if head.startswith("GET"):
                self._add_frames(path, sent[end:])
                return
            at = self._add_body(path, sent, end)

    def _add_body(self, path: str, sent: bytes, at: int) -> int:
        chunks: list[bytes] = []
        while True:
            start = sent.index(b"\r\n", at) + 2
            size = int(sent[at:start], 16)
            at = start + size + 2
            if not size:
                break
            chunks.append(sent[start : start + size])
        self._say(path, zlib.decompress(b"".join(chunks), wbits=31), [len(chunk) for chunk in chunks[:-1]])
        # Java before 16 writes 0 for the operating system.
        self.first_chunks.add(chunks[0][:9])
        return at

    def _add_frames(self, path: str, sent: bytes) -> None:
        text, sizes = b"", list[int]()
        for first, payload in frames(sent):
            if first & 0x0F > CLOSE:
                self.controls.add((first & 0x0F, payload))
            elif first & 0x0F < CLOSE:
                text += payload
                if first & FINAL:
                    self._say(path, text, sizes)
                    text, sizes = b"", []
                else:
                    sizes.append(len(payload))

    def _say(self, path: str, text: bytes, parts: list[int]) -> None:
        body = orjson.loads(text)
        self.parts.setdefault(path, set()).update(parts)
        said = body.get("instances", [body])
        self.said.setdefault(path, set()).update(orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in said)


@pytest.fixture
def front_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def single(tmp_path: Path, class_path: str, front_port: int) -> Iterator[Cluster]:
    """One node that tells clients to go through the recorder."""
    with Cluster(tmp_path, size=1, arguments=["--advertise", f"http://127.0.0.1:{front_port}"]) as cluster:
        yield cluster


async def recorded(single: Cluster, port: int, play: Callable[[str, Recorder], Awaitable[None]]) -> Sent:
    recorder = Recorder(single.addresses["n1"].http_port)
    await recorder.start(port)
    try:
        await play(f"http://127.0.0.1:{port}", recorder)
    finally:
        await recorder.stop()
    sent = Sent()
    for connection in recorder.connections:
        sent.add(bytes(connection.sent))
    return sent


def has_pinged(recorder: Recorder) -> bool:
    return any(
        first == FINAL | PING
        for connection in recorder.connections
        if connection.sent.startswith(b"GET ")
        for first, _ in frames(bytes(connection.sent.partition(b"\r\n\r\n")[2]))
    )


async def test_the_imitation_sends_what_the_sdk_sends(
    single: Cluster, class_path: str, front_port: int, tmp_path: Path
) -> None:
    choose = random.Random(1)
    # Enough for several chunks, which are compressed, and several frames.
    items = [wire_instance("Orders", f"i{number}", {"x": choose.randbytes(90).hex()}) for number in range(60)]
    ids = {str(one["instanceId"]) for one in items}

    async def real(url: str, recorder: Recorder) -> None:
        sdk = Sdk(tmp_path / "sdk.log")
        async with sdk.running(class_path, REGION, ZONE):
            await sdk.open("it", url, {})
            await sdk.listen("it", "Orders")
            await sdk.register("it", items)
            await until(lambda: bool(sdk.events) and sdk.events[-1].ids == ids, "all are registered", SETTLE_S)
            await sdk.unregister("it", items)
            await until(lambda: not sdk.events[-1].ids, "all are gone", SETTLE_S)
            await until(lambda: has_pinged(recorder), "it pings", SETTLE_S)

    async def imitated(url: str, recorder: Recorder) -> None:
        seen = Observed()
        owner = RegistryClient(url, java2(REGION, ZONE), seen)
        watcher = DiscoveryClient(url, java2(REGION, ZONE), seen)
        await watcher.start()
        await watcher.get_service("Orders")
        await owner.start()
        await owner.register(*items)
        await until(lambda: watcher.ids("Orders") == ids, "all are registered", SETTLE_S)
        await owner.unregister(*items)
        await until(lambda: not watcher.ids("Orders"), "all are gone", SETTLE_S)
        await until(lambda: has_pinged(recorder), "it pings", SETTLE_S)
        await owner.stop()
        await watcher.stop()

    sent = await recorded(single, front_port, real)
    again = await recorded(single, front_port, imitated)
    assert len(sent.heads) == 7
    assert again.heads == sent.heads
    assert again.said == sent.said
    assert again.parts == sent.parts
    assert sent.parts["/artemis/api/registry/unregister.json"] == {10, 2_048}
    assert sent.parts["/artemis/websocket/registry/heartbeat"] == {8_192}
    assert again.first_chunks == sent.first_chunks
    assert again.controls == sent.controls == {(PING, b""), (PONG, b"artemis")}
