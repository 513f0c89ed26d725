"""The blocking and the asyncio client keep the same promises: one suite, run against both, without network or delay."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import httpx
import pytest

from artemis.client import (
    ArtemisClient,
    AsyncArtemisClient,
    ClientClosed,
    ClusterUnavailable,
    Instance,
    InvalidInput,
    Refused,
    RetryPolicy,
    Unavailable,
)
from artemis.client.leases import BATCH_INSTANCES_MAX
from artemis.client.wire import REGISTER_PATH, UNREGISTER_PATH
from artemis.consensus.freshness import UNKNOWN_MS
from tests.support.client_drivers import AsyncDriver, Driver, SyncDriver
from tests.support.fake_cluster import NODES, FakeCluster, Trouble

ORDERS = Instance(
    service_id="orders",
    instance_id="orders-1",
    region_id="lab",
    zone_id="zone1",
    group_id="g1",
    machine_name="host-a",
    ip="10.0.0.7",
    port=8080,
    protocol="http",
    url="http://10.0.0.7:8080/",
    health_check_url="http://10.0.0.7:8080/health",
    status="up",
    metadata={"Weight": "5", "empty": None},
)
TTL_S = 20.0

NewDriver = Callable[..., Driver]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture(params=["sync", "async"])
def new_driver(request: pytest.FixtureRequest, cluster: FakeCluster) -> Iterator[NewDriver]:
    made: list[Driver] = []
    with asyncio.Runner() as runner:

        def make(**options: Any) -> Driver:
            driver: Driver = (
                SyncDriver(cluster, **options) if request.param == "sync" else AsyncDriver(cluster, runner, **options)
            )
            made.append(driver)
            return driver

        yield make
        for driver in made:
            driver.close()
            assert not driver.heartbeats_run()


@pytest.fixture
def driver(new_driver: NewDriver) -> Driver:
    return new_driver()


def request_ids(cluster: FakeCluster, path_end: str) -> list[str]:
    return [request.headers["x-artemis-request-id"] for request in cluster.sent(path_end)]


# --- register, look up, unregister


def test_an_instance_is_found_with_every_field_and_gone_after_unregister(driver: Driver) -> None:
    registration = driver.register(ORDERS)
    found = driver.lookup("orders")
    assert found.instances == (ORDERS,)
    assert (found.revision, found.consistency, found.age_ms) == (1, "linearizable", 0.0)
    assert found.node in ("n1", "n2", "n3")
    driver.unregister(registration)
    assert driver.lookup("orders").instances == ()
    assert registration.state == "closed"


def test_the_ttl_travels_with_the_registration(driver: Driver, cluster: FakeCluster) -> None:
    driver.register(ORDERS, ttl_ms=9000)
    driver.register(Instance(service_id="a", instance_id="a", url="u"))
    assert [body["instances"][0]["leaseTtlMs"] for body in cluster.bodies("register.json")] == [9000, 20_000]


def test_services_lists_all_with_their_provenance(driver: Driver) -> None:
    driver.register(ORDERS)
    driver.register(Instance(service_id="users", instance_id="u1", url="http://u1/"))
    listed = driver.services()
    assert [service.service_id for service in listed] == ["orders", "users"]
    assert len(listed) == 2
    assert listed.revision == 2


def test_members_are_the_serving_nodes(driver: Driver) -> None:
    assert [member.url for member in driver.members()] == list(NODES)


def test_region_and_zone_of_the_client_go_with_lookups(new_driver: NewDriver, cluster: FakeCluster) -> None:
    new_driver(region_id="lab", zone_id="zone1").lookup("orders")
    (body,) = cluster.bodies("lookup.json")
    assert body == {"discoveryConfigs": [{"serviceId": "orders"}], "regionId": "lab", "zoneId": "zone1"}


# --- failover


@pytest.mark.parametrize("trouble", ["refused", "lost-request", "unavailable", "http-503", "slow", "garbage"])
def test_a_node_in_trouble_is_left_for_another(driver: Driver, cluster: FakeCluster, trouble: Trouble) -> None:
    driver.lookup("orders")
    first = f"http://{cluster.requests[0].url.netloc.decode()}"
    cluster.down(trouble, first)
    driver.register(ORDERS)
    driver.lookup("orders")
    hosts = [f"http://{request.url.netloc.decode()}" for request in cluster.requests[1:]]
    assert hosts[0] == first
    assert first not in hosts[1:], "the failed node is avoided, also by the next call"
    assert hosts[1] == hosts[2], "the client stays with the node that works"


@pytest.mark.parametrize("trouble", ["lost-answer", "slow"])
def test_a_lost_answer_is_asked_again_under_the_same_id_and_applied_once(
    driver: Driver, cluster: FakeCluster, trouble: Trouble
) -> None:
    for node in NODES:
        cluster.plan(node, trouble)
    driver.register(ORDERS)
    ids = request_ids(cluster, "register.json")
    assert len(ids) == 4
    assert len(set(ids)) == 1
    assert cluster.applied == [("register", ("orders", "orders-1"))]


def test_each_write_has_its_own_request_id(driver: Driver, cluster: FakeCluster) -> None:
    registration = driver.register(ORDERS)
    driver.register(ORDERS)
    driver.unregister(registration)
    driver.close()
    ids = request_ids(cluster, "register.json") + request_ids(cluster, "unregister.json")
    assert len(set(ids)) == len(ids) == 3


def test_a_refused_connection_everywhere_is_a_definite_failure_within_the_budget(
    driver: Driver, cluster: FakeCluster
) -> None:
    cluster.down("refused")
    began = driver.time.now
    with pytest.raises(ClusterUnavailable, match="did not happen") as caught:
        driver.register(ORDERS)
    assert caught.value.definite
    assert driver.time.now - began <= 5.0
    assert {attempt.node for attempt in caught.value.attempts} == set(NODES)
    for node in NODES:
        assert node in caught.value.message


@pytest.mark.parametrize("trouble", ["lost-answer", "lost-request", "slow", "unavailable-unknown", "http-503"])
def test_one_unknown_attempt_makes_a_write_unknown(driver: Driver, cluster: FakeCluster, trouble: Trouble) -> None:
    cluster.down("refused")
    cluster.plan(NODES[1], trouble)
    with pytest.raises(Unavailable, match="may or may not happen") as caught:
        driver.register(ORDERS)
    assert not caught.value.definite


def test_a_read_that_fails_is_always_definite(driver: Driver, cluster: FakeCluster) -> None:
    cluster.down("lost-request")
    with pytest.raises(Unavailable) as caught:
        driver.lookup("orders")
    assert caught.value.definite


def test_retries_in_an_outage_stay_within_the_retry_budget(driver: Driver, cluster: FakeCluster) -> None:
    cluster.down("refused")
    began = driver.time.now
    for _ in range(200):
        with pytest.raises(Unavailable):
            driver.lookup("orders")
    retries = len(cluster.requests) - 200
    assert retries <= 20 + 0.2 * 200 + (driver.time.now - began) + 1


# --- refusals


def test_a_rule_the_instance_breaks_is_invalid_input_with_its_field(driver: Driver, cluster: FakeCluster) -> None:
    message = "lab/zone1/orders/g1/orders-1: Exception: instance.port is out of range"
    cluster.refusals["orders"] = {"errorCode": "internal-service-error", "errorMessage": message}
    with pytest.raises(InvalidInput) as caught:
        driver.register(ORDERS)
    assert (caught.value.field, caught.value.rule) == ("instance.port", "is out of range")
    assert caught.value.definite
    assert len(cluster.requests) == 1
    assert not driver.heartbeats_run()


def test_another_refusal_carries_code_and_message(driver: Driver, cluster: FakeCluster) -> None:
    cluster.refusals["orders"] = {"errorCode": "no-permission", "errorMessage": "regionId is not the same"}
    with pytest.raises(Refused, match="regionId is not the same") as caught:
        driver.register(ORDERS)
    assert caught.value.code == "no-permission"
    assert caught.value.definite


def test_a_refusal_after_an_unknown_attempt_is_not_definite(driver: Driver, cluster: FakeCluster) -> None:
    cluster.refusals["orders"] = {"errorCode": "no-permission", "errorMessage": "another region"}
    for node in NODES:
        cluster.plan(node, "lost-request")
    with pytest.raises(Refused) as caught:
        driver.register(ORDERS)
    assert not caught.value.definite


@pytest.mark.parametrize(
    ("instance", "ttl_ms", "field"),
    [
        (Instance(service_id=" ", instance_id="i", url="u"), None, "instance.service_id"),
        (Instance(service_id="s", instance_id="", url="u"), None, "instance.instance_id"),
        (Instance(service_id="s", instance_id="i"), None, "instance.url"),
        (ORDERS, 0, "ttl_ms"),
        (ORDERS, -1, "ttl_ms"),
        (ORDERS, True, "ttl_ms"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    driver: Driver, cluster: FakeCluster, instance: Instance, ttl_ms: int | None, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        driver.register(instance, ttl_ms)
    assert caught.value.field == field
    assert cluster.requests == []


def test_unknown_levels_and_misplaced_bounds_are_refused(driver: Driver, cluster: FakeCluster) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("consistency", {"consistency": "strong"}),
        ("max_stale_ms", {"max_stale_ms": 5}),
        *(("max_stale_ms", {"consistency": "stale", "max_stale_ms": value}) for value in (-1, "5", 0.5, True)),
    ]
    for field, options in wrong:
        with pytest.raises(InvalidInput) as caught:
            driver.lookup("orders", **options)
        assert caught.value.field == field
    for service_id in ("", " ", None, 5):
        with pytest.raises(InvalidInput, match="service_id: must be a text that is not blank"):
            driver.lookup(cast(str, service_id))
    with pytest.raises(InvalidInput):
        driver.lookup(" ")
    assert cluster.requests == []


def test_what_is_no_instance_and_no_policy_is_refused(new_driver: NewDriver, cluster: FakeCluster) -> None:
    with pytest.raises(InvalidInput, match="instance"):
        new_driver().register(cast(Instance, {"service_id": "orders"}))
    wrong: tuple[tuple[str, Any], ...] = (("policy", 5), ("region_id", 5), ("zone_id", b"z"))
    for option, value in wrong:
        with pytest.raises(InvalidInput, match=option):
            new_driver(**{option: value})
    assert cluster.requests == []


@pytest.mark.parametrize(
    "nodes", [[], "http://127.0.0.1:1", ["127.0.0.1:8081"], ["ftp://a"], ["http://a:x"], None, 5, [None]]
)
def test_bad_addresses_are_refused(nodes: Any) -> None:
    from artemis.client import ArtemisClient

    with pytest.raises(InvalidInput, match="nodes"):
        ArtemisClient(nodes)


# --- consistency


def test_levels_go_out_as_headers(driver: Driver, cluster: FakeCluster) -> None:
    driver.lookup("orders")
    driver.lookup("orders", consistency="stale", max_stale_ms=250)
    driver.services(consistency="session")
    sent = [
        [request.headers.get(f"x-artemis-{name}") for name in ("consistency", "max-stale-ms", "min-revision")]
        for request in cluster.requests
    ]
    assert sent == [["linearizable", None, None], ["stale", "250", None], ["session", None, "0"]]


def test_a_session_names_the_highest_revision_seen(driver: Driver, cluster: FakeCluster) -> None:
    driver.register(ORDERS)
    cluster.revision = 41
    driver.lookup("orders", consistency="stale")
    cluster.revision = 17
    driver.lookup("orders", consistency="stale")
    driver.lookup("orders", consistency="session")
    assert cluster.requests[-1].headers["x-artemis-min-revision"] == "41"


def test_a_linearizable_answer_from_a_rebuilt_registry_starts_a_new_session(
    driver: Driver, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.revision = 900
    driver.lookup("orders")
    cluster.revision = 2
    with caplog.at_level(logging.WARNING, "artemis.client"):
        driver.lookup("orders")
    assert "from revision 900 to 2" in caplog.text
    driver.lookup("orders", consistency="session")
    assert cluster.requests[-1].headers["x-artemis-min-revision"] == "2"


def test_an_earlier_server_says_nothing_about_its_answers(driver: Driver, cluster: FakeCluster) -> None:
    names = ("revision", "node", "consistency", "apply-lag-ms")
    cluster.extra_headers = {f"x-artemis-{name}": "" for name in names}
    found = driver.lookup("orders")
    assert (found.revision, found.age_ms) == (None, None)
    assert found.node in NODES


def test_an_age_that_nobody_vouches_for_is_unknown(driver: Driver, cluster: FakeCluster) -> None:
    cluster.extra_headers = {"x-artemis-apply-lag-ms": str(UNKNOWN_MS)}
    assert driver.lookup("orders").age_ms is None


# --- heartbeats


def test_heartbeats_keep_a_lease_and_begin_within_a_third_of_the_ttl(driver: Driver, cluster: FakeCluster) -> None:
    beats: list[float] = [driver.time.now]
    registration = driver.register(ORDERS)
    cluster.on_request = lambda request: beats.append(driver.time.now)
    driver.until(lambda: len(beats) > 6)
    gaps = [after - before for before, after in pairwise(beats)]
    assert max(gaps) <= TTL_S / 3 + 0.1
    assert min(gaps) >= TTL_S / 3 * 0.8 - 0.1
    driver.until(lambda: registration.last_renewed == beats[-1])
    assert registration.state == "active"
    assert all("x-artemis-request-id" not in request.headers for request in cluster.sent("heartbeat.json"))


def test_all_registrations_travel_in_one_heartbeat(driver: Driver, cluster: FakeCluster) -> None:
    for number in range(5):
        driver.register(Instance(service_id="orders", instance_id=f"orders-{number}", url="http://x/"))
        driver.time.advance(0.3)
    driver.until(lambda: len(cluster.sent("heartbeat.json")) >= 3)
    assert [len(body["instances"]) for body in cluster.bodies("heartbeat.json")] == [5, 5, 5]


def test_a_forgotten_instance_is_registered_again_at_once(driver: Driver, cluster: FakeCluster) -> None:
    told: list[str] = []
    registration = driver.register(
        ORDERS,
        on_lease_lost=lambda lost: told.append(f"lost {lost.state} {lost.last_error}"),
        on_reregistered=lambda back: told.append(f"back {back.state}"),
    )
    driver.register(Instance(service_id="users", instance_id="u1", url="http://u1/"))
    cluster.wipe()
    driver.until(lambda: len(told) == 2)
    assert told[0].startswith("lost lost lab/orders/orders-1: Instance is not exising!")
    assert told[1] == "back active"
    assert set(cluster.instances) == {("orders", "orders-1"), ("users", "u1")}
    assert [len(body["instances"]) for body in cluster.bodies("register.json")] == [1, 1, 2]
    ids = request_ids(cluster, "register.json")
    assert len(set(ids)) == 3, "a new registration is a new operation"
    assert registration.state == "active"
    assert cluster.bodies("register.json")[-1]["instances"][0]["leaseTtlMs"] == 20_000


def test_an_outage_longer_than_the_ttl_is_told_and_recovered_from(driver: Driver, cluster: FakeCluster) -> None:
    told: list[str] = []
    registration = driver.register(
        ORDERS, on_lease_lost=lambda lost: told.append("lost"), on_reregistered=lambda back: told.append("back")
    )
    began = driver.time.now
    cluster.down("refused")
    driver.until(lambda: told == ["lost"])
    assert TTL_S <= driver.time.now - began <= TTL_S * 1.2
    states = [registration.state]
    driver.until(lambda: driver.time.now - began > 5 * TTL_S)
    assert told == ["lost"]
    assert "Connection refused" in str(registration.last_error)
    cluster.up()
    driver.until(lambda: told == ["lost", "back"])
    states.append(registration.state)
    assert states == ["lost", "active"]
    assert registration.last_error is None


def test_an_outage_shorter_than_the_ttl_is_not_even_told(driver: Driver, cluster: FakeCluster) -> None:
    told: list[str] = []
    registration = driver.register(ORDERS, on_lease_lost=lambda lost: told.append("lost"))
    began = driver.time.now
    cluster.down("unavailable")
    driver.until(lambda: driver.time.now - began > TTL_S * 0.6)
    cluster.up()
    driver.until(lambda: registration.last_renewed > began + 1)
    assert registration.last_renewed - began < TTL_S * 0.85
    assert told == []


def test_a_lost_heartbeat_answer_costs_one_failover(driver: Driver, cluster: FakeCluster) -> None:
    registration = driver.register(ORDERS)
    before = registration.last_renewed
    for node in NODES:
        cluster.plan(node, "lost-answer")
    driver.until(lambda: registration.last_renewed > before)
    assert registration.last_renewed - before <= TTL_S / 2


def test_a_callback_that_raises_is_logged_and_heartbeats_go_on(
    driver: Driver, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(registration: object) -> None:
        raise ZeroDivisionError("the owner's fault")

    driver.register(ORDERS, on_lease_lost=faulty, on_reregistered=faulty)
    cluster.wipe()
    driver.until(lambda: ("orders", "orders-1") in cluster.instances)
    beats = len(cluster.sent("heartbeat.json"))
    driver.until(lambda: len(cluster.sent("heartbeat.json")) > beats + 1)
    assert caplog.text.count("ZeroDivisionError: the owner's fault") == 2


def test_a_transport_that_raises_anything_does_not_end_the_heartbeats(
    driver: Driver, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    registration = driver.register(ORDERS)
    before = registration.last_renewed
    for node in NODES:
        cluster.plan(node, "raises")
    driver.until(lambda: registration.last_renewed > before)
    assert "a transport with a bug" in caplog.text
    assert registration.state == "active"


def test_a_registration_refused_on_the_way_back_is_tried_again(driver: Driver, cluster: FakeCluster) -> None:
    registration = driver.register(ORDERS)
    cluster.refusals["orders"] = {"errorCode": "no-permission", "errorMessage": "not now"}
    cluster.wipe()
    driver.until(lambda: registration.last_error == "no-permission: not now")
    assert registration.state == "lost"
    cluster.refusals.clear()
    driver.until(lambda: registration.state == "active")
    assert ("orders", "orders-1") in cluster.instances


def test_a_second_registration_of_a_key_takes_over_from_the_first(driver: Driver, cluster: FakeCluster) -> None:
    first = driver.register(ORDERS)
    second = driver.register(ORDERS, ttl_ms=30_000)
    driver.unregister(first)
    assert (first.state, second.state) == ("closed", "active")
    assert ("orders", "orders-1") in cluster.instances
    assert cluster.sent("unregister.json") == []


# --- the end


def test_close_unregisters_everything_in_one_request_and_ends_the_loop(driver: Driver, cluster: FakeCluster) -> None:
    for number in range(3):
        driver.register(Instance(service_id="orders", instance_id=f"orders-{number}", url="http://x/"))
    assert driver.heartbeats_run()
    driver.close()
    driver.close()
    assert cluster.instances == {}
    assert len(cluster.sent("unregister.json")) == 1
    assert not driver.heartbeats_run()


def test_close_unregisters_in_requests_that_nodes_take(
    driver: Driver, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(BATCH_INSTANCES_MAX + 3):
        driver.register(Instance(service_id="orders", instance_id=f"orders-{number}", url="http://x/"))
    answer = cluster._answer

    def bounded(request: httpx.Request, node: str) -> httpx.Response:
        if request.url.path == UNREGISTER_PATH and len(json.loads(request.content)["instances"]) > 300:
            return httpx.Response(413, json={"message": "instances: at most 300 are allowed in one request"})
        return answer(request, node)

    monkeypatch.setattr(cluster, "_answer", bounded)
    driver.close()
    assert cluster.instances == {}
    assert [len(body["instances"]) for body in cluster.bodies("unregister.json")] == [500, 250, 250, 3]


def test_what_is_being_registered_when_the_client_closes_is_taken_out_by_threads_too(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry orders it after the unregistration, so nobody's instance would be listed for a TTL."""
    monkeypatch.setattr("artemis.client.sync.CLOSE_STEP_S", 10.0)
    reached, closing = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == REGISTER_PATH:
            reached.set()
            assert closing.wait(10.0)
        return cluster.handle(request)

    client = ArtemisClient(NODES, transport=httpx.MockTransport(handle))
    outcome: list[object] = []

    def register() -> None:
        try:
            outcome.append(client.register(ORDERS))
        except ClientClosed as exc:
            outcome.append(exc.definite)

    thread = threading.Thread(target=register)
    thread.start()
    assert reached.wait(10.0)
    client._stopping.set = closing.set  # type: ignore[method-assign]
    client.close()
    thread.join(10.0)
    assert (outcome, cluster.instances) == ([False], {})


