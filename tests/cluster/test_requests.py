"""Requests that follow, race, or repeat each other: their order and their wholeness is the same on every node
(C5, C19 to C23, C29, C32)."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial

import orjson
import pytest

from jepsen_lite.cluster import Cluster
from jepsen_lite.http1 import Answer
from jepsen_lite.registry import REGISTER, evidence_of, instance, instances_body, instances_in
from tests.cluster.calls import HOUR_MS, NODES, Calls, eventually, in_parallel, revision, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

BATCH = 200


async def values(calls: Calls, node: str, service: str) -> dict[str, str]:
    """Metadata ``v`` by instance id, of a linearizable read."""
    answer = await calls.lookup(node, service)
    found = instances_in(answer)
    assert found is not None, f"{node} answered {answer.status} {answer.body[:300]!r}"
    metadata = {str(item["instanceId"]): item["metadata"] for item in found}
    return {one: str(data.get("v")) for one, data in metadata.items() if isinstance(data, dict)}


async def test_c5_a_register_right_after_an_unregister_stands_on_every_node(calls: Calls, service: str) -> None:
    keys = [f"i{number}" for number in range(50)]
    for one in keys:
        succeeded(await calls.register("n1", service, [one], {"v": "old"}))
    for one in keys:
        succeeded(await calls.unregister("n1", service, [one]))
        succeeded(await calls.register("n1", service, [one], {"v": "new"}))
    for node in NODES:
        assert await values(calls, node, service) == dict.fromkeys(keys, "new"), node


async def test_c5_writes_of_one_turn_keep_their_order_although_they_share_an_entry(calls: Calls, service: str) -> None:
    """Other writers fill the same entries of the log, so that a server that sorts a batch by kind would show it."""
    keys = [f"i{number}" for number in range(50)]

    async def replace(one: str) -> None:
        succeeded(await calls.register("n1", service, [one], {"v": "old"}))
        succeeded(await calls.unregister("n1", service, [one]))
        succeeded(await calls.register("n1", service, [one], {"v": "new"}))

    await in_parallel(replace, keys, workers=len(keys))
    for node in NODES:
        assert await values(calls, node, service) == dict.fromkeys(keys, "new"), node


async def test_c19_no_registration_of_a_new_service_is_lost_to_another_of_the_same_moment(
    calls: Calls, service: str
) -> None:
    ids = [f"i{number}" for number in range(8)]
    for number, node in zip(range(200), itertools.cycle(NODES), strict=False):
        name = f"{service}-{number}"
        for answer in await asyncio.gather(*(calls.register(node, name, [one]) for one in ids)):
            succeeded(answer)
        assert await calls.ids(node, name) == set(ids), f"round {number}"
        for answer in await asyncio.gather(*(calls.unregister(node, name, [one]) for one in ids)):
            succeeded(answer)
        assert await calls.ids(node, name) == set(), f"round {number}"


async def test_c20_nobody_sees_a_part_of_a_request(calls: Calls, service: str) -> None:
    ids = [f"i{number}" for number in range(BATCH)]
    counts: dict[str, list[int]] = {node: [] for node in NODES}
    done = asyncio.Event()

    async def read(node: str) -> None:
        while not done.is_set():
            counts[node].append(len(await calls.ids(node, service)))
            counts[node].append(len(await calls.ids(node, service, "stale")))

    async def write() -> None:
        try:
            for writer in NODES * 5:
                succeeded(await calls.register(writer, service, ids))
                assert len(await calls.ids(writer, service)) == BATCH
                succeeded(await calls.unregister(writer, service, ids))
                assert len(await calls.ids(writer, service)) == 0
        finally:
            done.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for node in NODES:
            tasks.create_task(read(node))
    for node, seen in counts.items():
        assert set(seen) <= {0, BATCH}, f"{node} showed {sorted(set(seen))} of {BATCH}"
    assert all(sum(seen) for seen in counts.values()), "a reader saw nothing"


@pytest.mark.parametrize("path", ["/artemis/api/replication/registry/", "/api/replication/registry/"])
async def test_c21_c22_what_is_replayed_to_one_node_is_on_all_and_goes_from_all(
    calls: Calls, service: str, path: str
) -> None:
    """The earlier servers' nodes told each other of changes here, and whoever replayed one revived a dead instance on
    one node only. Here it is a write like any other: nodes never differ, and a heartbeat revives nobody."""
    body, marked = instances_body([instance(service, "x", ttl_ms=HOUR_MS)]), {"x-artemis-replication": "true"}
    for replayed_to, other in itertools.permutations(NODES, 2):
        before = revision(succeeded(await calls.register(replayed_to, service, ["x", "y"])))
        succeeded(await calls.unregister(other, service, ["x"]))
        beat = await calls.request(replayed_to, "POST", f"{path}heartbeat.json", body, marked)
        assert evidence_of(beat).failed, beat.body[:300]
        assert [await calls.ids(node, service) for node in NODES] == [{"y"}] * 3

        replayed = succeeded(await calls.request(replayed_to, "POST", f"{path}register.json", body, marked))
        assert revision(replayed) == before + 2
        assert [await calls.ids(node, service) for node in NODES] == [{"x", "y"}] * 3
        succeeded(await calls.unregister(other, service, ["x", "y"]))
        assert [await calls.ids(node, service) for node in NODES] == [set()] * 3


async def test_c21_without_its_header_a_replay_is_refused(calls: Calls, service: str) -> None:
    body = instances_body([instance(service, "x", ttl_ms=HOUR_MS)])
    for node in NODES:
        answer = await calls.request(node, "POST", "/api/replication/registry/register.json", body)
        assert (answer.status, answer.body) == (400, b"")
        assert answer.headers["x-artemis-outcome"] == "not-applied"
        assert await calls.ids(node, service) == set()


async def test_c22_every_node_unregisters_what_another_registered(calls: Calls, service: str) -> None:
    for writer, other in itertools.permutations(NODES, 2):
        succeeded(await calls.register(writer, service, [f"{writer}-{other}"]))
        succeeded(await calls.unregister(other, service, [f"{writer}-{other}"]))
        for node in NODES:
            assert await calls.ids(node, service) == set(), f"register on {writer}, unregister on {other}"


async def test_c22_the_unregistration_of_an_unknown_instance_changes_nothing(calls: Calls, service: str) -> None:
    """The first call of every Java registration is one, so it is a success; the revision says that nothing was done."""
    before = revision(succeeded(await calls.register("n1", service, ["known"])))
    for node in NODES:
        assert revision(succeeded(await calls.unregister(node, service, ["unknown"]))) == before
        assert await calls.ids(node, service) == {"known"}


@pytest.mark.parametrize("kind", ["register", "unregister"])
@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_c23_the_late_copy_of_a_retried_request_undoes_nothing(
    calls: Calls, cluster: Cluster, service: str, role: str, kind: str
) -> None:
    """A node stops with a request in its hands; the client repeats it elsewhere, and a newer request follows. When
    the node goes on, the old copy gets the first answer and leaves the newer state alone."""
    leader = cluster.leader()
    stopped = leader if role == "leader" else next(node for node in NODES if node != leader)
    other = next(node for node in NODES if node != stopped)
    succeeded(await calls.register(stopped, service, ["k"], {"v": "first"}))

    async def request(node: str) -> Answer:
        headers = {"x-artemis-request-id": f"{service}-retried"}
        if kind == "unregister":
            return await calls.unregister(node, service, ["k"], headers)
        return await calls.register(node, service, ["k"], {"v": "retried"}, headers)

    cluster.pause(stopped)
    late = asyncio.create_task(request(stopped))

    async def repeat() -> Answer:
        return succeeded(await request(other))

    first = await eventually(repeat, "the others accept the repeated request")
    newer = succeeded(await calls.register(other, service, ["k"], {"v": "newer"}))
    assert revision(newer) > revision(first)
    assert not late.done()
    cluster.resume(stopped)
    copy = await late
    evidence = evidence_of(copy)
    if evidence.code == "service-unavailable":
        # It woke up without a leader. Refused or unknown: what matters is the state.
        assert evidence.outcome in ("not-applied", "unknown")
    else:
        assert succeeded(copy).headers["x-artemis-node"] == stopped
    for node in NODES:
        assert await eventually(partial(values, calls, node, service), "a read") == {"k": "newer"}, node
    again = succeeded(await eventually(partial(request, stopped), "a copy after all is well"))
    assert (await values(calls, stopped, service), revision(again)) == ({"k": "newer"}, revision(first))


async def test_c29_the_case_of_a_service_id_is_no_difference(calls: Calls, service: str) -> None:
    spellings = [service.upper(), service.title(), service]
    for registered, named in itertools.permutations(spellings, 2):
        succeeded(await calls.register("n1", registered, ["i"]))
        assert await calls.ids("n2", named) == {"i"}, f"registered as {registered}, looked up as {named}"
        succeeded(await calls.heartbeat("n3", named, ["i"]))
        succeeded(await calls.unregister("n2", named, ["i"]))
        for node in NODES:
            assert await calls.ids(node, registered) == set(), f"registered as {registered}, unregistered as {named}"


async def test_c32_an_instance_id_names_one_instance_of_a_service_in_a_region(calls: Calls, service: str) -> None:
    """The earlier Rust server held two entries here, for zone and group were part of its identity, and merged them in
    its deltas. The identity here is (region, service, instance id), as the Java servers' clients and the Rust client's
    own scripts have it: a host that moves to another zone under its id is the same instance, and must not live on as
    a ghost in its old zone. So: one entry, the later registration's, the same in look-ups, deltas and watches of every
    node. In another region the same id is another instance."""
    before = revision(succeeded(await calls.register("n1", service, ["other"])))
    base = instance(service, "i", ttl_ms=HOUR_MS)
    for node, zone in (("n1", "zone-a"), ("n2", "zone-b")):
        item = {**base, "zoneId": zone, "groupId": f"group-{zone}"}
        succeeded(await calls.request(node, "POST", REGISTER, instances_body([item])))
    for node in NODES:
        found = instances_in(await calls.lookup(node, service)) or []
        kept = [(item["instanceId"], item["zoneId"], item["groupId"]) for item in found if item["instanceId"] == "i"]
        assert kept == [("i", "zone-b", "group-zone-b")], node
        wanted = [("new", "zone-a"), ("change", "zone-b")]
        _, changes = await calls.delta(node, before)
        assert [(change.type, change.instance["zoneId"]) for change in changes[service]] == wanted, node
        watch = f"/artemis/api/watch?naming=camel&since={before}&services={service}"
        pushed = orjson.loads((await calls.request(node, "GET", watch)).body)["changes"]
        assert [(change["changeType"], change["instance"]["zoneId"]) for change in pushed] == wanted, node
    elsewhere = {**base, "regionId": "elsewhere"}
    succeeded(await calls.request("n3", "POST", REGISTER, instances_body([elsewhere])))
    for node in NODES:
        found = instances_in(await calls.lookup(node, service)) or []
        regions = sorted(str(item["regionId"]) for item in found if item["instanceId"] == "i")
        assert len(regions) == 2, f"{node}: another region is another instance, found {regions}"
