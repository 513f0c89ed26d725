"""What members tell of each other on real nodes: ``java-http.md`` 8.1 and 8.2."""

from __future__ import annotations

import gzip

import orjson
import pytest

from tests.cluster.calls import Calls, eventually, succeeded

pytestmark = [pytest.mark.cluster, pytest.mark.anyio]

NODES = "/artemis/api/cluster/up-discovery-nodes.json"
CLUSTER = "/artemis/api/status/cluster.json"
LEASES = "/artemis/api/status/leases.json"


async def listed(calls: Calls, node: str) -> set[str]:
    """The members that a client of ``node`` is sent to."""
    nodes = orjson.loads((await calls.request(node, "GET", NODES)).body)["nodes"]
    by_url = {address.url: name for name, address in calls.cluster.addresses.items()}
    return {by_url[one["url"]] for one in nodes or ()}


async def states(calls: Calls, node: str) -> dict[str, str]:
    answer = orjson.loads((await calls.request(node, "POST", CLUSTER, b"{}")).body)
    by_url = {address.url: name for name, address in calls.cluster.addresses.items()}
    return {by_url[one["node"]["url"]]: one["status"] for one in answer["nodesStatus"]}


async def test_a_stopped_member_is_named_to_nobody_until_it_goes_on(calls: Calls) -> None:
    """Its connections stay open: only that it says nothing tells."""
    everyone = set(calls.cluster.ids)
    stopped = calls.cluster.followers()[0]
    others = everyone - {stopped}

    async def all_have_heard_each_other() -> None:
        for node, process in calls.cluster.nodes.items():
            log = process.log_path.read_text()
            assert all(f"{other} says of itself that it is up" in log for other in everyone - {node})

    async def all_are_listed() -> None:
        for node in calls.cluster.ids:
            assert await listed(calls, node) == everyone
            assert set((await states(calls, node)).values()) == {"up"}

    async def it_is_left_out() -> None:
        for node in others:
            assert await listed(calls, node) == others
            assert (await states(calls, node))[stopped] == "unknown"

    # A member that never answered counts by its link, which stays up.
    await eventually(all_have_heard_each_other, "every node was answered by all others")
    await eventually(all_are_listed, "every node lists all members")
    calls.cluster.pause(stopped)
    await eventually(it_is_left_out, f"the others leave {stopped} out")
    calls.cluster.resume(stopped)
    await eventually(all_are_listed, f"{stopped} is listed again")


async def test_every_node_tells_the_same_times_of_a_lease(calls: Calls, service: str) -> None:
    first, *_ = calls.cluster.ids
    succeeded(await calls.register(first, service, ["i1"]))
    revision = succeeded(await calls.heartbeat(first, service, ["i1"])).headers["x-artemis-revision"]
    seen: set[tuple[str, int]] = set()
    for node in calls.cluster.ids:
        # Status is a node's own view: first let it apply what the first one acknowledged.
        await calls.lookup(node, service, "session", min_revision=int(revision))
        body = orjson.dumps({"serviceIds": [service]})
        answer = orjson.loads((await calls.request(node, "POST", LEASES, body)).body)
        (lease,) = answer["leases"][service]
        assert answer["leaseCount"] == 1
        assert lease["creationTime"] <= lease["renewalTime"]
        seen.add((lease["instance"], lease["ttl"]))
    assert len(seen) == 1


async def test_the_server_sends_what_the_application_made_of_status_and_encoding(calls: Calls, service: str) -> None:
    """A node writes heads itself; the contract tests see them as lists."""
    first, *_ = calls.cluster.ids
    succeeded(await calls.register(first, service, [f"i{number}" for number in range(20)]))
    path = f"/artemis/api/discovery/service.json?serviceId={service}"
    plain = await calls.request(first, "GET", path)
    packed = await calls.request(first, "GET", path, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in plain.headers
    answers = [await calls.request(first, "GET", "/api/status/legacy-leases.json") for _ in range(31)]
    assert answers[0].status == 200
    assert answers[-1].status == 429
    assert orjson.loads(answers[-1].body)["responseStatus"]["errorCode"] == "rate-limited"
