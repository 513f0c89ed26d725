"""What silent owners leave behind ends in time, on all nodes at one revision, and for good (C17, C18); no wall clock
has a say in it (C31)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.lease_report import LATE_S
from jepsen_lite.registry import instance_ids, outcome_of
from jepsen_lite.tails import Outages
from tests.cluster.calls import NODES, Calls, attempt, calls_on, eventually, revision, succeeded
from tests.cluster.living import Living

libfaketime = pytest.importorskip("libfaketime", reason="wall clocks are set with libfaketime")

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

TTL_S = 2.0
HOUR_S = 3600.0


class WallClocks:
    """The wall clocks of nodes, each in a file that libfaketime reads at every call. Monotonic clocks are real."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
        assert library.exists(), f"{library} is not there"
        self._library = str(library)

    def environment(self, node: str) -> dict[str, str]:
        self.set(node, 0)
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file(node)),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, node: str, offset_s: float) -> None:
        """Step the clock of a node to this distance from the machine's."""
        aside = self._file(node).with_suffix(".new")
        aside.write_text(f"{offset_s:+.0f}")
        aside.replace(self._file(node))

    def _file(self, node: str) -> Path:
        return self._directory / f"{node}.clock"


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> WallClocks:
    return WallClocks(tmp_path_factory.mktemp("clocks"))


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory, clocks: WallClocks) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    for node, process in cluster.nodes.items():
        process.environment |= clocks.environment(node)
    with cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        assert "Traceback" not in process.log_path.read_text(errors="replace"), f"{node} logged a traceback"


async def offset_s(calls: Calls, node: str) -> int:
    """How far the node's wall clock is from this process's, by what it shows to people: the time of a 404."""
    answer = await calls.request(node, "GET", "/artemis/api/nothing")
    stamp = orjson.loads(answer.body)["timestamp"]
    assert isinstance(stamp, int)
    return round(stamp / 1000 - time.time())


class Seen:
    """Stale reads of every node while one silent instance ends: (node, revision, shown)."""

    def __init__(self, calls: Calls, service: str, registered: int) -> None:
        self.registered = registered
        self.reads: list[tuple[str, int, bool]] = []
        self.last_shown_at = 0.0
        self.first_gone_at = float("inf")
        self._calls = calls
        self._service = service

    async def until_gone(self, node: str) -> None:
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(30):
            while True:
                called_at = clock()
                answer = await self._calls.lookup(node, self._service, "stale")
                shown = instance_ids(answer) == ["i"]
                self.reads.append((node, revision(answer), shown))
                if not shown and revision(answer) > self.registered:
                    self.first_gone_at = min(self.first_gone_at, clock())
                    return
                if shown:
                    self.last_shown_at = max(self.last_shown_at, called_at)
                await asyncio.sleep(0.02)


async def test_c17_c18_a_silent_instance_ends_in_time_everywhere_at_one_revision_and_for_good(
    calls: Calls, service: str
) -> None:
    clock = asyncio.get_running_loop().time
    beating = True
    outages = Outages(clock())

    async def canary() -> None:
        async with calls_on(calls.cluster) as own:
            while beating:
                if outcome_of(await attempt(own.heartbeat("n1", f"{service}-canary", ["canary"]))) == "ok":
                    outages.heard(clock())
                await asyncio.sleep(0.05)

    succeeded(await calls.register("n1", f"{service}-canary", ["canary"]))
    called_at = clock()
    registered = revision(succeeded(await calls.register("n1", service, ["i"], ttl_ms=int(TTL_S * 1000))))
    renewed_by = clock()
    seen = Seen(calls, service, registered)
    async with asyncio.TaskGroup() as tasks:
        singing = tasks.create_task(canary())
        await asyncio.gather(*(seen.until_gone(node) for node in NODES))
        beating = False
        await singing
    assert seen.first_gone_at - called_at >= TTL_S, "it ended early"
    late_s = seen.last_shown_at - renewed_by - TTL_S - outages.between(renewed_by, seen.last_shown_at)
    assert late_s <= LATE_S
    for node, at, shown in seen.reads:
        assert shown == (at == registered), f"{node} at revision {at}: shown {shown}; it ended at {registered + 1}"

    for node in NODES:
        refused = await attempt(calls.heartbeat(node, service, ["i"]))
        assert refused.failed, f"{node} renewed an instance that has ended"
        for reader in NODES:
            assert await calls.ids(reader, service) == set()
    succeeded(await calls.register("n3", service, ["i"], ttl_ms=int(TTL_S * 1000)))
    for node in NODES:
        succeeded(await calls.heartbeat(node, service, ["i"]))


async def test_c31_steps_of_wall_clocks_end_no_lease_and_prolong_none(
    calls: Calls, cluster: Cluster, clocks: WallClocks, service: str
) -> None:
    """An hour forwards on the leader, an hour back on a follower, both ways round, and a restart in between: a node
    that starts with a clock far behind must be heard all the same."""
    leader = cluster.leader()
    follower, third = (node for node in NODES if node != leader)
    for ahead, behind in ((leader, follower), (follower, leader)):
        living = Living(cluster, f"{service}-{ahead}", NODES, TTL_S)
        await living.register(calls)
        async with living.beating():
            await calls.ids(leader, service)
            clocks.set(ahead, HOUR_S)
            clocks.set(behind, -HOUR_S)
            assert await offset_s(calls, ahead) == pytest.approx(HOUR_S, abs=60)
            assert await offset_s(calls, behind) == pytest.approx(-HOUR_S, abs=60)
            # It waits for the silent one's end too: leases that never end would keep the living ones as well.
            await living.outlive(calls, NODES, 1.5 * TTL_S)
    cluster.kill(leader)
    cluster.restart(leader)
    await asyncio.to_thread(cluster.wait_ready)
    assert await offset_s(calls, leader) == pytest.approx(-HOUR_S, abs=60)

    async def written() -> None:
        succeeded(await calls.register(leader, service, ["after"]))

    await eventually(written, f"{leader} is heard with its clock an hour back")
    assert await calls.ids(third, service) == {"after"}
