"""Watches of real nodes that are killed and stopped: the Python client's, and sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from artemis.client import ArtemisClient, Instance, WatchChanges, WatchEvent, WatchInterrupted, WatchState
from jepsen_lite.cluster import HOST, Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DEADLINE_S = 30.0
STOPPED_S = 4.0
"""Less than ``shutdown_timeout_s``, which a node that waits for its long polls would use up."""


def one(service: str, number: int) -> Instance:
    return Instance(service_id=service, instance_id=f"i{number}", url="http://10.0.0.7:8080/")


def client_of(cluster: Cluster) -> ArtemisClient:
    return ArtemisClient([address.url for address in cluster.addresses.values()])


class Follower:
    """Reads a watch in a thread and keeps what it was told."""

    def __init__(self, events: Iterator[WatchEvent]) -> None:
        self.told: list[tuple[int, str]] = []
        self.interrupted = 0
        self.resets = 0
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._follow, args=(events,), daemon=True)
        self._thread.start()

    def _follow(self, events: Iterator[WatchEvent]) -> None:
        for event in events:
            with self._moved:
                if isinstance(event, WatchChanges):
                    self.told += [(change.revision, change.instance.instance_id) for change in event.changes]
                self.resets += isinstance(event, WatchState)
                self.interrupted += isinstance(event, WatchInterrupted)
                self._moved.notify_all()

    def until_told(self, count: int) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: len(self.told) >= count, DEADLINE_S), f"told {self.told}"

    def until_begun(self) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: self.resets == 1, DEADLINE_S)

    def join(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def test_a_clients_watch_goes_on_when_leaders_are_killed(cluster: Cluster, service: str) -> None:
    with client_of(cluster) as writer:
        watcher = client_of(cluster)
        follower = Follower(watcher.watch(service, wait_s=1.0))
        follower.until_begun()
        for number in range(6):
            if number % 2 == 0:
                cluster.heal()
                cluster.kill(cluster.leader())
            writer.register(one(service, number))
        follower.until_told(6)
        watcher.close()
        follower.join()
    revisions = [revision for revision, _ in follower.told]
    assert revisions == sorted(set(revisions))
    assert [instance_id for _, instance_id in follower.told] == [f"i{number}" for number in range(6)]
    assert follower.resets == 1


def test_a_node_that_stops_sends_its_watchers_away_at_once(cluster: Cluster, service: str) -> None:
    node = cluster.followers()[0]
    address = cluster.addresses[node]
    with ArtemisClient([address.url]) as client, connect(f"ws://{HOST}:{address.http_port}/api/watch") as socket:
        socket.send(orjson.dumps({"type": "subscribe", "since": "now", "services": [service]}).decode())
        assert orjson.loads(socket.recv(DEADLINE_S))["type"] == "subscribed"
        follower = Follower(client.watch(service, wait_s=20.0))
        follower.until_begun()
        process = cluster.nodes[node]
        process.terminate(STOPPED_S)
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(DEADLINE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
    follower.join()