def test_what_is_being_registered_when_the_client_closes_is_taken_out_by_tasks_too(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artemis.client.aio.CLOSE_STEP_S", 10.0)

    async def run() -> None:
        reached, closing = asyncio.Event(), asyncio.Event()

        async def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == REGISTER_PATH:
                reached.set()
                await closing.wait()
            return cluster.handle(request)

        client = AsyncArtemisClient(NODES, transport=httpx.MockTransport(handle))
        registering = asyncio.create_task(client.register(ORDERS))
        await reached.wait()
        ending = asyncio.create_task(client.close())
        await client._stopping.wait()
        closing.set()
        await ending
        with pytest.raises(ClientClosed) as caught:
            await registering
        assert not caught.value.definite

    asyncio.run(asyncio.wait_for(run(), 10.0))
    assert cluster.instances == {}


def test_close_in_an_outage_ends_soon_and_says_what_it_left(
    driver: Driver, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    driver.register(ORDERS)
    cluster.down("refused")
    began = driver.time.now
    driver.close()
    assert driver.time.now - began <= 2.0
    assert "without unregistering 1 instances" in caplog.text


def test_a_closed_client_refuses_definitely(driver: Driver, cluster: FakeCluster) -> None:
    registration = driver.register(ORDERS)
    driver.close()
    sent = len(cluster.requests)
    for call in (lambda: driver.register(ORDERS), lambda: driver.lookup("orders"), driver.services, driver.members):
        with pytest.raises(ClientClosed) as caught:
            call()
        assert caught.value.definite
    driver.unregister(registration)
    assert len(cluster.requests) == sent


def test_unregister_during_an_outage_raises_and_still_ends_the_heartbeats(
    new_driver: NewDriver, cluster: FakeCluster
) -> None:
    driver = new_driver(policy=RetryPolicy(budget_s=1.0, attempts_max=3))
    registration = driver.register(ORDERS)
    cluster.down("refused")
    with pytest.raises(Unavailable):
        driver.unregister(registration)
    cluster.up()
    began = driver.time.now
    driver.until(lambda: driver.time.now > began + 2 * TTL_S)
    assert cluster.sent("heartbeat.json") == []
    assert registration.state == "closed"


def test_unregistering_from_a_callback_does_not_leave_a_ghost(driver: Driver, cluster: FakeCluster) -> None:
    """The owner gives up while the client is about to register again: nobody would renew or end that instance."""
    if isinstance(driver, AsyncDriver):
        tasks: list[asyncio.Task[None]] = []

        def give_up(registration: Any) -> None:
            tasks.append(asyncio.ensure_future(registration.unregister()))
    else:

        def give_up(registration: Any) -> None:
            registration.unregister()

    registration = driver.register(ORDERS, on_reregistered=give_up)
    cluster.wipe()
    driver.until(lambda: registration.state == "closed" and not cluster.instances)
    began = driver.time.now
    driver.until(lambda: driver.time.now > began + 2 * TTL_S)
    assert cluster.instances == {}
