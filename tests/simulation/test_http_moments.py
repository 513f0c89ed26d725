"""Single moments of the HTTP side, one after the other: what a retry, a dead client or a lost leader must not break."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from artemis.api.slow_requests import RECEIVE_SECONDS
from artemis.commands import Unregister
from tests.simulation.clients import FOREVER_MS, elements_of, key, register
from tests.simulation.http import Connection
from tests.simulation.http_calls import OUTCOME, WELL, Exchange, Reply, Request, Trouble, get, write_outcome
from tests.simulation.http_clients import body_of, seen_in
from tests.simulation.http_scenario import HttpRun
from tests.simulation.settings import Settings

REQUEST_ID = {"x-artemis-request-id": "r-1"}
PATIENCE = 10.0
X = frozenset(("x",))


class Script:
    """A cluster without clients of its own; each step runs the world until something is so."""

    def __init__(self) -> None:
        self.run = HttpRun("script", Settings(clients=0, lease_owners=0))
        self.cluster, self.world = self.run.cluster, self.run.world
        self.run.start()
        self.until(lambda: self.cluster.settled())
        leader = self.cluster.leader()
        assert leader is not None
        self.leader = leader
        self.followers = [name for name in self.cluster.members if name != leader]
        self._rng = self.world.stream("script")

    def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        assert self.world.run_until_true(condition, within, step=0.001)

    def send(self, node: str, request: Request, trouble: Trouble = WELL, kept: Connection | None = None) -> Exchange:
        """Does not wait for its end."""
        frontends, done = self.run.frontends, lambda exchange: None
        return Exchange(
            frontends, node, request, patience=PATIENCE, done=done, rng=self._rng, trouble=trouble, kept=kept
        )

    def ask(self, node: str, request: Request, trouble: Trouble = WELL, kept: Connection | None = None) -> Exchange:
        exchange = self.send(node, request, trouble, kept)
        self.until(lambda: exchange.done_at <= self.world.now, within=2 * PATIENCE)
        return exchange

    def reply(self, node: str, request: Request) -> Reply:
        exchange = self.ask(node, request)
        assert exchange.reply is not None
        return exchange.reply

    def seen(self, node: str, level: str = "linearizable") -> frozenset[str] | None:
        return seen_in(self.reply(node, look_up({"x-artemis-consistency": level})), "alpha")

    def isolate(self, name: str) -> None:
        for other in self.cluster.members:
            if other != name:
                self.cluster.network.cut(name, other)
                self.cluster.network.cut(other, name)


def registration(*elements: str, named: bool = True, snake: bool = False) -> Request:
    command = register("alpha", elements, FOREVER_MS)
    headers = REQUEST_ID if named else {}
    return Request(method="POST", path="/api/registry/register", headers=headers, body=body_of(command, snake=snake))


def removal(element: str) -> Request:
    command = Unregister((key("alpha", element),))
    return Request(method="POST", path="/api/registry/unregister", body=body_of(command, snake=True))


def look_up(headers: dict[str, str]) -> Request:
    return Request(method="GET", path="/artemis/api/discovery/service?serviceId=alpha", headers=headers)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.run.frontends.close()


def applied(script: Script, element: str) -> Callable[[], bool]:
    """Some node has it."""
    return lambda: any(element in elements_of(engine.registry, "alpha") for engine in script.cluster.engines())


# -- retries ---------------------------------------------------------------------------------------------------------


def test_a_late_retry_of_a_lost_answer_does_not_bring_back_what_was_unregistered(script: Script) -> None:
    one, other = script.followers
    lost = script.ask(one, registration("x"), Trouble(answer_bytes=0))
    assert (lost.reply, write_outcome(lost)) == (None, "info")
    assert script.seen(other) == X
    removed = script.reply(other, removal("x"))
    assert removed.code == "success"
    retried = script.reply(script.leader, registration("x", snake=True))
    assert retried.code == "success"
    assert retried.revision < removed.revision
    assert [script.seen(name) for name in script.cluster.members] == [frozenset()] * 3


def test_an_answer_cut_in_its_middle_is_no_answer_and_its_retry_gets_the_whole(script: Script) -> None:
    node = script.followers[0]
    cut = script.ask(node, registration("x"), Trouble(answer_bytes=150))
    assert (cut.failure, write_outcome(cut)) == ("reset", "info")
    first, second = (script.reply(name, registration("x")) for name in (node, script.leader))
    assert first.code == second.code == "success"
    assert first.revision == second.revision == script.run.frontends.servers[node].node.registry.revision


def test_a_node_killed_before_it_answers_has_not_lost_what_it_ordered(script: Script) -> None:
    node, other = script.followers
    exchange = script.send(node, registration("x"))
    script.until(applied(script, "x"))
    script.cluster.kill(node)
    script.until(lambda: exchange.failure == "reset")
    assert write_outcome(exchange) == "info"
    retried = script.reply(other, registration("x"))
    script.cluster.start(node)
    script.until(script.cluster.settled)
    assert script.reply(node, registration("x")).revision == retried.revision
    assert script.seen(node) == X


def test_a_copy_that_waited_in_a_paused_node_changes_nothing_afterwards(script: Script) -> None:
    node, other = script.followers
    script.cluster.pause(node)
    waiting = script.send(node, registration("x"), Trouble(gone_after=1.0))
    script.until(lambda: waiting.failure == "cut")
    assert script.reply(other, registration("x")).code == "success"
    assert script.reply(other, removal("x")).code == "success"
    script.cluster.resume(node)
    script.until(lambda: script.run.http.handled == 3)
    assert [script.seen(name) for name in script.cluster.members] == [frozenset()] * 3


# -- clients that go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_cut_in_its_body_does_nothing_and_its_handler_ends(script: Script, chunked: bool) -> None:
    body = body_of(register("alpha", ("x", "y"), FOREVER_MS), snake=True)
    request = Request(method="POST", path="/api/registry/register", body=body, chunked=chunked)
    size = len(request.encoded())
    for cut in (1, size // 2, size - len(b"}"), size - 1):
        assert write_outcome(script.ask(script.leader, request, Trouble(request_bytes=cut))) == "fail"
    script.until(lambda: not script.run.frontends.servers[script.leader].open)
    script.world.run_for(1.0)
    assert script.seen(script.leader) == frozenset()


def test_a_client_that_goes_after_its_request_has_still_written(script: Script) -> None:
    gone = script.ask(script.followers[0], registration("x"), Trouble(gone_after=0.0))
    assert write_outcome(gone) == "info"
    script.until(applied(script, "x"))
    script.until(lambda: not script.run.frontends.servers[script.followers[0]].open)


def test_a_client_that_vanishes_in_the_middle_of_a_request_does_not_keep_its_connection(script: Script) -> None:
    server = script.run.frontends.servers[script.leader]
    request = registration("x")
    head = request.encoded().index(b"\r\n\r\n")
    for cut in (10, head + 2, head + 20):
        script.ask(script.leader, request, Trouble(request_bytes=cut, silently=True))
    Connection(script.run.frontends, script.leader, script.world.stream("silent"), opened=lambda listening: None)
    script.world.run_for(1.0)
    assert (len(server.connections), len(server.open)) == (4, 1)
    script.world.run_for(RECEIVE_SECONDS - 2.0)
    assert len(server.connections) == 4
    script.until(lambda: not server.connections and not server.open, within=2 * RECEIVE_SECONDS)
    assert script.seen(script.leader) == frozenset()


def test_a_connection_that_is_used_again_and_again_stays_open(script: Script) -> None:
    exchange = script.ask(script.leader, look_up({}))
    first = exchange.connection
    for _ in range(30):
        script.world.run_for(3.0)
        exchange = script.ask(script.leader, look_up({}), kept=exchange.connection)
    assert exchange.connection is first
    assert first.alive


# -- nodes without a leader ------------------------------------------------------------------------------------------


def test_a_leader_cut_off_answers_within_two_seconds_that_it_does_not_know(script: Script) -> None:
    script.isolate(script.leader)
    exchange = script.ask(script.leader, registration("x", named=False))
    assert exchange.reply is not None
    assert exchange.reply.code == "service-unavailable"
    assert exchange.reply.headers[OUTCOME] == "unknown"
    assert exchange.done_at - exchange.called_at < 2.0


def test_a_node_that_lost_its_leader_refuses_for_certain_within_two_seconds(script: Script) -> None:
    node = script.followers[0]
    script.isolate(node)
    server = script.run.frontends.servers[node]
    script.until(lambda: not server.node.status().known_leader)
    for request in (registration("x"), removal("x"), look_up({})):
        exchange = script.ask(node, request)
        reply = exchange.reply
        assert reply is not None
        assert reply.code == "service-unavailable"
        assert reply.headers["x-artemis-known-leader"] == "false"
        assert reply.headers.get(OUTCOME) == ("not-applied" if request.method == "POST" else None)
        assert exchange.done_at - exchange.called_at < 2.0
    script.cluster.network.heal_all()
    script.until(script.cluster.settled)
    assert script.seen(node) == frozenset()


def test_a_node_cut_off_tells_the_age_of_what_it_still_has(script: Script) -> None:
    node, other = script.followers
    assert script.reply(other, registration("x")).code == "success"
    script.until(script.cluster.settled)
    script.isolate(node)
    script.world.run_for(3.0)
    stale = script.reply(node, look_up({"x-artemis-consistency": "stale"}))
    assert seen_in(stale, "alpha") == X
    assert 2800 <= stale.apply_lag_ms <= 3300
    fresh = script.reply(node, look_up({"x-artemis-consistency": "stale", "x-artemis-max-stale-ms": "2000"}))
    assert fresh.code == "service-unavailable"
    ahead = {"x-artemis-consistency": "session", "x-artemis-min-revision": str(stale.revision + 1)}
    assert script.reply(node, look_up(ahead)).code == "service-unavailable"


def test_a_paused_node_does_not_take_its_state_for_fresh_when_it_goes_on(script: Script) -> None:
    node, other = script.followers
    script.cluster.pause(node)
    assert script.reply(other, registration("x")).code == "success"
    script.world.run_for(3.0)
    waiting = [script.send(node, look_up({"x-artemis-consistency": level})) for level in ("linearizable", "stale")]
    script.world.run_for(0.1)
    script.cluster.resume(node)
    script.until(lambda: all(exchange.reply is not None for exchange in waiting))
    linearizable, stale = (exchange.reply for exchange in waiting)
    assert linearizable is not None
    assert stale is not None
    assert seen_in(linearizable, "alpha") == X
    assert seen_in(stale, "alpha") == X or stale.apply_lag_ms >= 3000


# -- too many clients ------------------------------------------------------------------------------------------------


def test_a_node_with_too_many_connections_says_that_nothing_happened(script: Script) -> None:
    node = script.followers[0]
    script.cluster.kill(node)
    script.run.frontends.connections_max = 2
    script.cluster.start(node)
    script.until(script.cluster.settled)
    script.ask(node, look_up({}))
    refused = script.ask(node, registration("x"))
    assert refused.reply is not None
    assert (refused.reply.status, refused.reply.headers[OUTCOME]) == (503, "not-applied")
    script.until(lambda: not refused.connection.alive)
    assert script.seen(script.leader) == frozenset()


# -- what clients learn of the cluster -------------------------------------------------------------------------------


def test_every_node_announces_its_address_and_names_the_others(script: Script) -> None:
    request = Request(method="GET", path="/api/cluster/up-registry-nodes")

    def known() -> bool:
        reply = script.reply(script.followers[0], request)
        return len(get(reply.body or {}, "nodes") or ()) == 3

    script.until(known)


def test_a_connection_left_open_is_closed_by_the_node(script: Script) -> None:
    exchange = script.ask(script.leader, look_up({}))
    assert exchange.reusable
    began = script.world.now
    script.until(lambda: not exchange.connection.alive)
    assert 4.9 < script.world.now - began < 5.2
