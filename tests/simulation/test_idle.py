"""Ticks that are left out make no difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.scenario import Report, Run
from tests.simulation.settings import Settings, swarm
from tests.simulation.world import World


def run(seed: int, settings: Settings) -> Report:
    return Run(seed, settings).run(6.0)


@pytest.mark.parametrize("seed", [*range(20, 27)])
def test_a_run_with_and_without_idle_ticks_is_the_same(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    # How late a callback starts is drawn for each callback, so without some of them the others come at other times.
    settings = replace(swarm(World(seed).stream("swarm")), lateness=0.0)
    usual = settings.network.latency_max
    short = run(seed, settings)
    monkeypatch.setattr(invariants, "quiet", lambda _engine: False)
    settings.network.latency_max = usual
    full = run(seed, settings)
    assert (short.digest, short.acknowledged, short.messages) == (full.digest, full.acknowledged, full.messages)
    assert short.events < full.events, "no tick was left out"
