"""Strangers on the Raft ports while the cluster works: what they send costs nothing and changes nothing.

The cluster has a shared secret. Strangers know everything but it: they have recorded real handshakes and the frames
behind them. They send garbage, wrong lengths, recordings whole, altered and byte by byte, and open connections and say
nothing, more of them than a node lets prove themselves at a time.

What must hold meanwhile: writes go on without a gap, no term and no leader changes, memory stays, a member that is
killed comes back and is let in, and the nodes log nothing but counted refusals.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jepsen_lite.checker import Result
from jepsen_lite.cluster import HOST, ClusterError
from jepsen_lite.load import Writes, writing
from jepsen_lite.metrics import value_of
from jepsen_lite.proxy import ProxiedCluster

ELEMENTS = 50
WRITER_PAUSE_S = 0.02
WARM_UP_WRITES = 200
HALF_OPEN = 150
"""Connections per node that say nothing. More than a node lets prove themselves at a time."""
GAP_S = 2.0
"""Longest time without an acknowledgement while nobody is killed: far below an election under such a load."""
RSS_GROWTH_BYTES = 16 * 1024 * 1024
"""The writes' own share of a minute included: log, change ring, caches."""
READY_S = 30.0
PAUSE_S = 0.02
ANSWER_S = 5.0
MAGIC = b"ARTMLINK"


class SecretCluster(ProxiedCluster):
    """A proxied cluster whose members share a secret, so that strangers cannot prove themselves."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "secret"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        # A machine that stands still for half a second must not be taken for the strangers' work.
        super().__init__(directory, arguments=["--secret-file", str(path), "--election-timeout-ms", "2000"])


@dataclass(slots=True)
class Seen:
    """What the attack and its watch have found."""

    attempts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss_growth_bytes: dict[str, int] = field(default_factory=dict)
    longest_gap_s: float = 0.0
    reconnected_s: float = 0.0


def strangers(
    cluster: SecretCluster, seconds: float, seed: int, say: Callable[[str], None] = print
) -> tuple[Result, str]:
    """Attack a started cluster for ``seconds``. The verdict, and what is wrong."""
    seen = Seen()
    try:
        asyncio.run(_Attack(cluster, seconds, seed, seen).play())
    except (TimeoutError, ClusterError) as exc:
        seen.faults.append(str(exc) or "no write was acknowledged in time")
    seen.faults += _logged(cluster)
    say(f"attempts: {', '.join(f'{kind} {count}' for kind, count in sorted(seen.attempts.items()))}")
    grown = ", ".join(f"{node} {growth / 1e6:+.1f} MB" for node, growth in seen.rss_growth_bytes.items())
    say(f"memory: {grown}; longest time without an acknowledged write {seen.longest_gap_s:.2f} s")
    say(f"a killed member was back and ready after {seen.reconnected_s:.1f} s")
    if seen.faults:
        return "invalid", "\n".join(seen.faults)
    missing = [kind for kind in KINDS if not seen.attempts[kind]]
    return ("inconclusive", f"never tried: {', '.join(missing)}") if missing else ("valid", "")


class _Attack:
    def __init__(self, cluster: SecretCluster, seconds: float, seed: int, seen: Seen) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._seed = seed
        self._seen = seen
        self._writes = Writes("strangers", distinct=ELEMENTS)

    async def play(self) -> None:
        """Raises ``TimeoutError`` or ``ClusterError`` when the cluster does not work."""
        cluster, writes = self._cluster, self._writes
        leader = await asyncio.to_thread(cluster.leader)
        victim, other = (node for node in cluster.ids if node != leader)
        async with writing(cluster, writes, [leader, leader, other], pause_s=WRITER_PAUSE_S):
            await writes.more(WARM_UP_WRITES)
            terms = {node: self._metric(node, "artemis_raft_term") for node in cluster.ids}
            rss = {node: rss_bytes(cluster.nodes[node].pid) for node in (leader, other)}
            refused = self._refused((leader, other))
            async with self._crowd(), self._watch():
                await asyncio.sleep(self._seconds / 3)
                await self._member_comes_back(victim)
                await asyncio.sleep(self._seconds / 3)
            for node, before in rss.items():
                self._grown(node, rss_bytes(cluster.nodes[node].pid) - before)
            self._seen.faults += [
                f"{node}: term {before:g} became {after:g}"
                for node, before in terms.items()
                if (after := self._metric(node, "artemis_raft_term")) != before
            ]
            if (now := await asyncio.to_thread(cluster.leader)) != leader:
                self._seen.faults.append(f"{leader} led, now {now} does")
            if self._refused((leader, other)) <= refused:
                self._seen.faults.append("no refusal was counted")
            await writes.more(WARM_UP_WRITES)

    async def _member_comes_back(self, victim: str) -> None:
        """Its peers lose their links to it and it to them; all of them have to get through the crowd."""
        await asyncio.to_thread(self._cluster.kill, victim)
        await asyncio.sleep(self._seconds / 6)
        started = time.monotonic()
        self._cluster.restart(victim)
        await asyncio.to_thread(self._cluster.wait_ready, [victim], READY_S)
        self._seen.reconnected_s = time.monotonic() - started

    def _grown(self, node: str, growth: int) -> None:
        self._seen.rss_growth_bytes[node] = growth
        if growth > RSS_GROWTH_BYTES:
            self._seen.faults.append(f"{node} grew by {growth / 1e6:.1f} MB, {RSS_GROWTH_BYTES / 1e6:.1f} are allowed")

    def _metric(self, node: str, name: str) -> float:
        return value_of(self._cluster.addresses[node], name)

    def _refused(self, nodes: Sequence[str]) -> float:
        return sum(self._metric(node, "artemis_raft_link_refused_total") for node in nodes)

    @contextlib.asynccontextmanager
    async def _watch(self) -> AsyncIterator[None]:
        """Measures the longest time in which no write was acknowledged."""
        watching = asyncio.create_task(self._measure_gaps())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if self._seen.longest_gap_s > GAP_S:
            self._seen.faults.append(f"no write was acknowledged for {self._seen.longest_gap_s:.2f} s")

    async def _measure_gaps(self) -> None:
        last, since = self._writes.acknowledged_count, time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            if self._writes.acknowledged_count > last:
                last, since = self._writes.acknowledged_count, now
            self._seen.longest_gap_s = max(self._seen.longest_gap_s, now - since)

    @contextlib.asynccontextmanager
    async def _crowd(self) -> AsyncIterator[None]:
        """All strangers at all nodes."""
        crowd = []
        for node, address in self._cluster.addresses.items():
            tapes = [
                bytes(tape) for pair, taken in self._cluster.proxies.tapes.items() if pair[1] == node for tape in taken
            ]
            numbers = itertools.count()
            for kind, (act, count) in KINDS.items():
                for _ in range(count):
                    stranger = _Stranger(address.raft_port, tapes, random.Random(self._seed * 1000 + next(numbers)))
                    crowd.append(asyncio.create_task(stranger.keep(act, self._seen.attempts, kind)))
        try:
            yield
            if ended := [task for task in crowd if task.done()]:
                ended[0].result()
        finally:
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)


class _Stranger:
    """One of the crowd. ``tapes``: what real dialers sent to this node, each a handshake and frames."""

    def __init__(self, port: int, tapes: Sequence[bytes], rng: random.Random) -> None:
        self.tapes = tapes
        self.rng = rng
        self._port = port

    async def keep(self, act: Act, attempts: Counter[str], kind: str) -> None:
        while True:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(30):
                    reader, writer = await asyncio.open_connection(HOST, self._port)
                    attempts[kind] += 1
                    try:
                        await act(self, reader, writer)
                    finally:
                        writer.transport.abort()
            await asyncio.sleep(PAUSE_S * self.rng.uniform(0.5, 1.5))

    def tape(self) -> bytes:
        return self.rng.choice(self.tapes)


Act = Callable[[_Stranger, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            await reader.read()


async def _garbage(stranger: _Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(stranger.rng.randbytes(stranger.rng.choice([1, 100, 65536])))
    await _until_closed(reader)


async def _lengths(stranger: _Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A hello of 64 KiB, a frame of 4 GiB, and one of 8 MiB that is really sent."""
    begins = (MAGIC + b"\x00\x01\xff\xff", b"\xff\xff\xff\xff", b"\x00\x80\x00\x00")
    writer.write(stranger.rng.choice(begins) + b"x" * stranger.rng.choice([0, 1000, 1 << 20]))
    await _until_closed(reader)


