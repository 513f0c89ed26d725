"""A run as a file: seed, settings, clients, and every fault with its time. Any run can be written down as one, and the
same plan is the same run (``test_plans``).

    {"format": 1, "seed": 7, "seconds": 12.0, "settings": {"request_ids": 1.0},
     "clients": [{"name": "c0", "operations_max": 5}], "owners": ["owner0"],
     "events": [{"at": 2.5, "do": "kill", "args": {"node": "leader"}},
                {"when": "n1.receiving", "do": "power-cut", "args": {"nodes": ["n1"]}}]}

``at``: virtual seconds; with ``when`` (``predicates``) the event waits for the first turn of any node from then on in
which that holds, and happens once. ``settings`` holds what differs from the defaults. ``do``: the verbs of ``actions``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.simulation.actions import Value
from tests.simulation.clients import Client
from tests.simulation.faults import restart_delays
from tests.simulation.invariants import ObservedEngine
from tests.simulation.lease_owners import LeaseOwner
from tests.simulation.predicates import Predicate, parse
from tests.simulation.scenario import Run
from tests.simulation.settings import FAULT_KINDS, Settings

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEvent:
    do: str
    args: Mapping[str, Value] = field(default_factory=dict)
    at: float = 0.0
    when: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedClient:
    name: str
    operations_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int | str
    seconds: float
    """With faults and clients; the run then calms down and is checked."""
    settings: Settings = field(default_factory=Settings)
    clients: tuple[PlannedClient, ...] = ()
    owners: tuple[str, ...] = ()
    events: tuple[PlannedEvent, ...] = ()
    about: str = ""
    plant: str = ""
    """The planted bug that it shows (``plants``); without it the plan must pass."""

    def summary(self) -> str:
        return (
            f"{len(self.events)} events, {len(self.clients)} clients, {len(self.owners)} lease owners,"
            f" {self.seconds:.2f} s, {len(_differences(self.settings, Settings()))} settings"
        )


class PlannedRun(Run):
    """A run whose clients and faults are listed."""

    def __init__(self, plan: Plan, engine_class: type[ObservedEngine] = ObservedEngine) -> None:
        settings = replace(plan.settings, network=replace(plan.settings.network), clients=0, lease_owners=0, faults=())
        super().__init__(plan.seed, settings, engine_class)
        self.plan = plan
        for planned in plan.clients:
            client = Client(planned.name, self.door, self.history, settings.think)
            client.operations_left = planned.operations_max
            self.clients.append(client)
        rates_vary = any(event.do == "clock-rate" for event in plan.events)
        for name in plan.owners:
            owner = LeaseOwner(name, self.door, None if rates_vary else settings.clock_drift)
            self.owners.append(owner)
            self.cluster.watch.on_deleted.append(owner.on_deleted)
        self.nemesis = _Player(self, plan)


class _Player:
    """Does what a plan lists. A ``faults.Faults``."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self.done: Counter[str] = Counter()
        self._run = run
        self._world = run.world
        self._timed = [event for event in plan.events if event.when is None]
        self._waiting: list[tuple[PlannedEvent, Predicate]] = [
            (event, parse(event.when)) for event in plan.events if event.when is not None
        ]
        run.cluster.restart_after = restart_delays(run.cluster)

    def start(self) -> None:
        for event in self._timed:
            self._world.after(event.at - self._world.now, partial(self._do, event))
        if self._waiting:
            self._run.cluster.watch.on_turn.append(self._look)

    def stop(self) -> None:
        self._waiting = []

    def _look(self) -> None:
        for item in list(self._waiting):
            event, holds = item
            if self._world.now >= event.at and holds(self._run.cluster):
                self._waiting.remove(item)
                # Not here: here is inside a node.
                self._world.soon(partial(self._do, event))

    def _do(self, event: PlannedEvent) -> None:
        self.done[event.do] += 1
        self._run.actions.do(event.do, **event.args)


def recorded(run: Run, seconds: float) -> Plan:
    """What ``run`` did so far, as a plan of so many seconds."""
    return Plan(
        seed=run.world.seed,
        seconds=seconds,
        settings=run.settings,
        clients=tuple(PlannedClient(name=client.name) for client in run.clients),
        owners=tuple(owner.name for owner in run.owners),
        events=tuple(PlannedEvent(at=done.at, do=done.do, args=done.args) for done in run.actions.log),
    )


# JSON


def dumps(plan: Plan) -> str:
    """One event per line, so that a difference of two plans can be read."""
    events = []
    for event in plan.events:
        timing: dict[str, Any] = {} if event.when and not event.at else {"at": event.at}
        if event.when is not None:
            timing["when"] = event.when
        events.append(json.dumps({**timing, "do": event.do, "args": dict(event.args)}))
    clients = [
        {"name": client.name} | ({} if client.operations_max is None else {"operations_max": client.operations_max})
        for client in plan.clients
    ]
    head = {
        "format": FORMAT,
        "about": plan.about,
        "plant": plan.plant,
        "seed": plan.seed,
        "seconds": plan.seconds,
        "settings": _differences(plan.settings, Settings()),
        "clients": clients,
        "owners": list(plan.owners),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    listed = ",\n".join(f"    {event}" for event in events)
    return "{\n" + "\n".join(lines) + '\n  "events": [' + (f"\n{listed}\n  " if events else "") + "]\n}\n"


def loads(text: str) -> Plan:
    """Raises ``ValueError`` that names the field."""
    data = _object("plan", json.loads(text), {"format", *(f.name for f in fields(Plan))})
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"format: must be {FORMAT}")
    for name in ("seed", "seconds"):
        if name not in data:
            raise ValueError(f"{name}: is missing")
    data["settings"] = _settings("settings", Settings(), data.get("settings", {}))
    data["clients"] = tuple(
        PlannedClient(**_object("clients", item, {"name", "operations_max"})) for item in data.get("clients", ())
    )
    data["owners"] = tuple(data.get("owners", ()))
    data["events"] = tuple(_event(item) for item in data.get("events", ()))
    return Plan(**data)


def load(path: Path) -> Plan:
    try:
        return loads(path.read_text())
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _event(item: object) -> PlannedEvent:
    event = PlannedEvent(**_object("events", item, {f.name for f in fields(PlannedEvent)}))
    if event.when is not None:
        parse(event.when)
    return event


def _object(name: str, item: object, allowed: set[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"{name}: an object is needed, not {item!r}")
    unknown = set(item) - allowed
    if unknown:
        raise ValueError(f"{name}: {', '.join(sorted(unknown))}: only {', '.join(sorted(allowed))} exist")
    return dict(item)


def _differences(value: Any, default: Any) -> dict[str, Any]:
    """The fields of a settings object that are not as in ``default``."""
    found: dict[str, Any] = {}
    for item in fields(value):
        own, usual = getattr(value, item.name), getattr(default, item.name)
        if own == usual:
            continue
        found[item.name] = _differences(own, usual) if is_dataclass(own) else own
    return found


def _settings(name: str, default: Any, given: object) -> Any:
    values = _object(name, given, {item.name for item in fields(default)})
    for key, value in values.items():
        usual = getattr(default, key)
        if is_dataclass(usual):
            values[key] = _settings(f"{name}.{key}", usual, value)
        elif key == "faults":
            unknown = set(value) - set(FAULT_KINDS)
            if unknown:
                raise ValueError(f"{name}.faults: {', '.join(sorted(unknown))}: only {', '.join(FAULT_KINDS)} exist")
            values[key] = tuple(value)
        elif isinstance(value, bool) != isinstance(usual, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}.{key}: {value!r} is not of the kind of {usual!r}")
    return replace(default, **values)
