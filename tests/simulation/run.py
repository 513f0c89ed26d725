"""``python -m tests.simulation.run --seed N --seconds S``: simulate, print what happened, exit 1 on a violation.

Without ``--seed`` seeds are drawn for as long as ``--minutes`` says. The seed is printed first: with it the same run
happens again, on any machine. ``--record FILE`` writes the run as a plan, ``--plan FILE`` runs one (``plans``).
With ``--http`` the clients come over HTTP (``http_scenario``); of such runs there are no plans.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.simulation import http_scenario, plans
from tests.simulation.plants import planted
from tests.simulation.scenario import Report, Run
from tests.simulation.settings import swarm
from tests.simulation.world import Violation, World


def drawn(seed: int) -> Run:
    """The run that a seed stands for."""
    return Run(seed, swarm(World(seed).stream("swarm")))


def simulate(seed: int, seconds: float, *, echo: bool = False, over_http: bool = False) -> Report:
    """Raises ``Violation``, with the last of the trace in its notes."""
    run = http_scenario.drawn(seed) if over_http else drawn(seed)
    if echo:
        run.world.trace.echo = _print
    with explained(run, f"{'--http ' if over_http else ''}--seed {seed} --seconds {seconds:g}"):
        return run.run(run.settings.span(seconds))


def replay(plan: plans.Plan, name: str, *, echo: bool = False) -> Report:
    """With the plan's planted bug, if it names one. Raises ``Violation``."""
    with planted(plan.plant):
        run = plans.PlannedRun(plan)
        if echo:
            run.world.trace.echo = _print
        with explained(run, f"--plan {name}"):
            return run.run(plan.seconds)


@contextlib.contextmanager
def explained(run: Run, arguments: str) -> Iterator[None]:
    try:
        yield
    except Violation as violation:
        violation.add_note(f"settings: {run.settings.describe()}")
        violation.add_note("\n".join(list(run.world.trace.lines)[-60:]))
        violation.add_note(f"replay: python -m tests.simulation.run {arguments} --trace")
        raise


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _record(seed: int, seconds: float, path: Path) -> int:
    run = drawn(seed)
    seconds = run.settings.span(seconds)
    violation = ""
    try:
        _print(f"  {run.run(seconds)}")
    except Violation as exc:
        violation = str(exc)
        _print(f"  VIOLATION {violation}")
    path.write_text(plans.dumps(plans.recorded(run, seconds)))
    _print(f"wrote {path}")
    return 1 if violation else 0


def _replay(path: Path, *, seed: int | None, record: Path | None, echo: bool) -> int:
    plan = plans.load(path)
    if seed is not None:
        plan = replace(plan, seed=seed)
    if record is not None:
        record.write_text(plans.dumps(plan))
    _print(f"{path}: {plan.summary()}")
    try:
        _print(f"  {replay(plan, str(path), echo=echo)}")
    except Violation as violation:
        _print(f"  VIOLATION {violation}\n" + "\n".join(violation.__notes__))
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--first", type=int, help="run seeds from this one on [default: drawn]")
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds with faults [default: 60]")
    parser.add_argument("--minutes", type=float, default=1.0, help="real minutes to draw seeds for [default: 1]")
    parser.add_argument("--trace", action="store_true", help="print every event of interest")
    parser.add_argument("--plan", type=Path, help="run the plan in this file, with --seed if that is given")
    parser.add_argument("--record", type=Path, help="write the run to this file, as a plan")
    parser.add_argument("--http", action="store_true", help="clients come over HTTP, and lose answers")
    options = parser.parse_args()
    if options.http and (options.plan is not None or options.record is not None):
        parser.error("--http: there are no plans of runs over HTTP")
    if options.plan is not None:
        return _replay(options.plan, seed=options.seed, record=options.record, echo=options.trace)
    started, cpu, virtual, bad, count = time.monotonic(), time.process_time(), 0.0, 0, 0
    seed = options.seed if options.seed is not None else options.first
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    if options.record is not None:
        _print(f"seed {seed}")
        return _record(seed, options.seconds, options.record)
    while True:
        _print(f"seed {seed}")
        try:
            report = simulate(seed, options.seconds, echo=options.trace, over_http=options.http)
            virtual += report.seconds
            _print(f"  {report}")
        except Violation as violation:
            bad += 1
            _print(f"  VIOLATION {violation}")
            if options.seed is not None:
                _print("\n".join(violation.__notes__))
        count += 1
        seed += 1
        if options.seed is not None or time.monotonic() - started > options.minutes * 60:
            break
    elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
    _print(
        f"{count} seeds, {bad} bad, {virtual:.0f} virtual seconds, {virtual / elapsed:.0f} per real second,"
        f" {virtual / cpu:.0f} per CPU second"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
