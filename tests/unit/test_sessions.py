"""Exactly once: by origin and number, and by request id."""

from __future__ import annotations

import pytest

from artemis.commands import RequestId
from artemis.model import key_of
from artemis.outcomes import Refused, Registered
from artemis.registry import StateLimits
from artemis.sessions import Session
from tests.support.replica import Replica, frozen_bytes, instance, register, unregister

X = RequestId("x", b"12345678")


def test_a_proposal_that_comes_again_is_skipped() -> None:
    replica = Replica()
    assert replica.propose(register(instance()), seq=5) is not None
    assert replica.propose(register(instance()), seq=5) is None
    assert replica.propose(register(instance()), seq=4) is None
    assert replica.registry.revision == 1


def test_a_proposal_that_comes_twice_in_one_entry_is_applied_once() -> None:
    replica = Replica()
    replica.propose(register(instance()), seq=1)
    assert replica.registry.session("n1") == Session(1, 1)
    assert replica.propose(unregister(instance()), seq=1) is None
    assert replica.registry.find(key_of(instance())) is not None


def test_numbers_may_be_left_out() -> None:
    replica = Replica()
    replica.propose(register(instance()), seq=1)
    assert replica.propose(register(instance(instance_id="i2")), seq=7) is not None
    assert replica.registry.session("n1") == Session(1, 7)


def test_origins_do_not_share_numbers() -> None:
    replica = Replica()
    assert replica.propose(register(instance()), origin="n1", seq=1) is not None
    assert replica.propose(register(instance(instance_id="i2")), origin="n2", seq=1) is not None
    assert replica.registry.revision == 2


def test_a_later_start_begins_its_numbers_anew() -> None:
    replica = Replica()
    replica.propose(register(instance()), incarnation=1, seq=100)
    assert replica.propose(register(instance()), incarnation=2, seq=1) is not None
    assert replica.registry.session("n1") == Session(2, 1)


def test_an_earlier_start_is_superseded_and_changes_nothing() -> None:
    replica = Replica()
    replica.propose(register(instance()), incarnation=2, seq=1)
    before = replica.registry.freeze()
    outcome = replica.propose(unregister(instance()), incarnation=1, seq=9, request=X)
    assert outcome == Refused(1, "superseded")
    assert replica.registry.freeze() == before._replace(applied_index=2)


def test_a_proposal_past_its_time_budget_is_refused() -> None:
    replica = Replica()
    replica.clock_ms = 1_000
    assert replica.propose(register(instance()), expires_at_ms=999) == Refused(0, "expired")
    assert isinstance(replica.propose(register(instance()), expires_at_ms=1_000), Registered)


def test_the_number_of_a_refused_proposal_is_used_up() -> None:
    replica = Replica()
    replica.clock_ms = 1_000
    replica.propose(register(instance()), expires_at_ms=999, seq=3)
    assert replica.propose(register(instance()), seq=3) is None


def test_a_retry_gets_the_first_outcome_from_any_node_and_changes_nothing() -> None:
    replica = Replica()
    first = replica.propose(register(instance()), request=X)
    replica.propose(unregister(instance()))
    digest = replica.registry.digest
    assert replica.propose(register(instance()), request=X, origin="n2", seq=1) == first
    assert (replica.registry.revision, replica.registry.digest) == (2, digest)
    assert replica.registry.outcome_of(X) == first


def test_a_late_copy_of_an_applied_request_is_not_called_expired() -> None:
    # "expired" says that it never happened, and it did.
    replica = Replica()
    first = replica.propose(register(instance()), request=X)
    replica.step(5_000)
    assert replica.propose(register(instance()), request=X, expires_at_ms=1) == first


def test_an_expired_request_may_come_again() -> None:
    replica = Replica()
    replica.clock_ms = 1_000
    replica.propose(register(instance()), request=X, expires_at_ms=1)
    assert replica.registry.outcome_of(X) is None
    assert isinstance(replica.propose(register(instance()), request=X), Registered)


def test_a_request_id_of_another_request_is_refused_and_changes_nothing() -> None:
    replica = Replica()
    first = replica.propose(register(instance()), request=X)
    other = RequestId("x", b"87654321")
    assert replica.propose(unregister(instance()), request=other) == Refused(1, "request-id-reused")
    assert replica.registry.outcome_of(other) == Refused(1, "request-id-reused")
    assert replica.registry.outcome_of(X) == first
    assert replica.registry.find(key_of(instance())) is not None


def test_an_outcome_is_kept_for_the_window_and_no_longer() -> None:
    replica = Replica(StateLimits(request_window_ms=600))
    replica.step(100)
    first = replica.propose(register(instance()), request=X)
    replica.step(700)
    assert replica.registry.outcome_of(X) == first
    replica.step(701)
    assert replica.registry.outcome_of(X) is None


def test_the_oldest_outcome_gives_way_when_there_are_too_many() -> None:
    replica = Replica(StateLimits(requests_max=2))
    requests = [RequestId(name, b"12345678") for name in "abc"]
    for request in requests:
        replica.propose(register(instance()), request=request)
    assert replica.registry.outcome_of(requests[0]) is None
    assert all(replica.registry.outcome_of(request) is not None for request in requests[1:])


def test_nothing_is_remembered_where_the_limit_is_zero() -> None:
    replica = Replica(StateLimits(requests_max=0))
    replica.propose(register(instance()), request=X)
    assert replica.registry.outcome_of(X) is None


@pytest.mark.parametrize("seq", [-1, 0, 2**63 - 1])
def test_any_number_starts_a_session(seq: int) -> None:
    replica = Replica()
    assert replica.propose(register(instance()), seq=seq) is not None
    assert frozen_bytes(replica.registry)
