"""Watches over any history: ordered, unique, reliable, atomic, resumable, bookmarkable.

Several nodes apply one random log, some of them late, and some by installing a snapshot of another. Readers with and
without a filter read in steps, stop in between, change nodes, and go on from the last revision they were given. What
each was given is compared with the changes of a registry whose ring never ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from artemis.api.feed import Batch, Behind, ChangeFeed, Subscription
from artemis.commands import Command, decode_entry
from artemis.model import Change, Compacted, InstanceKey, key_of
from artemis.registry import Registry, StateLimits
from tests.support.histories import commands
from tests.support.loopback import LoopbackCluster

NODES = ("n1", "n2", "n3")
BUDGET_MS = 1_000
UNLIMITED = StateLimits(changes_max=10**6, change_bytes_max=2**40)
FILTERS = (None, frozenset(("orders",)), frozenset(("stock", "other")))


@dataclass
class Reader:
    """A client: it has seen everything for it up to ``revision``."""

    services: frozenset[str] | None
    node_id: str
    subscription: Subscription
    revision: int = 0
    copy: dict[InstanceKey, Change] = field(default_factory=dict)
    asked: asyncio.Task[Batch | Behind] | None = None
    resyncs: int = 0

    def takes(self, change: Change) -> bool:
        return self.services is None or change.instance.service_id.lower() in self.services


class World:
    def __init__(self, changes_max: int) -> None:
        self.cluster = LoopbackCluster(*NODES, limits=StateLimits(changes_max=changes_max))
        self.feeds = {node_id: ChangeFeed(self.cluster[node_id]) for node_id in NODES}
        self.readers = [Reader(services, "n1", self.feeds["n1"].subscribe(0, services)) for services in FILTERS]
        self.reference = Registry(UNLIMITED)
        self.entry_ends: set[int] = {0}

    def reach(self) -> list[Change]:
        """Apply to the reference what the cluster has ordered; all changes there ever were."""
        for index in range(self.reference.applied_index + 1, len(self.cluster.log) + 1):
            self.reference.apply(index, decode_entry(self.cluster.log[index - 1]))
            self.entry_ends.add(self.reference.revision)
        changes = self.reference.changes_since(0)
        assert not isinstance(changes, Compacted)
        return list(changes)

    async def read(self, reader: Reader) -> None:
        """One step of a reader, which may leave it waiting."""
        if reader.asked is None:
            reader.asked = asyncio.ensure_future(reader.subscription.next())
        await turns()
        if reader.asked.done():
            got, reader.asked = reader.asked.result(), None
            self.given(reader, got)

    def given(self, reader: Reader, got: Batch | Behind) -> None:
        if isinstance(got, Behind):
            registry = self.cluster[reader.node_id].registry
            assert reader.revision < got.oldest <= registry.changes_oldest
            self.resync(reader, registry)
            return
        revisions = [change.revision for change in got.changes]
        assert revisions == sorted(set(revisions)), "ordered, unique"
        expected = [change for change in self.reach() if reader.revision < change.revision <= got.revision]
        assert list(got.changes) == [change for change in expected if reader.takes(change)], "reliable, filtered"
        assert got.revision in self.entry_ends, "atomic"
        assert got.revision >= reader.revision, "never back"
        for change in got.changes:
            key = key_of(change.instance)
            assert (change.type == "new") == (key not in reader.copy)
            if change.type == "delete":
                del reader.copy[key]
            else:
                reader.copy[key] = change
        reader.revision = got.revision
        assert {key: change.instance for key, change in reader.copy.items()} == self.listed_at(reader)

    def listed_at(self, reader: Reader) -> dict[InstanceKey, object]:
        """What a read of the reader's services gives at its revision."""
        found: dict[InstanceKey, object] = {}
        for change in self.reach():
            if change.revision <= reader.revision and reader.takes(change):
                found[key_of(change.instance)] = change.instance
                if change.type == "delete":
                    del found[key_of(change.instance)]
        return found

    def resync(self, reader: Reader, registry: Registry) -> None:
        reader.resyncs += 1
        changes = [Change(0, "new", record.instance, 0) for view in registry.services() for record in view.records]
        reader.copy = {key_of(change.instance): change for change in changes if reader.takes(change)}
        reader.revision = registry.revision
        reader.subscription.seek(registry.revision)
        assert {key: change.instance for key, change in reader.copy.items()} == self.listed_at(reader)

    async def bookmark(self, reader: Reader) -> None:
        await self.stop(reader)
        self.given(reader, await reader.subscription.next(wait_s=0))

    async def hop(self, reader: Reader, node_id: str) -> None:
        """Go on at another node, or on another connection to the same, from the last revision."""
        await self.stop(reader)
        reader.subscription.close()
        reader.node_id = node_id
        reader.subscription = self.feeds[node_id].subscribe(reader.revision, reader.services)

    async def stop(self, reader: Reader) -> None:
        if reader.asked is not None:
            reader.asked.cancel()
            await asyncio.wait((reader.asked,))
            asked, reader.asked = reader.asked, None
            if not asked.cancelled():
                self.given(reader, asked.result())

    def snapshot(self, target: str, source: str) -> None:
        if self.cluster[source].registry.applied_index > self.cluster[target].registry.applied_index:
            self.cluster[target].install_snapshot(self.cluster[source])


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


