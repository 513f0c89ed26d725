"""More writes than a slow node can take (C30): its queue is bounded, what does not fit is refused and says so, and the
others go on."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.metrics import value_of
from jepsen_lite.proxy import ProxiedCluster
from jepsen_lite.registry import evidence_of, outcome_of
from tests.cluster.calls import NODES, Calls, calls_on, revision, succeeded
from tests.support.small_queue_node import PENDING_PROPOSALS

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

SMALL_QUEUE_NODE = [sys.executable, "-P", str(Path(__file__).parents[1] / "support" / "small_queue_node.py")]
SLOW_S = 0.05
LOAD_S = 5.0
MEMORY_GROWTH_BYTES_MAX = 96 * 1024 * 1024


@dataclass
class Load:
    """Writers that send the next element as soon as one is answered, and what became of each."""

    service: str
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    answers: Counter[tuple[str, str | None, str | None]] = field(default_factory=Counter)
    """By (node, code, x-artemis-outcome)."""
    longest_refusal_s: float = 0.0
    texts: set[str] = field(default_factory=set)
    stopped: bool = False
    _count: int = 0

    async def write(self, calls: Calls, node: str) -> None:
        while not self.stopped:
            self._count += 1
            element, started = f"i{self._count}", time.monotonic()
            answer = await calls.register(node, f"{self.service}-{self._count % 50}", [element])
            evidence = evidence_of(answer)
            self.answers[node, evidence.code, evidence.outcome] += 1
            match outcome_of(evidence):
                case "ok":
                    self.acknowledged.add(element)
                case "fail":
                    self.refused.add(element)
                    self.longest_refusal_s = max(self.longest_refusal_s, time.monotonic() - started)
                    self.texts.add(answer.body.decode(errors="replace"))
                    await asyncio.sleep(0.02)

    def of(self, node: str, code: str) -> int:
        return sum(count for (at, found, _), count in self.answers.items() if (at, found) == (node, code))


def memory_bytes(cluster: Cluster, node: str) -> int:
    status = Path(f"/proc/{cluster.nodes[node].pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


async def test_c30_a_slow_node_refuses_what_does_not_fit_and_holds_up_nobody(tmp_path: Path, service: str) -> None:
    cluster = ProxiedCluster(tmp_path, command=SMALL_QUEUE_NODE)
    with cluster:
        leader = cluster.leader()
        slow = next(node for node in NODES if node != leader)
        async with calls_on(cluster) as calls:
            succeeded(await calls.register(slow, service, ["first"]))
            before = {node: memory_bytes(cluster, node) for node in NODES}
            cluster.proxies.slow(slow, SLOW_S)
            load = Load(service)
            lags_s: list[float] = []
            async with asyncio.TaskGroup() as tasks:
                for _ in range(PENDING_PROPOSALS // 2):
                    tasks.create_task(load.write(calls, leader))
                for _ in range(3 * PENDING_PROPOSALS):
                    tasks.create_task(load.write(calls, slow))
                end = time.monotonic() + LOAD_S
                while time.monotonic() < end:
                    lags_s.append(
                        await asyncio.to_thread(value_of, cluster.addresses[slow], "artemis_raft_apply_lag_seconds")
                    )
                    await asyncio.sleep(0.1)
                load.stopped = True

            assert load.of(slow, "service-unavailable") + load.of(slow, "rate-limited") > 0, load.answers
            assert {outcome for (_, code, outcome) in load.answers if code != "success"} <= {"not-applied", "unknown"}
            assert load.longest_refusal_s < 2.5, "a refusal must not wait for what it is refused for"
            assert any("too many writes" in text for text in load.texts), sorted(load.texts)[:3]
            assert load.of(leader, "success") > load.of(slow, "success"), "the slow node must not hold up the leader"
            assert max(lags_s) > SLOW_S, "the slow node does not say that it is behind"
            for node, bytes_before in before.items():
                assert memory_bytes(cluster, node) - bytes_before < MEMORY_GROWTH_BYTES_MAX, node

            await asyncio.to_thread(cluster.heal)
            assert revision(succeeded(await calls.register(slow, service, ["last"]))) > len(load.acknowledged)
            for node in NODES:
                found: set[str] = set()
                for number in range(50):
                    found |= await calls.ids(node, f"{service}-{number}")
                assert load.acknowledged <= found, f"{node} lacks {len(load.acknowledged - found)}"
                assert not load.refused & found, f"{node} has {len(load.refused & found)} that were refused for certain"