async def _replay(stranger: _Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All at once, or the proof only after the challenge, as the real dialer did."""
    tape = stranger.tape()
    hello_bytes = 12 + int.from_bytes(tape[10:12], "big")
    if stranger.rng.random() < 0.7:
        writer.write(tape[:hello_bytes])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await reader.read(1)
        tape = tape[hello_bytes:]
    writer.write(tape)
    await _until_closed(reader)


async def _altered(stranger: _Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    tape = bytearray(stranger.tape()[:200])
    tape[stranger.rng.randrange(len(tape))] ^= 1 << stranger.rng.randrange(8)
    writer.write(bytes(tape))
    await _until_closed(reader)


async def _slow(stranger: _Stranger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in stranger.tape()[:200]:
        writer.write(bytes([byte]))
        await writer.drain()
        if reader.at_eof():
            return
        await asyncio.sleep(0.05)


async def _half_open(_stranger: _Stranger, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await _until_closed(reader)


KINDS: dict[str, tuple[Act, int]] = {
    "garbage": (_garbage, 3),
    "lengths": (_lengths, 3),
    "replays": (_replay, 3),
    "altered": (_altered, 3),
    "slow": (_slow, 8),
    "half-open": (_half_open, HALF_OPEN),
}
"""What strangers do, and how many of them at each node."""


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ClusterError(f"process {pid} has no memory")


def _logged(cluster: SecretCluster) -> list[str]:
    """Tracebacks and errors that the nodes logged."""
    found = []
    for node, process in cluster.nodes.items():
        lines = process.log_path.read_text(errors="replace").splitlines()
        bad = [line for line in lines if "Traceback" in line or line[24:].lstrip().startswith("error")]
        found += [f"{node} logged: {line[:300]}" for line in bad[:3]]
    return found
