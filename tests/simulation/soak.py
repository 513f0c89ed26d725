"""``python -m tests.simulation.soak --seconds 600``: fresh seeds on all cores, and what they met.

Prints each seed (``--verbose``) or each violation with the command that replays it, the faults injected, the situations
met, and virtual seconds per real second. Exit 1 on a violation, 3 when a situation was met less than ``--least`` times:
then the run says nothing about it.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.simulation import http_scenario, plans, situations, sweep
from tests.simulation.scenario import Run
from tests.simulation.settings import swarm
from tests.simulation.world import Violation, World

CORPUS = Path(__file__).parent / "corpus"

FAILED = 1
TOO_FEW = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    virtual: float
    cpu: float
    faults: dict[str, int]
    met: dict[str, int]
    violation: str | None
    summary: str


def one_seed(seed: int, seconds: float) -> Outcome:
    """Run in a worker process: a drawn run, one over HTTP, or a schedule of the corpus with this seed."""
    started = time.process_time()
    schedule = schedule_of(seed)
    if schedule is not None:
        plan = plans.load(schedule)
        seconds = plan.seconds
        run: Run = plans.PlannedRun(replace(plan, seed=seed), situations.WatchfulEngine)
    elif over_http(seed):
        run = http_scenario.drawn(seed, situations.WatchfulEngine)
    else:
        run = Run(seed, swarm(World(seed).stream("swarm")), situations.WatchfulEngine)
        seconds = run.settings.span(seconds)
    situations.watch(run)
    violation, summary = None, ""
    try:
        summary = str(run.run(seconds))
    except Violation as exc:
        violation = str(exc)
    outcome = Outcome(
        seed,
        run.world.now,
        time.process_time() - started,
        dict(run.nemesis.done),
        situations.met(run),
        violation,
        summary,
    )
    del run
    if seed % 4 == 0:
        gc.collect()
    return outcome


def over_http(seed: int) -> bool:
    """One run in eight has clients that come over HTTP."""
    return seed % 8 == 0


def schedule_of(seed: int) -> Path | None:
    """One run in eight is a schedule that aims at a single moment: draws alone hardly hit some of them."""
    if seed % 8 != 1:
        return None
    directed = [path for path in sorted(CORPUS.glob("*.json")) if '"when"' in path.read_text()]
    return directed[seed // 8 % len(directed)]


def how_to_replay(seed: int, seconds: float) -> str:
    schedule = schedule_of(seed)
    again = f"--seed {seed} --seconds {seconds:g}" if schedule is None else f"--plan {schedule} --seed {seed}"
    if schedule is None and over_http(seed):
        return f"  replay: python -m tests.simulation.run --http {again} --trace"
    return (
        f"  replay: python -m tests.simulation.run {again} --trace\n"
        f"  shrink: python -m tests.simulation.run {again} --record plan.json;\n"
        "          python -m tests.simulation.shrink plan.json --out small.json"
    )


def quiet_worker() -> None:
    """What an engine logs is expected here. Objects that live as long as the process are nothing to collect."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.disable()


@dataclass(slots=True)
class Totals:
    seeds: int = 0
    virtual: float = 0.0
    cpu: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    violations: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual += outcome.virtual
        self.cpu += outcome.cpu
        self.faults.update(outcome.faults)
        self.met.update(outcome.met)
        if outcome.violation is not None:
            self.violations.append(outcome)

    def table(self, least: int) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        lines = [f"faults: {faults or 'none'}", f"situations met (at least {least} each are wanted):"]
        for name in situations.SITUATIONS:
            count = self.met[name]
            lines.append(f"  {count:>8}  {name}{'' if count >= least else '   <-- too few'}")
        return "\n".join(lines)


def soak(first: int, real_seconds: float, virtual_seconds: float, jobs: int) -> Iterator[Outcome]:
    """Seeds from ``first`` on, ``jobs`` at a time, none begun after ``real_seconds``."""
    deadline = time.monotonic() + real_seconds
    seed = first
    with ProcessPoolExecutor(jobs, initializer=quiet_worker) as pool:
        running: set[Future[Outcome]] = set()
        while True:
            while len(running) < jobs and (time.monotonic() < deadline or seed == first):
                running.add(pool.submit(one_seed, seed, virtual_seconds))
                seed += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="real seconds [default: 600]")
    parser.add_argument("--virtual", type=float, default=20.0, help="virtual seconds with faults [default: 20]")
    parser.add_argument("--first", type=int, help="first seed [default: drawn]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [default: all cores]")
    parser.add_argument("--least", type=int, default=10, help="wanted of each situation [default: 10]")
    parser.add_argument("--verbose", action="store_true", help="print every seed")
    parser.add_argument("--no-sweep", action="store_true", help="leave the full crash sweep out")
    options = parser.parse_args()
    first = options.first if options.first is not None else random.SystemRandom().getrandbits(31)
    started, totals = time.monotonic(), Totals()
    _print(f"seeds from {first} on, {options.virtual:g} virtual seconds each, {options.jobs} processes")
    swept: list[str] = []
    if not options.no_sweep:
        counts, swept = sweep.sweep(sweep.Range(1, 0), options.jobs, options.seconds / 3)
        _print(f"crash sweep: {counts}")
    for outcome in soak(first, options.seconds - (time.monotonic() - started), options.virtual, options.jobs):
        totals.add(outcome)
        if outcome.violation is not None:
            _print(f"VIOLATION {outcome.violation}")
            _print(how_to_replay(outcome.seed, options.virtual))
        elif options.verbose:
            _print(f"seed {outcome.seed}: {outcome.summary}")
    elapsed = time.monotonic() - started
    _print(totals.table(options.least))
    _print(
        f"{totals.seeds} seeds from {first} to {first + totals.seeds - 1}, {len(totals.violations)} with a violation;"
        f" {totals.virtual:.0f} virtual seconds, {totals.virtual / elapsed:.0f} per real second,"
        f" {totals.virtual / max(totals.cpu, 1e-9):.0f} per CPU second of one core"
    )
    if totals.violations or swept:
        return FAILED
    return 0 if all(totals.met[name] >= options.least for name in situations.SITUATIONS) else TOO_FEW


if __name__ == "__main__":
    sys.exit(main())