Step = tuple[str, object, object]
_nodes = st.sampled_from(NODES)
_readers = st.integers(0, len(FILTERS) - 1)
_steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("propose"), _nodes, commands),
    st.tuples(st.just("propose"), _nodes, commands),
    st.tuples(st.just("advance"), st.sampled_from((1, 500, 3_000)), st.none()),
    st.tuples(st.just("follow"), _nodes, st.booleans()),
    st.tuples(st.just("snapshot"), _nodes, _nodes),
    st.tuples(st.just("read"), _readers, st.none()),
    st.tuples(st.just("read"), _readers, st.none()),
    st.tuples(st.just("bookmark"), _readers, st.none()),
    st.tuples(st.just("hop"), _readers, _nodes),
)


async def do(world: World, step: Step) -> None:
    what, first, second = step
    match what, first, second:
        case "propose", str(node_id), command:
            await world.cluster[node_id].propose(_as_command(command), timeout_ms=BUDGET_MS)
        case "advance", int(ms), _:
            world.cluster.advance(ms)
        case "follow", str(node_id), bool(follows):
            world.cluster[node_id].follows = follows
            world.cluster.spread()
        case "snapshot", str(target), str(source):
            world.snapshot(target, source)
        case "read", int(number), _:
            await world.read(world.readers[number])
        case "bookmark", int(number), _:
            await world.bookmark(world.readers[number])
        case "hop", int(number), str(node_id):
            await world.hop(world.readers[number], node_id)
        case _:
            raise AssertionError(step)


def _as_command(value: object) -> Command:
    assert isinstance(value, Command)
    return value


async def run(steps: list[Step], changes_max: int) -> World:
    world = World(changes_max)
    for step in steps:
        await do(world, step)
    # At the end everybody reads to the end, and has then what a read gives.
    for node_id in NODES:
        world.cluster[node_id].catch_up()
    for reader in world.readers:
        while reader.revision < world.reference.revision or world.reference.applied_index < len(world.cluster.log):
            await world.bookmark(reader)
            world.reach()
        await world.stop(reader)
        reader.subscription.close()
    return world


@settings(max_examples=300)
@given(st.lists(_steps, max_size=40), st.sampled_from((0, 1, 3, 8, 1_000)))
def test_a_watch_has_the_six_properties_whatever_happens(steps: list[Step], changes_max: int) -> None:
    asyncio.run(run(steps, changes_max))


def test_random_histories_reach_every_situation_that_matters() -> None:
    seen: set[str] = set()

    @settings(max_examples=200)
    @given(st.lists(_steps, max_size=40), st.sampled_from((1, 3, 8, 1_000)))
    def look(steps: list[Step], changes_max: int) -> None:
        world = asyncio.run(run(steps, changes_max))
        for reader in world.readers:
            if reader.resyncs:
                seen.add("resync")
            if reader.revision > changes_max and not reader.resyncs:
                seen.add("more changes than the ring holds, and none missed")
            if reader.node_id != "n1" and reader.copy:
                seen.add("read on after a hop")

    look()
    assert seen == {"resync", "more changes than the ring holds, and none missed", "read on after a hop"}
