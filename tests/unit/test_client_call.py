"""One operation with its retries, as a pure structure: budgets, request ids, and what an error may claim."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.client.actions import Abandoned, Action, Answer, Done, Event, Fail, Failure, Send, Wait, Waited
from artemis.client.answers import interpreter
from artemis.client.call import Call, Operation, Session
from artemis.client.core import Core
from artemis.client.errors import ClusterUnavailable, Refused
from artemis.client.leases import Batch, BatchKind, Lease
from artemis.client.nodes import NodeChooser
from artemis.client.policy import RetryBudget, RetryPolicy
from artemis.client.wire import Response
from artemis.errors import ArtemisError, InvalidInput, RequestIdReused
from artemis.model import Instance

NODES = ["http://a:1", "http://b:1", "http://c:1"]
SUCCESS = {"status": "success", "errorCode": "success", "message": ""}


def answer(status: dict[str, str] | None = None, *, http: int = 200, **headers: str) -> Answer:
    names = {f"x-artemis-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Answer(status=http, headers=names, body=json.dumps({"responseStatus": status or SUCCESS}).encode())


def failed(code: str, message: str = "", **headers: str) -> Answer:
    return answer({"status": "fail", "errorCode": code, "message": message}, http=200, **headers)


def new_call(*, changes: bool = True, policy: RetryPolicy | None = None, seed: int = 1) -> Call[str]:
    rng = random.Random(seed)
    operation = Operation(
        path="/x",
        body=b"{}",
        headers={"x-artemis-request-id": "id-1"},
        interpret=interpreter(Response, lambda response, provenance: "value"),
        changes=changes,
    )
    return Call(
        operation,
        policy=policy or RetryPolicy(),
        nodes=NodeChooser(NODES, rng),
        retries=RetryBudget(),
        session=Session(),
        rng=rng,
    )


def error_of(action: Action[str]) -> ArtemisError:
    assert isinstance(action, Fail)
    return action.error


# --- any course of events


@dataclass
class Course:
    """What happened to one attempt: the event, and after which share of its time-out."""

    event: Answer | Failure
    share: float

    @property
    def definite(self) -> bool:
        if isinstance(self.event, Failure):
            return self.event.definite
        return self.event.headers.get("x-artemis-outcome") == "not-applied"


TROUBLES: list[Answer | Failure] = [
    Failure("refused", definite=True),
    Failure("reset", definite=False),
    failed("service-unavailable", outcome="not-applied"),
    failed("service-unavailable", outcome="unknown"),
    failed("rate-limited"),
    answer(http=503),
    Answer(status=200, headers={}, body=b"<html>"),
    Answer(status=200, headers={}, body=b"\xff{"),
    Answer(status=200, headers={}, body=b'{"failedInstances":null}'),
]
courses = st.lists(st.builds(Course, st.sampled_from(TROUBLES), st.floats(0, 1)), min_size=1, max_size=60)
policies = st.builds(
    RetryPolicy,
    budget_s=st.floats(0.05, 20),
    attempts_max=st.integers(1, 12),
    connect_timeout_s=st.floats(0.01, 3),
    read_timeout_s=st.floats(0.01, 10),
    backoff_base_s=st.floats(0.001, 1),
    backoff_max_s=st.floats(0.001, 5),
)


@given(courses, policies, st.booleans(), st.integers(0, 2**32))
def test_no_course_of_failures_breaks_a_budget_or_a_claim(
    course: list[Course], policy: RetryPolicy, changes: bool, seed: int
) -> None:
    call = new_call(changes=changes, policy=policy, seed=seed)
    began = now = 50.0
    sent: list[Send] = []
    happened: list[Course] = []
    action = call.step(None, now)
    while not isinstance(action, Fail):
        event: Event
        if isinstance(action, Send):
            assert now < began + policy.budget_s
            assert now + action.timeouts.total_s <= began + policy.budget_s + 1e-6
            sent.append(action)
            happened.append(course[(len(sent) - 1) % len(course)])
            now += action.timeouts.total_s * happened[-1].share
            event = happened[-1].event
        else:
            assert isinstance(action, Wait)
            assert 0 <= action.delay_s <= policy.backoff_max_s
            now += action.delay_s
            event = Waited()
        action = call.step(event, now)
    error = action.error
    assert isinstance(error, ClusterUnavailable)
    assert now <= began + policy.budget_s + 1e-6
    assert len(sent) <= policy.attempts_max
    assert {send.headers["x-artemis-request-id"] for send in sent} == {"id-1"}
    assert len({send.body for send in sent}) == 1
    assert error.definite == (not changes or all(one.definite for one in happened))
    assert [attempt.node for attempt in error.attempts] == [send.node for send in sent]
    assert all(0 < int(send.headers["x-artemis-timeout-ms"]) <= max(1, 1000 * send.timeouts.read_s) for send in sent)


@given(st.integers(0, 2**32))
def test_three_failures_in_a_row_meet_three_nodes(seed: int) -> None:
    call = new_call(seed=seed)
    now, action = 0.0, call.step(None, 0.0)
    nodes: list[str] = []
    while len(nodes) < 3:
        assert isinstance(action, Send)
        nodes.append(action.node)
        wait = call.step(Failure("refused", definite=True), now)
        assert isinstance(wait, Wait)
        now += wait.delay_s
        action = call.step(Waited(), now)
    assert set(nodes) == set(NODES)


def test_a_hanging_node_leaves_time_for_another() -> None:
    call = new_call()
    first = call.step(None, 0.0)
    assert isinstance(first, Send)
    assert (first.timeouts.connect_s, first.timeouts.read_s) == (1.0, 2.5)
    wait = call.step(Failure("timed out", definite=False), first.timeouts.total_s)
    assert isinstance(wait, Wait)
    second = call.step(Waited(), first.timeouts.total_s + wait.delay_s)
    assert isinstance(second, Send)
    assert second.node != first.node
    assert second.timeouts.total_s > 1.0


# --- what answers mean


@pytest.mark.parametrize(
    ("event", "error_type", "text"),
    [
        (failed("bad-request", "request.instances is null or empty."), InvalidInput, "request.instances is null"),
        (failed("no-permission", "regionId is not the same"), Refused, "no-permission: regionId"),
        (failed("data-not-found", "Delta is not found."), Refused, "data-not-found"),
        (
            failed("request-id-reused", "x-artemis-request-id: it belongs to another"),
            RequestIdReused,
            "belongs to another",
        ),
        (failed("a-later-code"), Refused, "a-later-code"),
        (Answer(status=404, headers={}, body=b'{"message":"no such path"}'), Refused, "http-404: no such path"),
        (Answer(status=413, headers={}, body=b'{"message":"body: at most 9 bytes"}'), Refused, "http-413"),
        (Answer(status=400, headers={}, body=b'{"message":"body: is empty"}'), InvalidInput, "body: is empty"),
        (Answer(status=400, headers={}, body=b"<html>no</html>"), InvalidInput, "request: <html>no"),
        (Answer(status=422, headers={}, body=b'{"message":"port: an integer"}'), InvalidInput, "port: an integer"),
        (Answer(status=302, headers={"location": "/login"}, body=b""), Refused, "http-302"),
    ],
)
def test_an_answer_about_the_request_ends_the_call(event: Answer, error_type: type[ArtemisError], text: str) -> None:
    call = new_call()
    call.step(None, 0.0)
    error = error_of(call.step(event, 0.1))
    assert type(error) is error_type
    assert text in error.message
    assert error.definite


def test_a_refusal_that_says_unknown_is_not_definite() -> None:
    call = new_call()
    call.step(None, 0.0)
    assert not error_of(call.step(failed("no-permission", outcome="unknown"), 0.1)).definite


@pytest.mark.parametrize("event", TROUBLES)
def test_trouble_of_one_node_leads_to_another(event: Answer | Failure) -> None:
    call = new_call()
    first = call.step(None, 0.0)
    wait = call.step(event, 0.1)
    assert isinstance(wait, Wait)
    second = call.step(Waited(), 0.1 + wait.delay_s)
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert first.node != second.node
    assert call.step(answer(), 0.5) == Done("value")


def test_an_abandoned_call_ends_without_another_attempt() -> None:
    call = new_call()
    call.step(None, 0.0)
    call.step(Failure("reset", definite=False), 0.1)
    error = error_of(call.step(Abandoned("the client is closing"), 0.2))
    assert "the client is closing" in error.message
    assert not error.definite


# --- sessions


@pytest.mark.parametrize(
    ("changes", "consistency", "retried", "expected"),
    [
        (False, "linearizable", False, 5),
        (True, "linearizable", False, 5),
        # A repeated write is answered with its first outcome, and a stale read shows the past by its nature.
        (True, "linearizable", True, 9),
        (True, "none", False, 9),
        (False, "stale", False, 9),
        (False, "session", False, 9),
    ],
)
def test_only_a_current_answer_can_prove_that_history_was_lost(
    changes: bool, consistency: str, retried: bool, expected: int
) -> None:
    session, rng = Session(), random.Random(1)
    session.revision = 9
    interpret = interpreter(Response, lambda response, provenance: "value")
    call = Call(
        Operation(path="/x", body=b"", headers={}, interpret=interpret, changes=changes),
        policy=RetryPolicy(),
        nodes=NodeChooser(NODES, rng),
        retries=RetryBudget(),
        session=session,
        rng=rng,
    )
    call.step(None, 0.0)
    if retried:
        call.step(Failure("reset", definite=False), 0.1)
        call.step(Waited(), 0.3)
    call.step(answer(revision="5", consistency=consistency), 0.4)
    assert session.revision == expected


def test_an_answer_that_was_overtaken_proves_nothing() -> None:
    """Two reads at once: the one that began first is answered last and shows less. That is no lost history."""
    core = new_core()
    early = core.lookup("s", "linearizable", None)
    early.step(None, 0.0)
    late = core.lookup("s", "linearizable", None)
    late.step(None, 0.1)
    late.step(answer(revision="8", consistency="linearizable"), 0.2)
    early.step(answer(revision="7", consistency="linearizable"), 0.3)
    assert core.session.revision == 8


# --- what the core asks


def new_core(new_request_id: Callable[[], str] = lambda: "id") -> Core:
    return Core(
        NODES,
        region_id=None,
        zone_id=None,
        default_ttl_ms=20_000,
        policy=RetryPolicy(),
        rng=random.Random(3),
        new_request_id=new_request_id,
    )


def test_the_request_id_is_drawn_once_per_operation_and_not_for_reads() -> None:
    drawn = iter(range(100))
    core = new_core(lambda: f"id-{next(drawn)}")
    lease = Lease(instance=Instance(service_id="s", instance_id="i", url="u"), ttl_ms=1000)
    ids = []
    for call in (core.register(lease), core.lookup("s", "stale", None), core.unregister([lease]), core.members()):
        send = call.step(None, 0.0)
        assert isinstance(send, Send)
        ids.append(send.headers.get("x-artemis-request-id"))
    assert ids == ["id-0", None, "id-1", None]


def test_absent_fields_are_not_sent() -> None:
    lease = Lease(instance=Instance(service_id="s", instance_id="i", url="u"), ttl_ms=1000)
    send = new_core().register(lease).step(None, 0.0)
    assert isinstance(send, Send)
    expected = {"serviceId": "s", "instanceId": "i", "url": "u", "port": 0, "leaseTtlMs": 1000}
    assert json.loads(send.body) == {"instances": [expected]}


def test_a_node_is_not_asked_for_more_time_than_nodes_allow() -> None:
    send = new_call(policy=RetryPolicy(budget_s=300.0, read_timeout_s=120.0)).step(None, 0.0)
    assert isinstance(send, Send)
    assert send.headers["x-artemis-timeout-ms"] == "30000"


def test_a_failure_beside_an_old_revision_is_no_lost_history() -> None:
    """A lagging node refuses an instance by itself, without asking the log: its revision proves nothing."""
    core = new_core()
    core.session.revision = 9
    lease = core.new_lease(Instance(service_id="s", instance_id="i", url="u"), None)
    call = core.lease_call(Batch("renew", (lease,), 1.0))
    call.step(None, 0.0)
    failure = {"instance": {"serviceId": "s", "instanceId": "i"}, "errorCode": "no-permission", "errorMessage": "?"}
    status = {"status": "partial_fail", "errorCode": "partial_fail", "message": ""}
    body = json.dumps({"failedInstances": [failure], "responseStatus": status}).encode()
    headers = {"x-artemis-revision": "5", "x-artemis-consistency": "linearizable"}
    done = call.step(Answer(status=200, headers=headers, body=body), 0.1)
    assert isinstance(done, Done)
    assert [failed.code for failed in done.value] == ["no-permission"]
    assert core.session.revision == 9


def test_lookups_that_retry_through_an_outage_leave_the_heartbeats_their_retries() -> None:
    core = new_core()
    lease = core.new_lease(Instance(service_id="s", instance_id="i", url="u"), None)
    refused = Failure("refused", definite=True)

    def retries_once(call: Call[Any]) -> bool:
        call.step(None, 0.0)
        return isinstance(call.step(refused, 0.0), Wait)

    assert not all(retries_once(core.lookup("s", "stale", None)) for _ in range(100))
    assert retries_once(core.lease_call(Batch("renew", (lease,), 1.0)))


@pytest.mark.parametrize(("kind", "renewed_at"), [("renew", 100.5), ("register", 100.0)])
def test_a_lease_runs_from_the_attempt_that_may_have_set_it(kind: BatchKind, renewed_at: float) -> None:
    """A repeated registration is answered with the outcome of the first copy, so its TTL may run since then. A repeated
    renewal renews."""
    core = new_core()
    lease = core.new_lease(Instance(service_id="s", instance_id="i", url="u"), None)
    core.plan.add(lease, 0.0)
    batch = Batch(kind, (lease,), 3.0)
    call = core.lease_call(batch)
    call.step(None, 100.0)
    call.step(Failure("reset", definite=False), 100.1)
    call.step(Waited(), 100.5)
    done = call.step(answer(), 100.9)
    assert isinstance(done, Done)
    core.lease_call_done(batch, call, done.value, 100.9)
    assert lease.last_renewed == renewed_at


def test_a_forked_core_draws_other_numbers_and_keeps_no_lease() -> None:
    parent, same, child = new_core(), new_core(), new_core()
    child.forget_leases()
    assert _first_pause(parent) == _first_pause(same) != _first_pause(child)
    parent.plan.add(parent.new_lease(Instance(service_id="s", instance_id="i", url="u"), None), 0.0)
    parent.forget_leases()
    assert parent.plan.leases == ()


def _first_pause(core: Core) -> float:
    call = core.members()
    call.step(None, 0.0)
    wait = call.step(Failure("refused", definite=True), 0.0)
    assert isinstance(wait, Wait)
    return wait.delay_s
