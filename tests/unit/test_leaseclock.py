"""The four rules of the leader's stamp (``artemis.consensus.leaseclock``), in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artemis.consensus.leaseclock import STEP_MAX_MS, LeaseClock
from artemis.consensus.timing import Timing
from artemis.errors import InvalidInput
from artemis.leases import LEASE_STAMP_ERROR_MS as STAMP_ERROR_MS


def test_it_follows_monotonic_time_from_the_applied_stamp() -> None:
    clock = LeaseClock(1_000, 50.0, now=50.0)
    assert clock.stamp(50.125, index=7) == 1_125
    clock.on_applied(7, now=50.126)
    assert clock.stamp(50.25, index=8) == 1_250


def test_a_stopped_leader_adds_one_step_not_the_pause() -> None:
    clock = LeaseClock(0, 0.0, now=0.0)
    assert clock.stamp(60.0, index=1) == STEP_MAX_MS
    clock.on_applied(1, now=60.001)
    assert clock.stamp(60.001, index=2) - STEP_MAX_MS <= 1


def test_it_stands_while_a_step_is_uncommitted_and_drops_what_exceeds_the_bound() -> None:
    clock = LeaseClock(0, 0.0, now=0.0)
    assert clock.stamp(0.1, index=1) == 100
    assert clock.stamp(5.0, index=2) == 100
    clock.on_applied(1, now=5.0)
    assert clock.stamp(5.0, index=3) == 100 + STAMP_ERROR_MS


def test_a_short_commit_time_is_made_up() -> None:
    clock = LeaseClock(0, 0.0, now=0.0)
    clock.stamp(0.125, index=1)
    clock.on_applied(1, now=0.25)
    assert clock.stamp(0.25, index=2) == 250


def test_fractions_of_a_millisecond_are_not_lost() -> None:
    clock = LeaseClock(0, 0.0, now=0.0)
    for index in range(1, 5_001):
        now = index * 0.0002
        clock.stamp(now, index)
        clock.on_applied(index, now)
    assert 998 <= clock.stamp_ms <= 1_000


def test_a_new_leader_counts_the_time_since_it_applied_the_last_stamp() -> None:
    clock = LeaseClock(1_000, 50.0, now=50.125)
    assert clock.stamp(50.25, index=1) == 1_250


def test_a_new_leader_counts_no_more_of_the_time_without_a_leader_than_a_stamp_may_err() -> None:
    clock = LeaseClock(1_000, 50.0, now=55.0)
    assert clock.stamp(55.0, index=1) == 1_000 + STAMP_ERROR_MS


def test_steps_are_due_more_often_than_what_a_new_leader_may_count() -> None:
    with pytest.raises(InvalidInput, match="lease_step_ms"):
        Timing(lease_step_ms=190, timer_ms=10).validate()
    Timing(lease_step_ms=189, timer_ms=10).validate()


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.integers(0, 3)),
        min_size=1,
        max_size=40,
    ),
    ttl_ms=st.integers(1_000, 5_000),
)
def test_no_lease_ends_before_its_ttl_in_real_time(steps: list[tuple[float, float, int]], ttl_ms: int) -> None:
    """However steps and commits are timed, an entry stamped at real time t that renews a lease (deadline = stamp +
    ttl + STAMP_ERROR_MS) is never followed by a stamp at or past that deadline before real time t + ttl."""
    clock, now, index = LeaseClock(0, 0.0, now=0.0), 0.0, 0
    renewals: list[tuple[float, int]] = []  # (real time of stamping, deadline on the lease clock)
    for pause, commit, extra in steps:
        now += pause
        first = index + 1
        for _ in range(1 + extra):
            index += 1
            stamp = clock.stamp(now, index)
            for real, deadline in renewals:
                assert stamp < deadline or (now - real) * 1000 >= ttl_ms - 1
            renewals.append((now, stamp + ttl_ms + STAMP_ERROR_MS))
            now += commit / (1 + extra)
        clock.on_applied(first, now)


Term = tuple[float, list[tuple[float, float]], int, float]
"""A leadership: the election before it, its (pause, commit) per entry, how many entries its end leaves uncommitted,
and how much later the next leader applies what it committed."""
_seconds = st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.19, 0.3, 0.9, 3.0])


@settings(max_examples=500, deadline=None)
@given(
    terms=st.lists(
        st.tuples(
            _seconds, st.lists(st.tuples(_seconds, _seconds), min_size=1, max_size=6), st.integers(0, 2), _seconds
        ),
        min_size=2,
        max_size=12,
    ),
    ttl_ms=st.sampled_from([100, 1_000, 3_000]),
)
@example(terms=[(0.0, [(0.0, 0.9), (0.0, 0.0)], 0, 0.0), (0.0, [(0.1, 0.0)], 0, 0.0)], ttl_ms=100)
def test_no_lease_ends_early_over_any_number_of_leaders(terms: list[Term], ttl_ms: int) -> None:
    """As above, with leaders whose last entries are lost with them, and successors that apply late."""
    now, applied_ms, applied_at = 0.0, 0, 0.0
    renewals: list[tuple[float, int]] = []
    for election, entries, lost, late in terms:
        now += election
        clock = LeaseClock(applied_ms, applied_at, now)
        ordered: list[tuple[float, int]] = []
        for index, (pause, commit) in enumerate(entries, start=1):
            now += pause
            ordered.append((now, clock.stamp(now, index)))
            now += commit / 2
            ordered.append((now, clock.stamp(now, index)))  # a second entry in flight, behind the step
            now += commit / 2
            clock.on_applied(index, now)
        for at, stamp in ordered[: max(0, len(ordered) - lost)]:
            for renewed_at, deadline_ms in renewals:
                assert stamp < deadline_ms or (at - renewed_at) * 1000 >= ttl_ms - 1
            renewals.append((at, stamp + ttl_ms + STAMP_ERROR_MS))
            if stamp > applied_ms:
                applied_ms, applied_at = stamp, at + late
        now = max(now, applied_at)  # who leads has applied everything that is committed


def test_leaders_that_follow_each_other_at_once_lose_only_the_commit_of_their_last_stamps() -> None:
    now, applied_ms, applied_at = 0.0, 0, 0.0
    for _ in range(100):
        clock = LeaseClock(applied_ms, applied_at, now)
        now += 0.05
        applied_ms = clock.stamp(now, 1)
        applied_at = now + 0.002
        now += 0.1  # it ends before its next step
    assert now * 1000 - applied_ms <= 100 + 100 * (2 + 1)  # and the fraction of a millisecond
