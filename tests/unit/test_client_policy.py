"""Retry policy, retry budget and choice of node as pure structures."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.client.nodes import AVOID_MAX_S, NodeChooser
from artemis.client.policy import RetryBudget, RetryPolicy
from artemis.errors import InvalidInput


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "5", None, True])
@pytest.mark.parametrize("field", ["budget_s", "attempts_max", "read_timeout_s", "backoff_base_s"])
def test_a_policy_that_cannot_work_is_refused(field: str, bad: float) -> None:
    values: dict[str, Any] = {field: bad}
    with pytest.raises(InvalidInput, match=field):
        RetryPolicy(**values)


def test_attempts_are_counted_in_whole_numbers() -> None:
    values: dict[str, Any] = {"attempts_max": 1.5}
    with pytest.raises(InvalidInput, match="attempts_max"):
        RetryPolicy(**values)


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_backoff_stays_under_its_exponential_ceiling(failures: int, seed: int) -> None:
    policy = RetryPolicy(backoff_base_s=0.1, backoff_max_s=1.0)
    delay_s = policy.backoff_s(failures, random.Random(seed))
    assert 0 <= delay_s <= min(1.0, 0.1 * 2.0 ** min(failures - 1, 50))


def test_backoff_is_jittered_over_its_whole_range() -> None:
    rng = random.Random(5)
    delays = [RetryPolicy().backoff_s(3, rng) for _ in range(2000)]
    assert min(delays) < 0.02
    assert max(delays) > 0.38


@given(st.floats(0.001, 30))
def test_a_shorter_budget_still_holds_two_attempts(budget_s: float) -> None:
    policy = RetryPolicy().within(budget_s)
    assert policy.budget_s == min(budget_s, 5.0)
    if budget_s < 5.0:
        assert policy.timeouts(budget_s).total_s + policy.backoff_max_s < policy.budget_s


@given(st.lists(st.tuples(st.sampled_from(["call", "retry", "pass"]), st.floats(0, 10)), max_size=300))
def test_retries_never_exceed_burst_share_and_rate(steps: list[tuple[str, float]]) -> None:
    budget = RetryBudget(ratio=0.2, burst=5.0, per_s=0.5)
    now = calls = retries = 0.0
    for kind, value in steps:
        if kind == "call":
            budget.deposit(now)
            calls += 1
        elif kind == "retry":
            retries += budget.withdraw(now)
        else:
            now += value
        assert retries <= 5.0 + 0.2 * calls + 0.5 * now + 1e-6


def test_an_idle_client_regains_its_burst_and_no_more() -> None:
    budget = RetryBudget(ratio=0.2, burst=3.0, per_s=1.0)
    assert [budget.withdraw(0.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.withdraw(1000.0) for _ in range(4)] == [True, True, True, False]


def test_clients_start_at_different_nodes() -> None:
    nodes = [f"http://n{number}:1" for number in range(3)]
    assert {NodeChooser(nodes, random.Random(seed)).pick(0.0) for seed in range(30)} == set(nodes)


def test_addresses_are_normalised_and_counted_once() -> None:
    chooser = NodeChooser(["http://a:1/", "http://a:1", "https://b/registry/"], random.Random(1))
    assert sorted(chooser.nodes) == ["http://a:1", "https://b/registry"]


def test_a_node_that_failed_is_not_asked_again_while_another_works() -> None:
    """Not even when its time is over: a client that calls once a minute would pay for a dead node each time."""
    chooser = NodeChooser(["http://a:1", "http://b:1"], random.Random(1))
    first = chooser.pick(0.0)
    chooser.failed(first, 0.0)
    second = chooser.pick(0.0)
    assert second != first
    assert chooser.pick(1000.0) == second
    chooser.failed(second, 1000.0)
    assert chooser.pick(1000.0) == first


def test_a_node_that_keeps_failing_is_avoided_longer_up_to_a_bound() -> None:
    chooser = NodeChooser(["http://a:1", "http://b:1"], random.Random(1))
    bad = chooser.pick(0.0)
    for _ in range(50):
        chooser.failed(bad, 0.0)
    other = chooser.pick(0.0)
    assert other != bad
    chooser.failed(other, 0.0)
    assert chooser.pick(0.0) == other, "its time ends first"
    chooser.failed(other, AVOID_MAX_S)
    assert chooser.pick(AVOID_MAX_S) == bad, "no avoidance lasts longer than its bound"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60), st.integers(0, 2**32))
def test_there_is_always_a_node_to_ask(steps: list[tuple[bool, float]], seed: int) -> None:
    """And never one that is avoided while another is not."""
    chooser = NodeChooser(["http://a:1", "http://b:1", "http://c:1"], random.Random(seed))
    now, clean = 0.0, set(chooser.nodes)
    for works, passed_s in steps:
        node = chooser.pick(now)
        assert node in clean or not clean
        if works:
            chooser.succeeded(node)
            clean.add(node)
        else:
            chooser.failed(node, now)
            clean.discard(node)
        now += passed_s
