"""``python -m tests.simulation.run --seed N --seconds S``: simulate, print what happened, exit 1 on a violation.

Without ``--seed`` seeds are drawn for as long as ``--minutes`` says. The seed is printed first: with it the same run
happens again, on any machine.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.simulation.scenario import Report, Run
from tests.simulation.settings import swarm
from tests.simulation.world import Violation, World


def simulate(seed: int, seconds: float, *, echo: bool = False) -> Report:
    """Raises ``Violation``, with the last of the trace in its notes."""
    run = Run(seed, swarm(World(seed).stream("swarm")))
    if echo:
        run.world.trace.echo = _print
    try:
        return run.run(seconds)
    except Violation as violation:
        violation.add_note(f"settings: {run.settings.describe()}")
        violation.add_note("\n".join(list(run.world.trace.lines)[-60:]))
        violation.add_note(f"replay: python -m tests.simulation.run --seed {seed} --seconds {seconds:g} --trace")
        raise


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--first", type=int, help="run seeds from this one on [default: drawn]")
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds with faults [default: 60]")
    parser.add_argument("--minutes", type=float, default=1.0, help="real minutes to draw seeds for [default: 1]")
    parser.add_argument("--trace", action="store_true", help="print every event of interest")
    options = parser.parse_args()
    started, virtual, bad, count = time.monotonic(), 0.0, 0, 0
    seed = options.seed if options.seed is not None else options.first
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    while True:
        _print(f"seed {seed}")
        try:
            report = simulate(seed, options.seconds, echo=options.trace)
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
    elapsed = time.monotonic() - started
    _print(f"{count} seeds, {bad} bad, {virtual:.0f} virtual seconds, {virtual / elapsed:.0f} per real second")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
