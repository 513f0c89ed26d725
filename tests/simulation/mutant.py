"""What a planted bug is, and how it is run against the checker that must find it.

A mutant takes one guard away or breaks one rule of the state machine, by replacing methods. Its checker is either whole
simulated runs under faults that can hurt (``Seeds``), or a test that stands in the suite anyway (``Named``): that test
passes on the program as it is, so when it fails here it fails because of the bug.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from re import search
from typing import TypeAlias

import pytest

from artemis.consensus.timing import Bounds
from tests.simulation.network import NetworkSettings
from tests.simulation.scenario import Run
from tests.simulation.settings import FaultKind, Settings
from tests.simulation.world import Violation

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Seeds:
    """Simulated runs, seed after seed, until a violation is found that looks as it must."""

    settings: Settings
    sees: str
    """Pattern of the violation: found by accident is not found."""
    known: int = 1
    """A seed that has found it, tried first by the fast run. Seeds reshuffle as the program changes."""
    budget: int = 40
    """Seeds. A bug that one seed in seven shows is found within 40 with 99.8 %."""
    seconds: float = 12.0
    """Virtual, per seed."""


@dataclass(frozen=True, slots=True)
class Named:
    """A test of the suite, as ``folder/file.py::test`` below ``tests``."""

    test: str
    sees: str = "AssertionError|assert |Violation|DID NOT RAISE"
    """Pattern of its failure message. An error inside a plant that no longer fits the program is no finding."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: str
    """The hazard's letter (``consensus/DESIGN.md``) or the promise."""
    where: str
    plant: Plant
    by: Seeds | Named


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    found: str
    """What the checker said; empty: the mutant survived."""
    tries: int
    seconds: float


MUTANTS: dict[str, Mutant] = {}
"""By name, in the order of their definitions. Filled by ``mutants_of_*``; import ``mutants`` to have all."""


def mutant(breaks: str, where: str, by: Seeds | Named) -> Callable[[Plant], Plant]:
    """Register the decorated plant under its function's name."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        assert name not in MUTANTS, name
        MUTANTS[name] = Mutant(name, breaks, where, plant, by)
        return plant

    return register


def faults(
    *kinds: FaultKind,
    members: int = 3,
    latency_max: float = 0.003,
    every: float = 0.5,
    length: float = 1.0,
    think: float = 0.1,
    ids: float = 0.6,
    bounds: Bounds | None = None,
) -> Settings:
    """A busy small cluster with only these kinds of fault. Times in seconds."""
    return Settings(
        members=members,
        bounds=bounds or Bounds(snapshot_log_entries=60, snapshot_trailing_entries=20),
        network=NetworkSettings(latency_max=latency_max),
        clients=8,
        think=think,
        request_ids=ids,
        faults=kinds,
        fault_pause=every,
        fault_length=length,
    )


def try_seeds(by: Seeds, *, known_first: bool) -> tuple[str, int]:
    """What was found (or ``""``), and after how many seeds."""
    seeds = list(range(1, by.budget + 1))
    if known_first:
        seeds = [by.known, *(seed for seed in seeds if seed != by.known)]
    for tries, seed in enumerate(seeds, 1):
        try:
            Run(seed, by.settings).run(by.seconds)
        except Violation as violation:
            if search(by.sees, str(violation)):
                return str(violation), tries
    return "", len(seeds)


class _Failures:
    """Pytest plugin: keeps what failed."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += 1
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.messages.append(str(report.longrepr) if crash is None else str(crash.message))


def try_test(by: Named) -> tuple[str, int]:
    """What it said when it failed (or ``""``), and 1. Raises ``RuntimeError`` if it did not run or failed otherwise."""
    plugin = _Failures()
    pytest.main(
        [f"tests/{by.test}", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore"],
        plugins=[plugin],
    )
    if not plugin.ran:
        raise RuntimeError(f"there is no test {by.test}")
    found = [message for message in plugin.messages if search(by.sees, message)]
    if plugin.messages and not found:
        raise RuntimeError(f"{by.test} fails, but not as it must: {plugin.messages[0]}")
    return (found[0] if found else ""), 1


def judge(planted: Mutant, *, known_first: bool = False) -> Verdict:
    """Plant it in this process, for as long as its checker runs."""
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        planted.plant(patch)
        by = planted.by
        found, tries = try_seeds(by, known_first=known_first) if isinstance(by, Seeds) else try_test(by)
    return Verdict(planted.name, found, tries, time.monotonic() - started)
