"""Watchers that go from node to node while the cluster is struck, by long poll and by WebSocket; what they were told is
held against linearizable reads (``replay``)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from jepsen_lite import nemesis
from jepsen_lite.checker import Result
from jepsen_lite.cluster import HOST, Address, Cluster, ClusterError
from jepsen_lite.history import Detail
from jepsen_lite.http1 import Answer, Lost, NotSent
from jepsen_lite.pool import Pool
from jepsen_lite.registry import REGISTER, UNREGISTER, evidence_of, instance, instances_body, number, read_headers
from jepsen_lite.replay import TWINS, Change, Key, Read, Report, Reset, Stream, Told, check

SERVICES_PATH = "/artemis/api/discovery/services.json"
WATCH = "/artemis/api/watch"
SERVICES = ("churn-1", "churn-2", "twins", "leased")
INSTANCES = 12
TIMEOUT_S = 2.5
"""Of one request; a stopped node costs its watcher so much."""
POLL_WAITS_MS = (0, 200, 1500)
STAY_S = (0.2, 3.0)
"""How long a WebSocket stays with one node."""
READ_S = 0.15
QUIET_EVERY_S, QUIET_S = 2.0, 0.4
"""Writers rest now and then, so that reads meet the revisions at which batches and bookmarks end."""
SOON_A_BOOKMARK = ("--watch-bookmark-ms", "500")
"""For the nodes: a WebSocket that stays with one of them for seconds would else never be told a bookmark."""
DAY_MS = 24 * 3600 * 1000
SHORT_TTL_MS = 1000
STILL_S = 2.5
"""No change for longer than any short lease lasts: nothing else will come."""
CATCH_UP_S = 30.0
SHOWN_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    seed: int
    plan: Sequence[nemesis.Fault]
    seconds: float
    least_changes: int = 500
    """All watchers together; fewer prove nothing."""
    least_hops: int = 20
    least_at_told: int = 20
    """Reads at the very revision at which a batch ended or a bookmark stood."""


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


def hopping(cluster: Cluster, settings: Settings) -> tuple[Result, str]:
    """Run on a started cluster: the verdict, and a table."""
    run = _Run(cluster, settings)
    asyncio.run(run.play())
    report, journal = check(run.streams, run.journal.reads), run.journal
    lines = [
        f"{'writes':<34} {journal.writes:>8}",
        f"{'faults':<34} {journal.faults:>8}",
        f"{'linearizable reads':<34} {len(journal.reads):>8}",
        f"{'watchers':<34} {len(run.streams):>8}",
        f"{'changes told':<34} {report.changes:>8}",
        f"{'bookmarks told':<34} {report.bookmarks:>8}",
        f"{'moves to another node':<34} {journal.hops:>8}",
        f"{'watches refused / broken':<34} {journal.refused:>8} / {journal.broken}",
        f"{'read again (start, too far behind)':<34} {report.resets:>8}",
        f"{'reads equal to a replayed state':<34} {report.compared - _differing(report):>8} of {report.compared}",
        f"{'of these at a batch end or bookmark':<34} {report.at_told:>7}",
    ]
    wrong = [*report.faults, *journal.protocol, *journal.behind]
    if journal.not_healed:
        wrong.append(f"not healed: {journal.not_healed}")
    if wrong:
        return "invalid", "\n".join([*lines, *wrong[:SHOWN_MAX]])
    thin = [
        f"{name}: {found}, {least} needed"
        for name, found, least in (
            ("changes told", report.changes, settings.least_changes),
            ("moves", journal.hops, settings.least_hops),
            ("reads at a batch end or bookmark", report.at_told, settings.least_at_told),
        )
        if found < least
    ]
    return ("inconclusive" if thin else "valid"), "\n".join([*lines, *thin])


def _differing(report: Report) -> int:
    return sum("differs from what" in fault for fault in report.faults)


class _Run:
    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.journal = Journal()
        self._cluster = cluster
        self._settings = settings
        self._nodes = cluster.ids
        self._pool = Pool(cluster.addresses, TIMEOUT_S)
        self._rng = random.Random(settings.seed)
        self._writing = asyncio.Event()
        """Set while writers may write."""
        self._stopping = False
        some = frozenset(("churn-1", "leased"))
        self.streams = [
            Stream("poll-all"),
            Stream("poll-some", some),
            Stream("socket-all"),
            Stream("socket-some", some),
        ]

    async def play(self) -> None:
        watchers = [
            watch(stream, self._nodes, self._pool, self._cluster.addresses, self.journal, self._rng)
            for stream, watch in zip(self.streams, (Poller, Poller, Listener, Listener), strict=True)
        ]
        for watcher in watchers:
            await watcher.read_again()
        watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
        reading = [asyncio.create_task(self._read()) for _ in range(2)]
        writing = [
            asyncio.create_task(work)
            for work in (self._churn("churn-1"), self._churn("churn-2"), self._twins(), self._lease(), self._rest())
        ]
        try:
            await self._break()
            self._stopping = True
            await asyncio.gather(*writing)
            await self._catch_up()
        finally:
            for task in (*watching, *reading, *writing):
                task.cancel()
            ended = await asyncio.gather(*watching, *reading, *writing, return_exceptions=True)
            await self._pool.aclose()
        for result in ended:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _break(self) -> None:
        settings, stop = self._settings, asyncio.Event()
        faults = asyncio.create_task(
            nemesis.unleash(self._cluster, list(settings.plan), self._note, stop, settings.seed)
        )
        await asyncio.wait([faults], timeout=settings.seconds)
        stop.set()
        await faults
        try:
            await asyncio.to_thread(self._cluster.heal)
        except ClusterError as exc:
            self.journal.not_healed = str(exc)

    def _note(self, f: str, _node: str | None, _value: Mapping[str, Detail]) -> None:
        self.journal.faults += f in nemesis.ENDS

    # writers

    async def _rest(self) -> None:
        while not self._stopping:
            self._writing.set()
            await asyncio.sleep(QUIET_EVERY_S)
            self._writing.clear()
            await asyncio.sleep(QUIET_S)
        self._writing.set()

    async def _write(self, path: str, items: Sequence[Mapping[str, object]]) -> None:
        await self._writing.wait()
        self.journal.writes += 1
        try:
            await self._pool.request(self._rng.choice(self._nodes), "POST", path, instances_body(items))
        except (NotSent, Lost):
            await asyncio.sleep(0.05)
        await asyncio.sleep(self._rng.uniform(0.01, 0.05))

    async def _churn(self, service: str) -> None:
        while not self._stopping:
            name = f"i{self._rng.randrange(INSTANCES)}"
            item = instance(service, name, {"v": str(self.journal.writes)}, ttl_ms=DAY_MS)
            await self._write(REGISTER if self._rng.random() < 0.7 else UNREGISTER, [item])

    async def _twins(self) -> None:
        """Both in one request, always with one value."""
        while not self._stopping:
            name, value = f"i{self._rng.randrange(INSTANCES)}", str(self.journal.writes)
            items = [instance("twins", name + suffix, {"v": value}, ttl_ms=DAY_MS) for suffix in TWINS]
            await self._write(REGISTER if self._rng.random() < 0.7 else UNREGISTER, items)

    async def _lease(self) -> None:
        """Nobody renews these: their ends are changes that no request made."""
        while not self._stopping:
            name = f"i{self._rng.randrange(INSTANCES)}"
            await self._write(
                REGISTER, [instance("leased", name, {"v": str(self.journal.writes)}, ttl_ms=SHORT_TTL_MS)]
            )
            await asyncio.sleep(0.25)  # so few that protection against mass eviction holds none of them

    # readers

    async def _read(self) -> None:
        while True:
            read = await read_all(self._pool, self._rng.choice(self._nodes))
            if read is not None:
                self.journal.reads.append(read)
            await asyncio.sleep(READ_S * self._rng.uniform(0.5, 1.5))

    async def _catch_up(self) -> None:
        """Wait until nothing changes any more and every watcher was told of everything."""
        clock = asyncio.get_running_loop().time
        deadline, still_since = clock() + CATCH_UP_S, clock()
        last = -1
        while clock() < deadline:
            newest = max((read.revision for read in self.journal.reads), default=0)
            if newest != last:
                last, still_since = newest, clock()
            if clock() - still_since > STILL_S and all(stream.revision >= last for stream in self.streams):
                return
            await asyncio.sleep(0.1)
        self.journal.behind += [
            f"{stream.name} is at revision {stream.revision} {CATCH_UP_S:.0f} s after the last fault; it is {last} now"
            for stream in self.streams
            if stream.revision < last
        ] or [f"revision {last} did not stay for {STILL_S} s although nobody writes"]


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
        clock: Callable[[], float] = time.monotonic
        address = self._addresses[self._node]
        uri = f"ws://{HOST}:{address.http_port}{WATCH}?naming=camel"
        async with asyncio.timeout(max(0.01, end - clock())):
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
