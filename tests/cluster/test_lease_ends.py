"""What silent owners leave behind ends in time, on all nodes at one revision, and for good (C17, C18); no wall clock
has a say in it (C31)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.lease_report import LATE_S
from jepsen_lite.registry import Consistency, instance_ids, outcome_of
from jepsen_lite.tails import Outages
from tests.cluster.calls import NODES, Calls, attempt, calls_on, eventually, revision, succeeded
from tests.cluster.living import Living

libfaketime = pytest.importorskip("libfaketime", reason="wall clocks are set with libfaketime")

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

TTL_S = 2.0
HOUR_S = 3600.0


class WallClocks:
    """The wall clocks of nodes, each in a file that libfaketime reads every second. Monotonic clocks are real."""

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
            "FAKETIME_CACHE_DURATION": "1",  # seconds; a file read at every call slows a node down
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else it takes the deadlines of pthread_cond_timedwait for times of day: whoever waits for the interpreter
            # lock waits until it is given up, and a commit takes seconds.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
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


async def until_offset(calls: Calls, node: str, wanted_s: float) -> None:
    """Wait until a node's wall clock is that far from this process's, by what it shows to people: the time of a 404."""

    async def check() -> None:
        answer = await calls.request(node, "GET", "/artemis/api/nothing")
        offset_s = orjson.loads(answer.body)["timestamp"] / 1000 - time.time()
        assert abs(offset_s - wanted_s) < 60, f"{offset_s:.0f} s"

    await eventually(check, f"{node}'s wall clock is {wanted_s:.0f} s off")


@dataclass
class Seen:
    """Reads of every node while one silent instance ends. Only linearizable ones tell when; a stale one may be of a
    state before, but the revision it names must agree."""

    calls: Calls
    service: str
    registered: int
    """The revision at which the instance appeared; it ends at the next one."""
    wrong: list[str] = field(default_factory=list)
    last_shown_at: float = 0.0
    first_gone_at: float = float("inf")

    async def until_gone(self, node: str, level: Consistency) -> None:
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(30):
            while True:
                called_at = clock()
                answer = await self.calls.lookup(node, self.service, level)
                found, at = instance_ids(answer), revision(answer)
                if found is not None and found != (["i"] if at == self.registered else []):
                    self.wrong.append(f"{node} at revision {at}: {found}")
                if found and level == "linearizable":
                    self.last_shown_at = max(self.last_shown_at, called_at)
                if found == [] and at > self.registered:
                    self.first_gone_at = min(self.first_gone_at, clock())
                    return
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
        levels: tuple[Consistency, ...] = ("stale", "linearizable")
        await asyncio.gather(*(seen.until_gone(node, level) for node in NODES for level in levels))
        beating = False
        await singing
    assert not seen.wrong, f"it was registered at revision {registered} and ended at the next; {seen.wrong[:5]}"
    assert seen.first_gone_at - called_at >= TTL_S, "it ended early"
    late_s = seen.last_shown_at - renewed_by - TTL_S - outages.between(renewed_by, seen.last_shown_at)
    assert late_s <= LATE_S

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
            await until_offset(calls, ahead, HOUR_S)
            await until_offset(calls, behind, -HOUR_S)
            # It waits for the silent one's end too: leases that never end would keep the living ones as well.
            await living.outlive(calls, NODES, 1.5 * TTL_S)
    cluster.kill(leader)
    cluster.restart(leader)
    await asyncio.to_thread(cluster.wait_ready)
    await until_offset(calls, leader, -HOUR_S)

    async def written() -> None:
        succeeded(await calls.register(leader, service, ["after"]))

    await eventually(written, f"{leader} is heard with its clock an hour back")
    assert await calls.ids(third, service) == {"after"}
