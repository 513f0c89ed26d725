"""What one node acknowledged, the others know: the races that earlier servers lost (C1 to C4, C24), on three processes.

Each test acts through one node and asks another in the very next request.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from jepsen_lite.registry import Consistency, instances_in
from tests.cluster.calls import Calls, revision, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

KEYS = 300
NODES = ("n1", "n2", "n3")


def pairs_of_nodes() -> Iterator[tuple[str, str]]:
    """Every ordered pair of different nodes, again and again: leader to follower, back, and follower to follower."""
    return itertools.cycle(itertools.permutations(NODES, 2))


async def value_of(calls: Calls, node: str, service: str, level: Consistency = "linearizable") -> str | None:
    """The metadata ``v`` of the only instance of a service."""
    answer = await calls.lookup(node, service, level)
    found = instances_in(answer)
    assert found is not None, f"{node} answered {answer.status} {answer.body[:300]!r}"
    assert len(found) <= 1
    metadata = found[0]["metadata"] if found else None
    return metadata["v"] if isinstance(metadata, dict) else None


async def test_c1_a_write_is_read_at_once_on_another_node(calls: Calls, service: str) -> None:
    for number, (writer, reader) in zip(range(KEYS), pairs_of_nodes(), strict=False):
        succeeded(await calls.register(writer, f"{service}-{number}", ["i"]))
        assert await calls.ids(reader, f"{service}-{number}") == {"i"}, f"register on {writer}, read on {reader}"


async def test_c2_a_heartbeat_is_accepted_at_once_on_another_node(calls: Calls, service: str) -> None:
    for number, (writer, other) in zip(range(KEYS), pairs_of_nodes(), strict=False):
        succeeded(await calls.register(writer, service, [f"i{number}"]))
        succeeded(await calls.heartbeat(other, service, [f"i{number}"]))


async def test_c3_an_instance_unregistered_on_another_node_never_comes_back(calls: Calls, service: str) -> None:
    for number, (writer, other) in zip(range(KEYS), pairs_of_nodes(), strict=False):
        succeeded(await calls.register(writer, service, [f"i{number}"]))
        succeeded(await calls.unregister(other, service, [f"i{number}"]))
        third = next(node for node in NODES if node not in (writer, other))
        assert await calls.ids(third, service) == set(), f"register on {writer}, unregister on {other}"
    assert await asyncio.gather(*(calls.ids(node, service) for node in NODES)) == [set(), set(), set()]


async def test_c4_two_writers_of_one_key_leave_one_value_everywhere(calls: Calls, service: str) -> None:
    for number, (one, other) in zip(range(KEYS // 2), pairs_of_nodes(), strict=False):
        name = f"{service}-{number}"
        first, second = await asyncio.gather(
            calls.register(one, name, ["i"], {"v": "A"}), calls.register(other, name, ["i"], {"v": "B"})
        )
        succeeded(first)
        succeeded(second)
        values = await asyncio.gather(*(value_of(calls, node, name) for node in NODES))
        later = "A" if revision(first) > revision(second) else "B"
        assert values == [later] * 3, f"A on {one} at {revision(first)}, B on {other} at {revision(second)}"


async def test_c4_the_order_of_acknowledgements_is_kept(calls: Calls, service: str) -> None:
    """Writes of one key in turn through different nodes: the last acknowledged one stands."""
    for number, (one, other) in zip(range(KEYS // 2), pairs_of_nodes(), strict=False):
        first = succeeded(await calls.register(one, service, ["i"], {"v": f"{number}-first"}))
        second = succeeded(await calls.register(other, service, ["i"], {"v": f"{number}-second"}))
        assert revision(first) < revision(second)
        assert {await value_of(calls, node, service) for node in NODES} == {f"{number}-second"}


@pytest.mark.parametrize("level", ["linearizable", "session"])
async def test_c24_a_reader_that_changes_nodes_never_goes_back(calls: Calls, service: str, level: Consistency) -> None:
    """One writer counts up on one instance; a reader walks over the nodes. At level ``session`` it names the revision
    it saw last, as a client that changes nodes does."""
    updates = 200
    succeeded(await calls.register("n1", service, ["i"], {"v": "0"}))
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, updates + 1):
            succeeded(await calls.register(NODES[number % 3], service, ["i"], {"v": str(number)}))
        done.set()

    async def read() -> list[int]:
        values: list[int] = []
        seen = 0
        for node in itertools.cycle(NODES):
            answer = await calls.lookup(node, service, level, min_revision=seen if level == "session" else None)
            found = instances_in(answer)
            assert found, f"{node} answered {answer.status} {answer.body[:300]!r}"
            metadata = found[0]["metadata"]
            assert isinstance(metadata, dict)
            assert revision(answer) >= seen, f"{node}: revision went back"
            seen = revision(answer)
            values.append(int(metadata["v"]))
            if done.is_set() and len(values) >= 20:
                return values
        raise AssertionError("the cycle of nodes ended")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        reading = tasks.create_task(read())
    values = reading.result()
    assert values == sorted(values)
    assert len(set(values)) >= 5, "the reader saw too few values to prove anything"
    assert await value_of(calls, "n2", service) == str(updates)
