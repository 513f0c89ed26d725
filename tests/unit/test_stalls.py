"""Stalls of the event loop are measured, on a loop whose time the test turns by hand."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from artemis.api.stalls import INTERVAL_S, THRESHOLD_S, StallMetrics, StallMonitor


def test_a_late_timer_is_reported_and_an_almost_punctual_one_is_not() -> None:
    now = 0.0
    reported: list[float] = []

    async def story() -> None:
        nonlocal now
        monitor = StallMonitor(reported.append, clock=lambda: now)
        loop = asyncio.get_running_loop()
        monitor.start(loop)
        now += INTERVAL_S + THRESHOLD_S / 2
        monitor._tick(loop)
        assert reported == []
        now += INTERVAL_S + THRESHOLD_S + 0.25
        monitor._tick(loop)
        monitor.stop()

    asyncio.run(story())
    assert [round(seconds, 3) for seconds in reported] == [THRESHOLD_S + 0.25]


def test_a_real_loop_that_was_held_up_reports_it() -> None:
    """The blocked time is the subject here, so it has to pass."""
    reported: list[float] = []

    async def story() -> None:
        came = asyncio.Event()

        def report(seconds: float) -> None:
            reported.append(seconds)
            came.set()

        loop = asyncio.get_running_loop()
        monitor = StallMonitor(report)
        monitor.start(loop)
        until = loop.time() + INTERVAL_S + THRESHOLD_S + 0.1
        while loop.time() < until:
            pass
        async with asyncio.timeout(20):
            await came.wait()
        monitor.stop()

    asyncio.run(story())
    assert reported[0] > THRESHOLD_S


def test_stalls_are_counted_for_the_scrape() -> None:
    metrics = StallMetrics()
    registry = CollectorRegistry()
    registry.register(metrics)
    metrics.observe(0.25)
    metrics.observe(0.5)
    text = generate_latest(registry).decode()
    assert "artemis_event_loop_stall_seconds_count 2.0" in text
    assert "artemis_event_loop_stall_seconds_sum 0.75" in text


def test_each_lag_is_told_with_the_part_of_it_that_the_loop_worked() -> None:
    now = worked = 0.0
    lags: list[tuple[float, float]] = []

    async def story() -> None:
        nonlocal now, worked
        monitor = StallMonitor(
            lambda seconds: None,
            clock=lambda: now,
            on_lag=lambda late_s, worked_s: lags.append((round(late_s, 3), round(worked_s, 3))),
            worked=lambda: worked,
        )
        loop = asyncio.get_running_loop()
        monitor.start(loop)
        for late_s, worked_s in ((0.04, 0.01), (0.04, 0.055), (-0.001, 0.01)):
            now += INTERVAL_S + late_s
            worked += worked_s
            monitor._tick(loop)
        monitor.stop()

    asyncio.run(story())
    assert lags == [(0.04, 0.01), (0.04, 0.04), (0.0, 0.0)]


def test_lags_are_histograms_of_the_scrape() -> None:
    metrics = StallMetrics()
    registry = CollectorRegistry()
    registry.register(metrics)
    metrics.observe_lag(0.045, 0.005)
    metrics.observe_lag(0.001, 0.001)
    lines = generate_latest(registry).decode().splitlines()
    assert 'artemis_event_loop_lag_seconds_bucket{le="0.04"} 1.0' in lines
    assert 'artemis_event_loop_lag_seconds_bucket{le="0.05"} 2.0' in lines
    assert 'artemis_event_loop_work_lag_seconds_bucket{le="0.005"} 2.0' in lines
    assert "artemis_event_loop_lag_seconds_count 2.0" in lines
