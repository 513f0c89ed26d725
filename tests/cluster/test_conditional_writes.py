"""Conditional writes on real nodes: of several that expect the same, one succeeds, whichever node each asks."""

from __future__ import annotations

import asyncio

import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Answer
from jepsen_lite.metrics import value_of
from jepsen_lite.registry import evidence_of, outcome_of
from tests.cluster.calls import NODES, Calls, eventually, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

ROUNDS = 40
ABSENT = {"if-none-match": "*"}


def won(answers: list[Answer]) -> list[int]:
    return [at for at, answer in enumerate(answers) if outcome_of(evidence_of(answer)) == "ok"]


async def test_of_those_that_race_for_a_name_one_gets_it(calls: Calls, service: str) -> None:
    for number in range(ROUNDS):
        name = f"i{number}"
        answers = await asyncio.gather(*(calls.register(node, service, [name], headers=ABSENT) for node in NODES))
        (winner,) = won(answers)
        present = answers[winner].headers["etag"]
        for answer in answers:
            assert answer.headers["etag"] == present
        assert all(evidence_of(answer).outcome == "not-applied" for at, answer in enumerate(answers) if at != winner)


async def test_a_counter_that_is_only_ever_compared_and_set_loses_no_step(calls: Calls, service: str) -> None:
    """Twelve writers on three nodes each raise it ten times: whoever is refused reads again."""
    first = succeeded(await calls.register("n1", service, ["counter"], {"v": "0"}))
    standing = (first.headers["etag"], 0)

    async def raise_it(node: str) -> None:
        nonlocal standing
        for _ in range(10):
            while True:
                etag, value = standing
                metadata = {"v": str(value + 1)}
                answer = await calls.register(node, service, ["counter"], metadata, {"if-match": etag})
                if outcome_of(evidence_of(answer)) == "ok":
                    if value + 1 > standing[1]:
                        standing = answer.headers["etag"], value + 1
                    break
                assert evidence_of(answer).failed == ("condition-failed",)
                await asyncio.sleep(0)

    await asyncio.gather(*(raise_it(node) for node in NODES * 4))
    assert standing[1] == 12 * 10
    for node in NODES:
        found = (await calls.lookup(node, service)).json()
        assert isinstance(found, dict)
        assert found["service"]["instances"][0]["metadata"]["v"] == "120"


async def test_the_members_go_on_comparing_their_states(cluster: Cluster, calls: Calls, service: str) -> None:
    succeeded(await calls.register("n1", service, ["i1"]))
    before = {node: value_of(cluster.addresses[node], "artemis_state_verified_index") for node in NODES}

    async def compared_again() -> None:
        for node in NODES:
            address = cluster.addresses[node]
            assert await asyncio.to_thread(value_of, address, "artemis_state_verified_index") > before[node]
            assert await asyncio.to_thread(value_of, address, "artemis_state_differing_peers") == 0
            assert await asyncio.to_thread(value_of, address, "artemis_state_quarantined") == 0

    await eventually(compared_again, "every node knows that a majority holds its state")
