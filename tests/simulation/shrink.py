"""``python -m tests.simulation.shrink PLAN --out FILE``: the smallest schedule that still breaks the same promise.

Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002) over the events, then
over the clients and the links and nodes inside events; then fewer operations, times on a coarse grid, settings at their
defaults. A step is kept when the plan still fails with the same kind of violation. Bounded by runs and by time; what is
smallest by then is written, beside a ready test.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.simulation import plans
from tests.simulation.plans import Plan, PlannedEvent, PlannedRun
from tests.simulation.plants import planted
from tests.simulation.settings import Settings
from tests.simulation.world import Violation

T = TypeVar("T")

GRIDS = (1.0, 0.5, 0.1, 0.05, 0.01)
"""Seconds. Times are rounded to the first of these that still fails."""

AFTER_VIOLATION = 0.25
"""Seconds that a plan goes on beyond the violation it shows: a smaller one may show it a little later."""

_OPERATION = re.compile(r"#\d+ .*?\] (?:ok|fail|info) at revision \d+ by n\d+")
_QUOTED = re.compile(r"\[[^\]]*\]|\([^)]*\)|'[^']*'|b\"[^\"]*\"")
_NAME = re.compile(r"\b(?:n\d+|c\d+-\d+|c\d+|owner\d+(?:-\d+)?)\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def kind_of(violation: str) -> str:
    """Which promise is broken, without names, numbers and times."""
    text = violation.split(": ", 1)[-1].splitlines()[0]
    for pattern, sign in ((_OPERATION, "<op>"), (_QUOTED, "<list>"), (_NAME, "<name>"), (_NUMBER, "<n>")):
        text = pattern.sub(sign, text)
    return text


@dataclass(frozen=True, slots=True)
class Failure:
    text: str
    at: float
    while_faults: bool
    """It was seen before the calm."""


def failure_of(plan: Plan, *, to_the_end: bool = True) -> Failure | None:
    """Run ``plan`` with its planted bug. Not ``to_the_end``: without calm and final checks."""
    with planted(plan.plant):
        run = PlannedRun(plan)
        try:
            run.start()
            run.world.run_for(plan.seconds)
            if to_the_end:
                run.finish()
        except Violation as violation:
            return Failure(str(violation), run.world.now, run.world.now <= plan.seconds)
    return None


def ddmin(items: tuple[T, ...], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """A part of ``items`` of which no single one can be left out. ``fails(items)`` is taken for granted."""
    if fails(()):
        return ()
    chunks = 2
    while len(items) >= 2:
        size = -(-len(items) // chunks)
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        for number, part in enumerate(parts):
            rest = tuple(item for other, part_ in enumerate(parts) if other != number for item in part_)
            if len(parts) > 2 and fails(part):
                items, chunks = part, 2
                break
            if fails(rest):
                items, chunks = rest, max(chunks - 1, 2)
                break
        else:
            if size == 1:
                break
            chunks = min(len(items), chunks * 2)
    return items


class _OutOfBudget(Exception):
    pass


class Shrinker:
    """``plan`` is the smallest known plan that fails as the first one did."""

    def __init__(
        self,
        plan: Plan,
        *,
        accepts: Callable[[str], bool] | None = None,
        runs_max: int = 1000,
        seconds_max: float = 300.0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``accepts``: which violations count as the same; by default those of the first one's kind. Raises
        ``ValueError`` if ``plan`` does not fail."""
        failure = failure_of(plan)
        if failure is None:
            raise ValueError("the plan does not fail, there is nothing to shrink")
        kind = kind_of(failure.text)
        self.plan = plan
        self.failure = failure
        self.runs = 0
        self._accepts = accepts or (lambda text: kind_of(text) == kind)
        self._runs_max = runs_max
        self._deadline = time.monotonic() + seconds_max
        self._say = say
        self._say(f"{failure.text}\n{plan.summary()}")
        self._keep(plan, failure)

    def shrink(self) -> Plan:
        """Every step until none helps any more, or the budget ends."""
        steps = (self._events, self._clients, self._operations, self._arguments, self._times, self._settings)
        try:
            before = None
            while before != self.plan:
                before = self.plan
                for step in steps:
                    step()
                    self._say(f"{step.__name__[1:]:>10}: {self.plan.summary()}  ({self.runs} runs)")
        except _OutOfBudget:
            self._say(f"budget used up after {self.runs} runs: {self.plan.summary()}")
        return self.plan

    def _fails(self, plan: Plan) -> bool:
        """Try ``plan``; keep it if it fails in the same way."""
        if self.runs >= self._runs_max or time.monotonic() >= self._deadline:
            raise _OutOfBudget
        self.runs += 1
        failure = failure_of(plan, to_the_end=not self.failure.while_faults)
        if failure is None or not self._accepts(failure.text):
            return False
        self._keep(plan, failure)
        return True

    def _keep(self, plan: Plan, failure: Failure) -> None:
        self.failure = failure
        if failure.while_faults:
            seconds = min(plan.seconds, failure.at + AFTER_VIOLATION)
            events = tuple(event for event in plan.events if event.at <= seconds)
            plan = replace(plan, seconds=seconds, events=events)
        self.plan = plan

    # the steps

    def _events(self) -> None:
        ddmin(self.plan.events, lambda events: self._fails(replace(self.plan, events=events)))

    def _clients(self) -> None:
        ddmin(self.plan.owners, lambda owners: self._fails(replace(self.plan, owners=owners)))
        ddmin(self.plan.clients, lambda clients: self._fails(replace(self.plan, clients=clients)))

    def _operations(self) -> None:
        for number in range(len(self.plan.clients)):
            most = self.plan.clients[number].operations_max or 256
            while most > 1 and self._fails(self._with_client(number, most // 2)):
                most //= 2
            step = most // 4
            while step:
                fewer = (self.plan.clients[number].operations_max or most) - step
                if fewer < 1 or not self._fails(self._with_client(number, fewer)):
                    step //= 2

    def _with_client(self, number: int, operations_max: int) -> Plan:
        clients = list(self.plan.clients)
        clients[number] = replace(clients[number], operations_max=operations_max)
        return replace(self.plan, clients=tuple(clients))

    def _arguments(self) -> None:
        """Lists of links and nodes inside the events."""
        for number, event in enumerate(self.plan.events):
            for name, value in event.args.items():
                if isinstance(value, list) and len(value) > 1:

                    def fails(part: tuple[str, ...], number: int = number, name: str = name) -> bool:
                        changed = self.plan.events[number]
                        return bool(part) and self._fails(
                            self._with_event(number, replace(changed, args={**changed.args, name: list(part)}))
                        )

                    ddmin(tuple(value), fails)

    def _times(self) -> None:
        if self._snapped(range(len(self.plan.events))):
            return
        for number in range(len(self.plan.events)):
            self._snapped((number,))

    def _snapped(self, numbers: range | tuple[int, ...]) -> bool:
        for grid in GRIDS:
            events = list(self.plan.events)
            for number in numbers:
                events[number] = replace(events[number], at=round(round(events[number].at / grid) * grid, 6))
            if tuple(events) == self.plan.events or self._fails(replace(self.plan, events=tuple(events))):
                return True
        return False

    def _settings(self) -> None:
        for settings in _closer_to_default(self.plan.settings):
            # A field was set back meanwhile or not: take only this one's change.
            self._fails(replace(self.plan, settings=settings(self.plan.settings)))

    def _with_event(self, number: int, event: PlannedEvent) -> Plan:
        events = list(self.plan.events)
        events[number] = event
        return replace(self.plan, events=tuple(events))


def _closer_to_default(settings: Settings) -> Iterator[Callable[[Settings], Settings]]:
    """One change per field that differs from its default; fields that a plan does not use are set back at once."""

    def change(path: tuple[str, ...]) -> Callable[[Settings], Settings]:
        return lambda current: _reset(current, Settings(), path)

    for path in _paths(settings, Settings()):
        if path[0] != "members":  # events name them
            yield change(path)


def _paths(value: Any, default: Any) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for item in fields(value):
        own, usual = getattr(value, item.name), getattr(default, item.name)
        if own != usual:
            deeper = _paths(own, usual) if is_dataclass(own) else [()]
            found += [(item.name, *path) for path in deeper]
    return found


def _reset(value: Any, default: Any, path: tuple[str, ...]) -> Any:
    name, *rest = path
    usual = getattr(default, name)
    return replace(value, **{name: _reset(getattr(value, name), usual, tuple(rest)) if rest else usual})


TEST = '''"""{text}"""

from __future__ import annotations

from pathlib import Path

from tests.simulation import plans
from tests.simulation.run import replay


def test_{name}() -> None:
    """Found by simulation, shrunk to {events} events. Kind: {kind}"""
    replay(plans.load(Path(__file__).parent / "corpus" / "{file}"), "{file}")
'''


def write(plan: Plan, failure: Failure, out: Path) -> None:
    """The plan, and beside it (``.py``) a test that passes when the promise is kept."""
    about = plan.about or failure.text
    out.write_text(plans.dumps(replace(plan, about=about)))
    name = re.sub(r"\W+", "_", out.stem)
    text = TEST.format(
        text=failure.text.replace('"', "'"),
        name=name,
        events=len(plan.events),
        kind=kind_of(failure.text).replace('"', "'"),
        file=out.name,
    )
    out.with_suffix(".py").write_text(text)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.shrink", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where to write the smaller plan")
    parser.add_argument("--runs", type=int, default=1000, help="most runs [default: 1000]")
    parser.add_argument("--minutes", type=float, default=5.0, help="most real minutes [default: 5]")
    parser.add_argument("--plant", help="the planted bug to run with [default: the plan's]")
    parser.add_argument("--accept", help="violations that match this count as the same [default: of the same kind]")
    options = parser.parse_args()
    plan = plans.load(options.plan)
    if options.plant is not None:
        plan = replace(plan, plant=options.plant)
    pattern = options.accept
    shrinker = Shrinker(
        plan,
        accepts=None if pattern is None else lambda text: re.search(pattern, text) is not None,
        runs_max=options.runs,
        seconds_max=options.minutes * 60,
        say=_say,
    )
    shrinker.shrink()
    write(shrinker.plan, shrinker.failure, options.out)
    _say(f"wrote {options.out}: {shrinker.failure.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
