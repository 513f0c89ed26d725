"""Clients that watch, one node after the other, and write down what they are told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from jepsen_lite.cluster import HOST, Address
from jepsen_lite.http1 import Answer, Lost, NotSent
from jepsen_lite.pool import Pool
from jepsen_lite.registry import evidence_of, number, read_headers
from jepsen_lite.replay import Change, Key, Read, Reset, Stream, Told

SERVICES_PATH = "/artemis/api/discovery/services.json"
WATCH = "/artemis/api/watch"
TIMEOUT_S = 2.5
"""Of one request; a stopped node costs its watcher so much."""
POLL_WAITS_MS = (0, 200, 1500)
STAY_S = (0.2, 3.0)
"""How long a WebSocket stays with one node."""


@dataclass(slots=True)
class Journal:
    """What happened beside the streams."""

    reads: list[Read] = field(default_factory=list)
    hops: int = 0
    refused: int = 0
    broken: int = 0
    faults: int = 0
    writes: int = 0
    not_healed: str = ""
    protocol: list[str] = field(default_factory=list)
    """Answers that a watch must not give."""
    behind: list[str] = field(default_factory=list)
    """Watchers that did not reach the end."""


async def read_all(pool: Pool, node: str) -> Read | None:
    """A linearizable read of everything; None when the node does not give one."""
    try:
        answer = await pool.request(node, "POST", SERVICES_PATH, b"{}", read_headers("linearizable"))
    except (NotSent, Lost):
        return None
    revision = number(answer, "x-artemis-revision")
    if evidence_of(answer).code != "success" or revision is None:
        return None
    state: dict[Key, str] = {}
    for service in orjson.loads(answer.body)["services"]:
        for item in service["instances"]:
            state[item["serviceId"], item["instanceId"]] = item["metadata"]["v"]
    return Read(revision, state, node)


class Watcher:
    """One client that resumes at whichever node it is, from the last revision it was told."""

    def __init__(
        self,
        stream: Stream,
        nodes: Sequence[str],
        pool: Pool,
        addresses: Mapping[str, Address],
        journal: Journal,
        rng: random.Random,
    ) -> None:
        self._stream = stream
        self._nodes = nodes
        self._pool = pool
        self._addresses = addresses
        self._journal = journal
        self._rng = random.Random(rng.random())
        self._node = nodes[0]

    async def run(self) -> None:
        raise NotImplementedError

    async def read_again(self) -> None:
        """Where a watch begins: with a read of everything."""
        while True:
            read = await read_all(self._pool, self._rng.choice(self._nodes))
            if read is not None:
                self._stream.items.append(Reset(read.revision, read.state))
                return
            await asyncio.sleep(0.05)

    def _hop(self) -> None:
        self._node = self._rng.choice([node for node in self._nodes if node != self._node])
        self._journal.hops += 1

    def _told(self, message: Mapping[str, object]) -> None:
        changes = message.get("changes", [])
        revision = message["revision"]
        assert isinstance(changes, list)
        assert isinstance(revision, int)
        found = tuple(_change(item) for item in changes)
        if found or revision != self._stream.revision:
            self._stream.items.append(Told(revision, found, self._node))

    async def _read_here(self) -> None:
        """Now and then, right after a batch: a read that may meet its revision."""
        if self._rng.random() < 0.3:
            read = await read_all(self._pool, self._rng.choice(self._nodes))
            if read is not None:
                self._journal.reads.append(read)


class Poller(Watcher):
    async def run(self) -> None:
        while True:
            services = "" if self._stream.services is None else f"&services={','.join(sorted(self._stream.services))}"
            wait_ms = self._rng.choice(POLL_WAITS_MS)
            path = f"{WATCH}?naming=camel&since={self._stream.revision}&wait={wait_ms}{services}"
            try:
                answer = await self._pool.request(self._node, "GET", path)
            except (NotSent, Lost):
                self._journal.broken += 1
                self._hop()
                await asyncio.sleep(0.02)
                continue
            await self._take(answer)
            if self._rng.random() < 0.3:
                self._hop()

    async def _take(self, answer: Answer) -> None:
        code = evidence_of(answer).code
        if code == "success":
            self._told(orjson.loads(answer.body))
            await self._read_here()
        elif code == "data-not-found" and orjson.loads(answer.body).get("compacted"):
            await self.read_again()
        elif code == "service-unavailable":
            self._journal.refused += 1
            self._hop()
            await asyncio.sleep(0.02)
        else:
            self._journal.protocol.append(f"{self._node} answered a watch with {answer.status} {answer.body[:200]!r}")
            await asyncio.sleep(0.1)


class Listener(Watcher):
    async def run(self) -> None:
        while True:
            try:
                await self._listen(time.monotonic() + self._rng.uniform(*STAY_S))
            except TimeoutError:
                pass  # the time with this node is over, or it does not answer
            except InvalidHandshake:
                self._journal.refused += 1
            except (OSError, EOFError, WebSocketException):
                self._journal.broken += 1
                await asyncio.sleep(0.02)
            self._hop()

    async def _listen(self, end: float) -> None:
        address = self._addresses[self._node]
        uri = f"ws://{HOST}:{address.http_port}{WATCH}?naming=camel"
        async with asyncio.timeout(max(0.01, end - time.monotonic())):
            async with connect(uri, open_timeout=TIMEOUT_S, close_timeout=0.2, ping_interval=None) as socket:
                asked: dict[str, object] = {"type": "subscribe", "since": self._stream.revision}
                if self._stream.services is not None:
                    asked["services"] = sorted(self._stream.services)
                await socket.send(orjson.dumps(asked).decode())
                while True:
                    message = orjson.loads(await socket.recv())
                    match message["type"]:
                        case "changes" | "bookmark":
                            self._told(message)
                            await self._read_here()
                        case "compacted" | "resync":
                            await self.read_again()
                            return
                        case "subscribed":
                            if message["revision"] != self._stream.revision:
                                self._journal.protocol.append(f"{self._node} answered {asked} with {message}")
                        case _:
                            self._journal.protocol.append(f"{self._node} sent {message}")
                            return


def _change(item: Mapping[str, object]) -> Change:
    found = item["instance"]
    assert isinstance(found, dict)
    revision, kind = item["revision"], item["changeType"]
    assert isinstance(revision, int)
    return Change(revision, str(kind), (found["serviceId"], found["instanceId"]), found["metadata"]["v"])
