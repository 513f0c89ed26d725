"""The change feed: who is called, what a reader gets, and what it is told when it cannot get everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from artemis.api import feed as feed_module
from artemis.api.feed import CALLED_AT_ONCE, Batch, Behind, ChangeFeed, Subscription
from artemis.api.feed_cache import ENTRY_OVERHEAD_BYTES, EncodedChanges
from artemis.model import Change
from artemis.registry import StateLimits
from tests.support.loopback import LoopbackCluster, LoopbackNode
from tests.support.replica import instance, register, unregister

DEADLINE_S = 20.0


class Scene:
    def __init__(self, limits: StateLimits | None = None) -> None:
        self.cluster = LoopbackCluster("n1", "n2", limits=limits)
        self.node = self.cluster["n1"]
        self.feed = ChangeFeed(self.node)

    async def register(self, service_id: str, *instance_ids: str, node: LoopbackNode | None = None) -> int:
        """One entry; the revision after it."""
        command = register(*(instance(service_id, instance_id) for instance_id in instance_ids or ("i1",)))
        return (await (node or self.node).propose(command, timeout_ms=1_000)).revision


def play(story: Callable[[Scene], Awaitable[None]], limits: StateLimits | None = None) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await story(Scene(limits))

    asyncio.run(within())


def shown(batch: Batch | Behind) -> list[tuple[int, str, str]]:
    assert isinstance(batch, Batch)
    return [(change.revision, change.type, change.instance.service_id) for change in batch.changes]


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_a_reader_gets_what_was_before_it_asked_and_what_comes_after() -> None:
    async def story(scene: Scene) -> None:
        await scene.register("a")
        with scene.feed.subscribe(since=0) as reader:
            assert shown(await reader.next()) == [(1, "new", "a")]
            asked = asyncio.ensure_future(reader.next())
            await turns()
            assert not asked.done()
            await scene.register("a")
            batch = await asked
            assert shown(batch) == [(2, "change", "a")]
            assert isinstance(batch, Batch)
            assert (batch.revision, reader.revision) == (2, 2)

    play(story)


def test_all_changes_of_one_entry_are_in_one_batch() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe() as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.register("a", "i1", "i2", "i3")
            assert [revision for revision, _, _ in shown(await asked)] == [1, 2, 3]

    play(story)


def test_a_reader_of_a_service_is_never_called_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    take = Subscription._take

    def counted(self: Subscription) -> Batch | Behind | None:
        nonlocal looks
        looks += 1
        return take(self)

    monkeypatch.setattr(Subscription, "_take", counted)

    async def story(scene: Scene) -> None:
        nonlocal looks
        with scene.feed.subscribe(services=("a",)) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            before = looks
            for number in range(1_000):
                await scene.register("b", f"i{number % 7}")
            await turns()
            assert (looks, asked.done()) == (before, False)
            # It is complete all the same, so that a bookmark goes forward ...
            assert reader.revision == 1_000
            await scene.register("a")
            assert shown(await asked) == [(1_001, "new", "a")]

    # ... also when the ring does not reach back to its last change.
    play(story, StateLimits(changes_max=10))


def test_of_services_added_one_by_one_nothing_is_missed_and_nobody_is_woken() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=()) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            for number in range(20):
                await scene.register(f"s{number}")  # before it is added: not for this reader
                reader.add((f"s{number}",))
                assert reader.revision == scene.feed.revision
                await turns()
                assert not asked.done()
                if number % 3 == 0:
                    await scene.register(f"s{number // 2}")
                    got = await asked
                    assert isinstance(got, Batch)
                    assert [change.revision for change in got.changes] == [scene.feed.revision]
                    asked = asyncio.ensure_future(reader.next())
                    await turns()
            asked.cancel()

    play(story)


def test_names_of_services_are_compared_in_lower_case() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=("a",)) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.register("A")
            assert shown(await asked) == [(1, "new", "A")]

    play(story)


@pytest.mark.parametrize("services", [None, ("a",)])
@pytest.mark.parametrize(
    ("since", "expected"),
    [(4, Behind(5)), (5, list(range(6, 16))), (15, []), (17, [18])],
    ids=["compacted", "exactly compacted", "current", "future"],
)
def test_the_four_places_a_watch_may_begin_at(
    services: tuple[str, ...] | None, since: int, expected: Behind | list[int]
) -> None:
    async def story(scene: Scene) -> None:
        for _ in range(15):
            await scene.register("a")
        with scene.feed.subscribe(since, services) as reader:
            got = await reader.next(wait_s=0)
            if isinstance(expected, Behind):
                assert got == expected
                assert await reader.next() == expected
                return
            if since == 17:
                assert got == Batch((), 17)
                for _ in range(3):
                    asked = asyncio.ensure_future(reader.next())
                    await turns()
                    await scene.register("a")
                    await turns()
                    if asked.done():
                        got = await asked
                    else:
                        asked.cancel()
            assert [revision for revision, _, _ in shown(got)] == expected

    play(story, StateLimits(changes_max=10))


def test_a_reader_that_stood_still_for_too_long_is_told_so_until_it_seeks() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe() as reader:
            for _ in range(11):
                await scene.register("a")
            assert await reader.next() == Behind(1)
            assert await reader.next() == Behind(1)
            reader.seek(scene.feed.revision)
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.register("a")
            assert shown(await asked) == [(12, "change", "a")]

    play(story, StateLimits(changes_max=10))


def test_an_idle_reader_outlives_any_number_of_changes_that_are_not_for_it() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=("a",)) as reader:
            assert await reader.next(wait_s=0) == Batch((), 0)
            for _ in range(100):
                await scene.register("b")
            await turns()
            # Nobody waits now; the reader was busy sending its bookmark.
            assert await reader.next(wait_s=0) == Batch((), 100)

    play(story, StateLimits(changes_max=10))


@pytest.mark.parametrize("services", [None, ("a",)])
def test_a_snapshot_that_holds_the_changes_between_goes_on_without_a_gap(services: tuple[str, ...] | None) -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=services) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            scene.node.follows = False
            for _ in range(5):
                await scene.register("a", node=scene.cluster["n2"])
            scene.node.install_snapshot(scene.cluster["n2"])
            assert [revision for revision, _, _ in shown(await asked)] == [1, 2, 3, 4, 5]

    play(story)


@pytest.mark.parametrize("services", [None, ("a",)])
def test_a_snapshot_beyond_a_gap_is_said_to_everybody(services: tuple[str, ...] | None) -> None:
    async def story(scene: Scene) -> None:
        await scene.register("a")
        with scene.feed.subscribe(services=services) as reader, scene.feed.subscribe(1, services) as late:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            scene.node.follows = False
            for _ in range(50):
                await scene.register("b", node=scene.cluster["n2"])
            scene.node.install_snapshot(scene.cluster["n2"])
            assert await asked == Behind(41)
            assert await late.next() == Behind(41)

    play(story, StateLimits(changes_max=10))


def test_a_long_history_comes_in_batches_that_end_with_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "BATCH_CHANGES_MAX", 4)

    async def story(scene: Scene) -> None:
        for number in range(5):
            scene.cluster.advance(1)
            await scene.register("a", f"x{number}", f"y{number}", f"z{number}")
        with scene.feed.subscribe(since=0) as reader:
            ends = []
            while reader.revision < 15:
                batch = await reader.next()
                assert isinstance(batch, Batch)
                assert batch.revision == batch.changes[-1].revision
                ends.append(batch.revision)
            assert ends == [6, 12, 15]

    play(story)


def test_a_cancelled_reader_loses_nothing() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe() as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.register("a")
            asked.cancel()
            await turns()
            assert shown(await reader.next()) == [(1, "new", "a")]

    play(story)


def test_a_bookmark_comes_when_the_time_is_over() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=("a",)) as reader:
            asked = asyncio.ensure_future(reader.next(wait_s=0.05))
            await turns()
            await scene.register("b")
            assert await asked == Batch((), 1)

    play(story)


def test_services_can_be_added_and_removed_while_the_reader_waits() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(services=("a",)) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.register("b")
            reader.add(("b",))
            await turns()
            assert not asked.done()
            await scene.register("b")
            assert shown(await asked) == [(2, "change", "b")]
            asked = asyncio.ensure_future(reader.next())
            await turns()
            reader.remove(("a",))
            await scene.register("a")
            await turns()
            assert not asked.done()
            reader.narrow(None)
            await scene.register("c")
            assert shown(await asked) == [(4, "new", "c")]

    play(story)


def test_nothing_is_kept_of_a_closed_reader() -> None:
    async def story(scene: Scene) -> None:
        for services in (None, ("a", "b")):
            reader = scene.feed.subscribe(services=services)
            asked = asyncio.ensure_future(reader.next())
            await turns()
            asked.cancel()
            await turns()
            reader.close()
            reader.close()
        feed = scene.feed
        assert (feed.subscriptions, feed._idle, feed._idle_of, feed._idle_of_all) == (0, 0, {}, {})
        with pytest.raises(RuntimeError, match="closed"):
            await reader.next()

    play(story)


def test_thousands_of_readers_are_called_in_slices() -> None:
    async def story(scene: Scene) -> None:
        got = 0
        most = 0

        async def read(reader: Subscription) -> None:
            nonlocal got
            await reader.next()
            got += 1

        async def watch() -> None:
            nonlocal most
            while got < 5_000:
                before = got
                await asyncio.sleep(0)
                most = max(most, got - before)

        with_readers = [scene.feed.subscribe(services=("a",)) for _ in range(5_000)]
        reading = [asyncio.ensure_future(read(reader)) for reader in with_readers]
        await turns()
        watching = asyncio.ensure_future(watch())
        await turns()
        await scene.register("a")
        await watching
        await asyncio.gather(*reading)
        assert most <= CALLED_AT_ONCE

    play(story)


def test_the_index_of_services_is_trimmed_with_the_ring() -> None:
    async def story(scene: Scene) -> None:
        with scene.feed.subscribe(0, ("s1", "x")) as reader:
            await scene.register("x")
            await scene.register("x")
            await reader.next()
            for number in range(50):
                await scene.register(f"s{number}")
                scene.feed._read(scene.feed.revision - 3, frozenset(("x", "y")))
            index = scene.feed._index
            assert index is not None
            assert (len(index._of), len(index._order)) == (10, 10)

    play(story, StateLimits(changes_max=10))


def test_a_removal_is_a_change_like_others() -> None:
    async def story(scene: Scene) -> None:
        await scene.register("a")
        with scene.feed.subscribe(services=("a",)) as reader:
            asked = asyncio.ensure_future(reader.next())
            await turns()
            await scene.node.propose(unregister(instance("a")), timeout_ms=1_000)
            assert shown(await asked) == [(2, "delete", "a")]

    play(story)


def test_a_change_is_encoded_once_for_all_readers() -> None:
    made = 0

    def encode(change: Change) -> bytes:
        nonlocal made
        made += 1
        return b"%d" % change.revision

    changes = [Change(revision, "new", instance(), 0) for revision in (1, 2, 3)]
    cache = EncodedChanges(2 * (1 + ENTRY_OVERHEAD_BYTES))
    assert [cache.one(encode, change) for change in (*changes[:2], *changes[:2])] == [b"1", b"2"] * 2
    assert made == 2
    assert cache.one(encode, changes[2]) == b"3"
    assert cache.size_bytes == 2 * (1 + ENTRY_OVERHEAD_BYTES)
    assert cache.one(encode, changes[1]) == b"2"
    assert made == 3
