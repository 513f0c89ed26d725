"""The engine's only timer: when it rings, and what it takes for a stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from artemis.consensus.alarm import BEHIND_SECONDS, DRAIN_SECONDS, PERIODS_MAX, STALL_SECONDS, Alarm

PERIOD = 0.02


class Timer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """``ports.Scheduler`` that runs timers when told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rings: list[float] = []
        self._timers: list[Timer] = []
        self.alarm = Alarm(self, PERIOD, lambda: self.rings.append(self.now))

    def call_soon(self, callback: Callable[[], None], /) -> object:
        raise NotImplementedError

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        timer = Timer(self.now + delay, callback)
        self._timers.append(timer)
        return timer

    @property
    def open(self) -> list[Timer]:
        return [timer for timer in self._timers if timer.callback is not None]

    def run_until(self, at: float) -> None:
        for timer in sorted(self.open, key=lambda each: each.at):
            if timer.at <= at and timer.callback is not None:
                self.now = timer.at
                callback, timer.callback = timer.callback, None
                callback()
        self.now = at


def test_it_rings_just_behind_the_deadline() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 100.05)
    loop.run_until(100.05)
    assert loop.rings == []
    loop.run_until(100.1)
    assert loop.rings == [pytest.approx(100.05 + BEHIND_SECONDS)]
    assert not loop.alarm.is_set


def test_without_a_deadline_it_rings_often_enough_to_notice_a_stop() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, float("inf"))
    loop.run_until(101.0)
    assert loop.rings == [pytest.approx(100 + PERIOD * PERIODS_MAX)]


def test_what_is_overdue_is_looked_at_once_per_period() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 99.0)
    loop.run_until(100.1)
    assert loop.rings == [pytest.approx(100 + PERIOD, abs=2 * BEHIND_SECONDS)]


def test_a_nearer_deadline_takes_the_place_of_the_one_that_is_set() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 100.15)
    loop.alarm.sooner(loop.now, 100.19)
    assert [timer.at for timer in loop.open] == [pytest.approx(100.15 + BEHIND_SECONDS)]
    loop.alarm.sooner(loop.now, 100.03)
    assert [timer.at for timer in loop.open] == [pytest.approx(100.03 + BEHIND_SECONDS)]
    loop.run_until(101.0)
    assert len(loop.rings) == 1


def test_a_stopped_alarm_is_silent() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 100.05)
    loop.alarm.stop()
    loop.run_until(101.0)
    assert loop.rings == []


@pytest.mark.parametrize(("late", "drains"), [(STALL_SECONDS * 0.9, False), (STALL_SECONDS * 1.1, True)])
def test_a_ring_that_is_much_too_late_means_that_the_process_was_stopped(late: float, drains: bool) -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 100.05)
    now = 100.05 + BEHIND_SECONDS + late
    assert loop.alarm.drains(now) is drains
    assert loop.alarm.drains(now + DRAIN_SECONDS * 0.9) is drains
    assert not loop.alarm.drains(now + DRAIN_SECONDS * 1.1), "it listens for a moment only"


def test_a_stop_that_ends_before_the_ring_is_none() -> None:
    loop = Loop()
    loop.alarm.set(loop.now, 100.2)
    assert not loop.alarm.drains(100.199)
