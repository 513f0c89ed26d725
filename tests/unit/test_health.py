"""Entries that are committed and not applied, and a process that did not run."""

from __future__ import annotations

from artemis.consensus.health import (
    LONG_STALL_SECONDS,
    STALL_SHOWN_SECONDS,
    STUCK_SECONDS,
    ApplyWatch,
    StallWatch,
)


def looked(watch: ApplyWatch, begin: float, seconds: float, committed: int, applied: int) -> float:
    now = begin
    while now < begin + seconds:
        now += 0.1
        watch.look(now, committed, applied)
    return now


def test_an_entry_that_is_not_applied_for_a_while_is_named() -> None:
    watch = ApplyWatch()
    now = looked(watch, 100.0, STUCK_SECONDS - 0.5, 8, 7)
    assert watch.reason(now) is None
    now = looked(watch, now, 1.0, 9, 7)
    assert "entry 8 is committed and has not been applied" in str(watch.reason(now))
    watch.look(now + 0.1, 9, 9)
    assert watch.reason(now + 0.1) is None


def test_a_backlog_that_moves_on_is_not_stuck() -> None:
    watch = ApplyWatch()
    now = 100.0
    for applied in range(200):
        now += 0.1
        watch.look(now, 1_000, applied)
        assert watch.reason(now) is None


def test_a_time_in_which_nobody_looked_does_not_count() -> None:
    watch = ApplyWatch()
    watch.look(100.0, 8, 7)
    watch.look(160.0, 8, 7)
    assert watch.reason(160.0) is None
    now = looked(watch, 160.0, STUCK_SECONDS + 0.2, 8, 7)
    assert watch.reason(now) is not None


def test_a_long_stall_is_told_for_a_while_and_a_short_one_not() -> None:
    watch = StallWatch()
    assert watch.reason(0.0) is None
    watch.ended(100.0, LONG_STALL_SECONDS * 0.9)
    assert watch.reason(100.0) is None
    watch.ended(200.0, 1.234)
    assert watch.reason(201.0) == "its event loop stood still for 1234 ms, 1 s ago"
    assert watch.reason(200.0 + STALL_SHOWN_SECONDS) is None
