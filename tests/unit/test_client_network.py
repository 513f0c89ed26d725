"""What needs a socket, a second thread inside a request, or a fork: the rest of the shells."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
import pytest

from artemis.client import (
    ArtemisClient,
    AsyncArtemisClient,
    ClientClosed,
    ClusterUnavailable,
    Instance,
    RetryPolicy,
)
from artemis.client.aio import wait_for_event
from tests.support.fake_cluster import NODES, FakeCluster

ORDERS = Instance(service_id="orders", instance_id="orders-1", url="http://10.0.0.7:8080/")
BRIEF = RetryPolicy(budget_s=0.5, attempts_max=2, connect_timeout_s=0.05, read_timeout_s=0.1, backoff_base_s=0.01)
DEADLINE_S = 10.0

Manner = Literal["refuses", "hangs up", "hangs", "trickles"]


@contextmanager
def node_that(manner: Manner) -> Iterator[str]:
    """The address of something that listens (or not) on loopback and behaves badly."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if manner == "refuses":
            server.close()
            yield address
            return
        thread = threading.Thread(target=_misbehave, args=(server, manner, stop))
        thread.start()
        try:
            yield address
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)


def _misbehave(server: socket.socket, manner: Manner, stop: threading.Event) -> None:
    connections = []
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except OSError:
            break
        connections.append(connection)
        connection.settimeout(DEADLINE_S)
        connection.recv(65536)
        if manner == "hangs up":
            connection.close()
        elif manner == "trickles":
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                while not stop.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                continue
    for connection in connections:
        connection.close()


def register_blocking(address: str) -> None:
    with ArtemisClient([address], policy=BRIEF) as client:
        client.register(ORDERS)


def register_awaiting(address: str) -> None:
    async def run() -> None:
        async with AsyncArtemisClient([address], policy=BRIEF) as client:
            await client.register(ORDERS)

    asyncio.run(run())


@pytest.mark.parametrize("register", [register_blocking, register_awaiting])
@pytest.mark.parametrize(
    ("manner", "definite"), [("refuses", True), ("hangs up", False), ("hangs", False), ("trickles", False)]
)
def test_a_bad_node_is_given_up_within_the_budget_and_named(
    register: Callable[[str], None], manner: Manner, definite: bool
) -> None:
    with node_that(manner) as address:
        began = time.monotonic()
        with pytest.raises(ClusterUnavailable) as caught:
            register(address)
        took_s = time.monotonic() - began
    assert caught.value.definite is definite
    assert [attempt.node for attempt in caught.value.attempts] == [address, address]
    assert took_s < 5.0, "the trickle alone would last for half an hour"


def test_waiting_ends_with_the_event_or_the_time() -> None:
    async def run() -> None:
        event = asyncio.Event()
        await wait_for_event(event, 0.001)
        event.set()
        await wait_for_event(event, None)

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


def test_a_forked_child_gets_a_working_client_and_leaves_the_leases_to_its_parent() -> None:
    cluster = FakeCluster()
    client = ArtemisClient(NODES, transport=httpx.MockTransport(cluster.handle))
    registration = client.register(ORDERS)
    # The worst moment: another thread holds the lock, and that thread will not exist in the child.
    with client._lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
        if pid == 0:
            os._exit(_exit_code_of(lambda: _use_in_child(client, registration, cluster)))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ("orders", "orders-1") in cluster.instances
    client.close()
    assert cluster.instances == {}


def _use_in_child(client: ArtemisClient, registration: Any, cluster: FakeCluster) -> None:
    assert client.lookup("orders").instances == (ORDERS,)
    client.register(Instance(service_id="child", instance_id="c", url="u"))
    registration.unregister()
    client.close()
    assert set(cluster.instances) == {("orders", "orders-1")}, "only its own registration ended with the child"


def _exit_code_of(function: Callable[[], None]) -> int:
    watchdog = threading.Timer(DEADLINE_S, os._exit, (3,))
    watchdog.daemon = True
    watchdog.start()
    try:
        function()
    except BaseException:  # noqa: BLE001 - nothing may leave a forked child but its exit code
        return 1
    return 0


def test_an_asyncio_client_is_refused_in_a_child() -> None:
    async def run() -> None:
        async with AsyncArtemisClient(NODES, transport=httpx.MockTransport(FakeCluster().handle_async)) as client:
            client._pid -= 1
            with pytest.raises(ClientClosed, match="parent process"):
                await client.lookup("orders")
            client._pid += 1

    asyncio.run(run())


def test_many_threads_share_a_client() -> None:
    cluster = FakeCluster()
    errors: list[BaseException] = []

    def use(client: ArtemisClient, number: int) -> None:
        try:
            instance = Instance(service_id="orders", instance_id=f"orders-{number}", url="u")
            registration = client.register(instance)
            assert instance in client.lookup("orders", consistency="session").instances
            if number % 2:
                registration.unregister()
        except BaseException as exc:  # noqa: BLE001 - reported by the test's own thread
            errors.append(exc)

    with ArtemisClient(NODES, transport=httpx.MockTransport(cluster.handle)) as client:
        threads = [threading.Thread(target=use, args=(client, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert errors == []
        assert len(cluster.instances) == 8
    assert cluster.instances == {}


def test_close_does_not_wait_for_a_heartbeat_that_hangs_and_the_thread_still_ends() -> None:
    cluster = FakeCluster()
    hangs, release = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("heartbeat.json"):
            hangs.set()
            release.wait(DEADLINE_S)
        return cluster.handle(request)

    client = ArtemisClient(NODES, transport=httpx.MockTransport(handle))
    client.register(ORDERS, ttl_ms=30)
    assert hangs.wait(DEADLINE_S)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < DEADLINE_S / 2
    assert cluster.instances == {}
    thread = client._thread
    assert thread is not None
    assert not client._http.is_closed
    release.set()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert client._http.is_closed


def test_a_client_closed_during_a_registration_says_that_it_may_have_happened() -> None:
    cluster = FakeCluster()
    inside, closed = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        inside.set()
        assert closed.wait(DEADLINE_S)
        return cluster.handle(request)

    client = ArtemisClient(NODES, transport=httpx.MockTransport(handle))
    caught: list[ClientClosed] = []

    def register() -> None:
        try:
            client.register(ORDERS)
        except ClientClosed as exc:
            caught.append(exc)

    thread = threading.Thread(target=register)
    thread.start()
    assert inside.wait(DEADLINE_S)
    client.close()
    closed.set()
    thread.join(DEADLINE_S)
    assert [exc.definite for exc in caught] == [False]
    assert client._thread is None, "nobody would end its heartbeats"


def test_an_asyncio_client_closes_although_a_heartbeat_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artemis.client.aio.CLOSE_STEP_S", 0.05)
    cluster = FakeCluster()

    async def run() -> None:
        hangs = asyncio.Event()

        async def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("heartbeat.json"):
                hangs.set()
                await asyncio.Event().wait()
            return cluster.handle(request)

        async with AsyncArtemisClient(NODES, transport=httpx.MockTransport(handle)) as client:
            await client.register(ORDERS, ttl_ms=30)
            await hangs.wait()
            task = client._task
        assert task is not None
        assert task.done()

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
    assert cluster.instances == {}
