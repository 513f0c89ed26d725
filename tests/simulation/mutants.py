"""``python -m tests.simulation.mutants``: plant every bug, one at a time, and see which checker finds it.

Prints one line per mutant and ends with 1 if any of them survives its checker's budget.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import hypothesis  # imported once here instead of in the process of each test

from tests.simulation import (
    mutants_of_disk,
    mutants_of_leases,
    mutants_of_links,
    mutants_of_protection,
    mutants_of_raft,
    mutants_of_registry,
    mutants_of_requests,
)
from tests.simulation.mutant import MUTANTS, Named, Seeds, Verdict, judge

__all__ = [
    "FAST",
    "MUTANTS",
    "hypothesis",
    "mutants_of_disk",
    "mutants_of_leases",
    "mutants_of_links",
    "mutants_of_protection",
    "mutants_of_raft",
    "mutants_of_registry",
    "mutants_of_requests",
    "run",
]

SECONDS_MAX = 300.0
"""Real time after which a mutant counts as not found: it may loop for ever."""

SLOW = frozenset(
    (
        "acknowledge-a-snapshot-before-it-is-installed",
        "cut-a-damaged-middle",
        "never-step-the-clock",
        "tag-a-frame-without-its-place",
    )
)
"""Found, but not within about a second."""

FAST = tuple(name for name in MUTANTS if name not in SLOW)


def run(names: Iterable[str], *, jobs: int, known_first: bool = False) -> Iterator[Verdict]:
    """Verdicts as they come, each from a process of its own: modules imported under a plant keep its traces."""
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(list(names)))
    running: dict[Connection, tuple[str, BaseProcess, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(target=_judge, args=(name, known_first, sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = (name, process, time.monotonic())
        ready = wait(list(running), timeout=1.0)
        for receiver, (name, process, started) in list(running.items()):
            spent = time.monotonic() - started
            if receiver in ready:
                yield _received(receiver, name, spent)
            elif spent > SECONDS_MAX:
                process.terminate()
                yield Verdict(name, "", 0, spent)
            else:
                continue
            process.join()
            del running[receiver]


def _received(receiver: Connection, name: str, spent: float) -> Verdict:
    try:
        verdict = receiver.recv()
    except EOFError:
        return Verdict(name, "", 0, spent)  # its process ended without a word: that finds nothing
    assert isinstance(verdict, Verdict)
    return verdict


def _judge(name: str, known_first: bool, verdicts: Connection) -> None:
    if not os.environ.get("ARTEMIS_MUTANTS_VERBOSE"):
        logging.disable()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
    verdicts.send(judge(MUTANTS[name], known_first=known_first))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(MUTANTS), metavar="NAME", help="this one; repeatable")
    parser.add_argument("--fast", action="store_true", help="the quick ones, each from a seed known to find it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [default: one per core]")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    options = parser.parse_args()
    names = options.only or (FAST if options.fast else MUTANTS)
    survivors = []
    started = time.monotonic()
    if not options.json:
        _print(f"{'mutant':52} {'breaks':6} {'caught by':12} {'after':>18} {'budget':>9}  verdict")
    for verdict in run(names, jobs=options.jobs, known_first=options.fast):
        if not verdict.found:
            survivors.append(verdict.name)
        _print(json.dumps(asdict(verdict)) if options.json else line(verdict))
    if not options.json:
        _print(f"{len(names)} mutants, {len(survivors)} survived, {time.monotonic() - started:.0f} s")
    return 1 if survivors else 0


def line(verdict: Verdict) -> str:
    planted = MUTANTS[verdict.name]
    by = planted.by
    checker, budget = ("simulator", f"{by.budget} seeds") if isinstance(by, Seeds) else ("test", "1 run")
    tries = f"{verdict.tries} seeds, " if isinstance(by, Seeds) else ""
    after = f"{tries}{verdict.seconds:.1f} s"
    said = verdict.found.splitlines()[0][:110] if verdict.found else "SURVIVED"
    if isinstance(by, Named):
        said = f"{by.test.rpartition('::')[2] if verdict.found else said}"
    return f"{verdict.name:52} {planted.breaks:6} {checker:12} {after:>18} {budget:>9}  {said}"


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
