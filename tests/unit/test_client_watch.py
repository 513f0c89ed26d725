"""The client's watch: one stream over many polls, whatever becomes of the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import httpx
import pytest

from artemis.api.app import create_app
from artemis.api.settings import HttpSettings
from artemis.client import (
    ArtemisClient,
    AsyncArtemisClient,
    Instance,
    InvalidInput,
    RetryPolicy,
    Unavailable,
    WatchBookmark,
    WatchChanges,
    WatchEvent,
    WatchInterrupted,
    WatchState,
)
from artemis.client.aio import AsyncRuntime
from artemis.client.sync import Runtime
from artemis.model import InstanceKey, key_of
from artemis.registry import StateLimits
from tests.support.client_drivers import VirtualTime
from tests.support.fake_cluster import NODES, FakeCluster
from tests.support.loopback import LoopbackCluster
from tests.support.replica import instance, register, unregister

DEADLINE_S = 20.0
ORDERS = Instance(service_id="orders", instance_id="i1", url="http://10.0.0.7:8080/")


def told(event: WatchEvent) -> tuple[Any, ...]:
    """An event in short."""
    match event:
        case WatchState():
            return event.because, [(s.service_id, len(s.instances)) for s in event.services], event.revision
        case WatchChanges():
            return "changes", [(c.revision, c.type, c.instance.service_id) for c in event.changes], event.revision
        case WatchBookmark():
            return "bookmark", event.revision
        case WatchInterrupted():
            return "interrupted", event.revision


# --- the blocking and the asyncio shell, on a cluster that answers at once

Take = Callable[[int], list[tuple[Any, ...]]]
"""The next so many events."""
Watch = Callable[..., Take]


def blocking(stack: contextlib.ExitStack, cluster: FakeCluster, *arguments: Any, **options: Any) -> Take:
    time = options.pop("time", None) or VirtualTime()
    client = ArtemisClient(
        NODES, transport=httpx.MockTransport(cluster.handle), runtime=Runtime(clock=time.clock, wait=time.wait, seed=7)
    )
    stack.callback(client.close)
    events: Iterator[WatchEvent] = client.watch(*arguments, **options)
    return lambda count: [told(event) for event in islice(events, count)]


def awaiting(stack: contextlib.ExitStack, cluster: FakeCluster, *arguments: Any, **options: Any) -> Take:
    time = options.pop("time", None) or VirtualTime()
    client = AsyncArtemisClient(
        NODES,
        transport=httpx.MockTransport(cluster.handle_async),
        runtime=AsyncRuntime(clock=time.clock, wait=time.wait_async, seed=7),
    )
    events = client.watch(*arguments, **options)
    runner = stack.enter_context(asyncio.Runner())
    stack.callback(lambda: runner.run(client.close()))

    async def some(count: int) -> list[tuple[Any, ...]]:
        return [told(await anext(events)) for _ in range(count)]

    return lambda count: runner.run(some(count))


@pytest.fixture(params=[blocking, awaiting])
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    with contextlib.ExitStack() as stack:
        yield partial(request.param, stack)


def add(cluster: FakeCluster, service_id: str, instance_id: str = "i1") -> None:
    cluster._register({"serviceId": service_id, "instanceId": instance_id, "url": "http://x"})


def test_a_watch_begins_with_the_state_and_goes_on_with_changes(watch: Watch) -> None:
    cluster = FakeCluster()
    add(cluster, "orders")
    add(cluster, "stock")
    take = watch(cluster)
    assert take(1) == [("start", [("orders", 1), ("stock", 1)], 2)]
    assert take(1) == [("bookmark", 2)]
    add(cluster, "stock", "i2")
    cluster._unregister(("orders", "i1"))
    assert take(2) == [("changes", [(3, "new", "stock"), (4, "delete", "orders")], 4), ("bookmark", 4)]


def test_a_watch_of_services_is_told_of_no_others(watch: Watch) -> None:
    cluster = FakeCluster()
    for service_id in ("orders", "other", "stock"):
        add(cluster, service_id)
    take = watch(cluster, ["orders", "stock", "nobody"])
    assert take(1) == [("start", [("orders", 1), ("stock", 1)], 3)]
    add(cluster, "other", "i2")
    add(cluster, "stock", "i2")
    assert take(1) == [("changes", [(5, "new", "stock")], 5)]
    assert dict(cluster.requests[-1].url.params) == {"since": "3", "wait": "10000", "services": "orders,stock,nobody"}


def test_a_watch_from_a_revision_reads_nothing_first(watch: Watch) -> None:
    cluster = FakeCluster()
    add(cluster, "orders")
    add(cluster, "orders", "i2")
    assert watch(cluster, "orders", since=1)(1) == [("changes", [(2, "new", "orders")], 2)]
    assert [request.method for request in cluster.requests] == ["GET"]


def test_a_revision_that_is_too_old_is_answered_with_the_state(watch: Watch) -> None:
    cluster = FakeCluster()
    for number in range(5):
        add(cluster, "orders", f"i{number}")
    take = watch(cluster, since=1)
    assert take(1) == [("changes", [(n, "new", "orders") for n in range(2, 6)], 5)]
    add(cluster, "orders", "i9")
    cluster.oldest = 6
    assert take(2) == [("compacted", [("orders", 6)], 6), ("bookmark", 6)]


@pytest.mark.parametrize("trouble", ["refused", "lost-request", "slow", "unavailable", "http-503", "garbage"])
def test_a_node_in_trouble_is_left_for_another_and_nothing_is_missed(watch: Watch, trouble: Any) -> None:
    cluster = FakeCluster()
    take = watch(cluster, since=0)
    assert take(1) == [("bookmark", 0)]
    add(cluster, "orders")
    cluster.plan(f"{cluster.requests[-1].url.scheme}://{cluster.requests[-1].url.netloc.decode()}", trouble)
    assert take(2) == [("changes", [(1, "new", "orders")], 1), ("bookmark", 1)]


def test_an_outage_is_told_and_the_watch_goes_on_where_it_was(watch: Watch) -> None:
    cluster = FakeCluster()
    add(cluster, "orders")
    take = watch(cluster)
    assert take(1) == [("start", [("orders", 1)], 1)]
    cluster.down()
    assert take(2) == [("interrupted", 1), ("interrupted", 1)]
    add(cluster, "orders", "i2")
    cluster.up()
    assert take(1) == [("changes", [(2, "new", "orders")], 2)]


def test_a_cluster_that_lost_its_history_is_read_anew(watch: Watch) -> None:
    cluster = FakeCluster()
    for _ in range(5):
        add(cluster, "orders")
    take = watch(cluster)
    take(1)
    cluster.wipe()
    cluster.down("unavailable")  # no node has reached revision 5
    assert take(1) == [("interrupted", 5)]
    cluster.up()
    add(cluster, "stock")
    assert take(1) == [("rebuilt", [("stock", 1)], 1)]
    add(cluster, "stock", "i2")
    assert take(1) == [("changes", [(2, "new", "stock")], 2)]


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        ((), {"since": -1}, "since"),
        ((), {"since": True}, "since"),
        ((), {"since": "now"}, "since"),
        ((), {"wait_s": 0}, "wait_s"),
        ((), {"wait_s": 301}, "wait_s"),
        ((), {"wait_s": "5"}, "wait_s"),
        (([],), {}, "services"),
        ((5,), {}, "services"),
        (([["a"]],), {}, "services"),
        ((["a", " "],), {}, "services"),
        (("a,b",), {}, "services"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_anything_is_sent(
    watch: Watch, arguments: tuple[Any, ...], options: dict[str, Any], field: str
) -> None:
    cluster = FakeCluster()
    with pytest.raises(InvalidInput) as caught:
        watch(cluster, *arguments, **options)
    assert (caught.value.field, cluster.requests) == (field, [])


def test_a_refusal_ends_the_watch(watch: Watch) -> None:
    cluster = FakeCluster()
    take = watch(cluster, since=2**63)
    cluster._watch = lambda params: {  # type: ignore[method-assign]
        "responseStatus": {"status": "fail", "errorCode": "bad-request", "message": "since: a revision from 0"}
    }
    with pytest.raises(InvalidInput):
        take(1)


def test_an_outage_is_not_asked_again_and_again_without_a_pause(watch: Watch) -> None:
    """Refused connections fail at once, and without tokens for retries so does a call: the next one has to wait."""
    cluster = FakeCluster()
    time = VirtualTime()
    take = watch(cluster, since=0, time=time)
    assert take(1) == [("bookmark", 0)]
    cluster.down("refused")
    take(10)
    began, requests = time.now, len(cluster.requests)
    assert take(40) == [("interrupted", 0)] * 40
    assert time.now - began >= 20.0
    assert len(cluster.requests) - requests < 5 * (time.now - began)
    cluster.up()
    assert take(1) == [("bookmark", 0)]


def test_an_outage_of_a_watch_leaves_other_calls_their_retries() -> None:
    cluster = FakeCluster()
    time = VirtualTime()
    transport = httpx.MockTransport(cluster.handle)
    with ArtemisClient(NODES, transport=transport, runtime=Runtime(clock=time.clock, wait=time.wait, seed=7)) as client:
        events = client.watch(since=0)
        cluster.down("refused")
        for _ in range(10):
            next(events)
        with pytest.raises(Unavailable, match=r"its time budget|its 10 attempts"):
            client.lookup("orders")
        cluster.up()


@pytest.mark.parametrize(("wait_ms_max", "asked_ms"), [(2_000, 1_250), (1, 1)])
def test_a_node_that_lets_nobody_wait_so_long_is_asked_for_less(watch: Watch, wait_ms_max: int, asked_ms: int) -> None:
    cluster = FakeCluster()
    answer = cluster._answer

    def strict(request: httpx.Request, node: str) -> httpx.Response:
        if request.method == "GET" and int(request.url.params["wait"]) > wait_ms_max:
            fault = f"wait: milliseconds from 0 to {wait_ms_max} are allowed, not '{request.url.params['wait']}'"
            return httpx.Response(400, json={"message": fault})
        return answer(request, node)

    cluster._answer = strict  # type: ignore[method-assign]
    take = watch(cluster)
    assert take(2) == [("start", [], 0), ("bookmark", 0)]
    add(cluster, "orders")
    before = len(cluster.requests)
    assert take(1) == [("changes", [(1, "new", "orders")], 1)]
    assert [request.url.params["wait"] for request in cluster.requests[before:]] == [str(asked_ms)]


def test_a_node_that_lets_nobody_wait_at_all_ends_the_watch(watch: Watch) -> None:
    cluster = FakeCluster()
    fault = {"message": "wait: milliseconds from 0 to 0 are allowed"}
    cluster._answer = lambda request, node: httpx.Response(400, json=fault)  # type: ignore[method-assign]
    with pytest.raises(InvalidInput, match="wait"):
        watch(cluster, since=0)(1)


def test_services_that_no_address_holds_are_refused(watch: Watch) -> None:
    cluster = FakeCluster()
    with pytest.raises(InvalidInput, match=r"services: .* without it all are watched"):
        watch(cluster, [f"{number}-{'é' * 30}" for number in range(900)])
    assert cluster.requests == []


def test_closing_the_client_ends_its_watches() -> None:
    cluster = FakeCluster()
    client = ArtemisClient(NODES, transport=httpx.MockTransport(cluster.handle))
    events = client.watch()
    assert told(next(events)) == ("start", [], 0)
    client.close()
    assert list(events) == []


# --- the real application, on nodes that come and go


class ByHost(httpx.AsyncBaseTransport):
    """Leads each address to its node's application; hosts in ``refusing`` do not listen."""

    def __init__(self, cluster: LoopbackCluster) -> None:
        self.refusing: set[str] = set()
        self.answered: set[str] = set()
        self._apps = {
            node_id: httpx.ASGITransport(app=create_app(node, HttpSettings(), now_ms=lambda: 0))
            for node_id, node in cluster.nodes.items()
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        node_id = request.url.host.removesuffix(".test")
        if node_id in self.refusing:
            raise httpx.ConnectError("Connection refused", request=request)
        answer = await self._apps[node_id].handle_async_request(request)
        self.answered.add(node_id)
        return answer


async def follow(events: AsyncIterator[WatchEvent], copy: dict[InstanceKey, Instance], until: int) -> list[str]:
    """Apply events to ``copy`` until it is of revision ``until``; what kinds of events there were."""
    kinds = []
    async for event in events:
        kinds.append(told(event)[0])
        if isinstance(event, WatchState):
            copy.clear()
            copy.update((key_of(one), one) for service in event.services for one in service.instances)
        elif isinstance(event, WatchChanges):
            for change in event.changes:
                if change.type == "delete":
                    del copy[key_of(change.instance)]
                else:
                    copy[key_of(change.instance)] = change.instance
        if not isinstance(event, WatchInterrupted) and event.revision >= until:
            break
    return kinds


@pytest.mark.parametrize("changes_max", [10_000, 5])
def test_a_watch_over_nodes_that_come_and_go_holds_what_a_read_gives(changes_max: int) -> None:
    async def story() -> set[str]:
        rng = random.Random(3)
        cluster = LoopbackCluster("n1", "n2", "n3", limits=StateLimits(changes_max=changes_max))
        hosts = ByHost(cluster)
        kinds: set[str] = set()
        async with AsyncArtemisClient(
            [f"http://{node_id}.test" for node_id in cluster.nodes],
            transport=hosts,
            policy=RetryPolicy(backoff_base_s=0.001, backoff_max_s=0.001),
            runtime=AsyncRuntime(seed=1),
        ) as client:
            copy: dict[InstanceKey, Instance] = {}
            events = client.watch(["a", "b"], wait_s=0.05)
            for _ in range(60):
                hosts.refusing = set(rng.sample(sorted(cluster.nodes), rng.choice((0, 1, 2))))
                for _ in range(rng.randrange(9)):
                    one = instance(rng.choice(("a", "b", "c")), f"i{rng.randrange(4)}")
                    writer = cluster[rng.choice(sorted(cluster.nodes))]
                    command = register(one) if rng.random() < 0.6 else unregister(one)
                    await writer.propose(command, timeout_ms=1_000)
                    cluster.advance(1)
                registry = cluster["n1"].registry
                kinds.update(await follow(events, copy, registry.revision))
                expected = {
                    key_of(record.instance): record.instance
                    for service_id in ("a", "b")
                    for record in getattr(registry.service(service_id), "records", ())
                }
                assert copy == expected
        assert hosts.answered == {"n1", "n2", "n3"}
        return kinds

    seen = asyncio.run(asyncio.wait_for(story(), DEADLINE_S))
    assert {"start", "changes", "bookmark"} <= seen
    assert ("compacted" in seen) == (changes_max == 5)
