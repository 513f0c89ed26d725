"""The four rules of the leader's stamp (``artemis.consensus.leaseclock``), in virtual time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from artemis.consensus.leaseclock import STEP_MAX_MS, LeaseClock
from artemis.leases import LEASE_STAMP_ERROR_MS as STAMP_ERROR_MS


def test_it_follows_monotonic_time_from_the_applied_stamp() -> None:
    clock = LeaseClock(1_000, now=50.0)
    assert clock.stamp(50.125, index=7) == 1_125
    clock.on_applied(7, now=50.126)
    assert clock.stamp(50.25, index=8) == 1_250


def test_a_stopped_leader_adds_one_step_not_the_pause() -> None:
    clock = LeaseClock(0, now=0.0)
    assert clock.stamp(60.0, index=1) == STEP_MAX_MS
    clock.on_applied(1, now=60.001)
    assert clock.stamp(60.001, index=2) - STEP_MAX_MS <= 1


def test_it_stands_while_a_step_is_uncommitted_and_drops_what_exceeds_the_bound() -> None:
    clock = LeaseClock(0, now=0.0)
    assert clock.stamp(0.1, index=1) == 100
    assert clock.stamp(5.0, index=2) == 100
    clock.on_applied(1, now=5.0)
    assert clock.stamp(5.0, index=3) == 100 + STAMP_ERROR_MS


def test_a_short_commit_time_is_made_up() -> None:
    clock = LeaseClock(0, now=0.0)
    clock.stamp(0.125, index=1)
    clock.on_applied(1, now=0.25)
    assert clock.stamp(0.25, index=2) == 250


def test_fractions_of_a_millisecond_are_not_lost() -> None:
    clock = LeaseClock(0, now=0.0)
    for index in range(1, 5_001):
        now = index * 0.0002
        clock.stamp(now, index)
        clock.on_applied(index, now)
    assert 998 <= clock.stamp_ms <= 1_000


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
    clock, now, index = LeaseClock(0, now=0.0), 0.0, 0
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
