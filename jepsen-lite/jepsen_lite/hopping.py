"""Watchers that go from node to node while the cluster is struck, by long poll and by WebSocket; what they were told is
held against linearizable reads (``replay``)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jepsen_lite import nemesis
from jepsen_lite.checker import Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.history import Detail
from jepsen_lite.http1 import Lost, NotSent
from jepsen_lite.pool import Pool
from jepsen_lite.registry import REGISTER, UNREGISTER, instance, instances_body
from jepsen_lite.replay import TWINS, Report, Stream, check
from jepsen_lite.watchers import TIMEOUT_S, Journal, Listener, Poller, read_all

SERVICES = ("churn-1", "churn-2", "twins", "leased")
INSTANCES = 12
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
