"""What can be done to a cluster in a run, one verb each, with arguments that JSON can hold.

The nemesis draws actions, a plan lists them; both do them here, so what one run did can be written down and done again
(``plans``). An action that has no object any more (a node that does not run, a link that is not cut) does nothing.

Fault atlas: what may be done together without making a violation meaningless. Everything may, except that a disk whose
synced content is gone (``replace-disk``) is granted only to a minority of machines in one run, one at a time, and only
on a cluster that has been founded. More than that no protocol of majorities survives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from tests.simulation.cluster import Cluster, Machine

Value: TypeAlias = "str | int | float | bool | list[str] | None"
Args: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Done:
    """One action as it was done."""

    at: float
    do: str
    args: dict[str, Value] = field(default_factory=dict)


class Actions:
    """``do`` is the only way in. ``log`` holds everything done, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self.log: list[Done] = []
        self._cluster = cluster
        self._world = cluster.world
        self._replaced: set[str] = set()
        self._verbs: dict[str, Callable[[_Arguments], None]] = {
            "cut": self._cut,
            "heal": self._heal,
            "reset": self._reset,
            "latency": self._latency,
            "start": lambda args: cluster.start(args.node()),
            "kill": lambda args: cluster.kill(args.node()),
            "stop": lambda args: cluster.stop(args.node()),
            "pause": lambda args: cluster.pause(args.node()),
            "resume": lambda args: cluster.resume(args.node()),
            "resign": self._resign,
            "power-cut": lambda args: cluster.power_cut(*args.nodes()),
            "crash-in-disk-job": self._crash_in_disk_job,
            "replace-disk": self._replace_disk,
            "disk-delay": self._disk_delay,
            "disk-fail": lambda args: cluster.fail_disk(args.node(), args.text("operation")),
            "snapshot": lambda args: cluster.take_snapshot(args.node()),
            "clock-rate": self._clock_rate,
        }

    @property
    def verbs(self) -> Iterable[str]:
        return self._verbs.keys()

    def do(self, verb: str, **args: Value) -> None:
        """Now. Raises ``ValueError`` for a verb or an argument that does not exist."""
        if verb not in self._verbs:
            raise ValueError(f"do: {verb!r} is not one of {', '.join(self._verbs)}")
        self.log.append(Done(self._world.now, verb, dict(args)))
        self._verbs[verb](_Arguments(verb, args, self._cluster))

    def later(self, delay: float, verb: str, **args: Value) -> None:
        self._world.after(delay, partial(self.do, verb, **args))

    # the network

    def _cut(self, args: _Arguments) -> None:
        links = args.links()
        self._world.note("cut " + " ".join(f"{a}>{b}" for a, b in links))
        for source, target in links:
            self._cluster.network.cut(source, target)

    def _heal(self, args: _Arguments) -> None:
        for source, target in args.links():
            self._cluster.network.heal(source, target)

    def _reset(self, args: _Arguments) -> None:
        links = args.links()
        self._world.note("reset " + " ".join(f"{a}>{b}" for a, b in links))
        for source, target in links:
            self._cluster.network.reset(source, target)

    def _latency(self, args: _Arguments) -> None:
        """``most``: seconds; null: the usual one."""
        most = args.number("most")
        usual = self._cluster.network_latency_max
        self._cluster.network.settings.latency_max = usual if most is None else max(usual, most)
        if most is not None:
            self._world.note(f"network slow: up to {most:.3f} s")

    # processes

    def _resign(self, args: _Arguments) -> None:
        """Hand the leadership over, and ``stop`` then: as a service manager's stop does it."""
        self._cluster.resign(args.node(), stop=bool(args.args.get("stop")))

    def _crash_in_disk_job(self, args: _Arguments) -> None:
        torn, operations = args.number("torn_bytes"), args.number("operations")
        self._cluster.crash_in_disk_job(
            args.node(),
            operations=int(operations or 1),
            torn_bytes=None if torn is None else int(torn),
            power=bool(args.args.get("power")),
        )

    def _replace_disk(self, args: _Arguments) -> None:
        """The machine burns; its operator starts it with an empty disk and ``--rejoin``, if the atlas allows it."""
        name = args.node()
        cluster = self._cluster
        minority = (len(cluster.members) - 1) // 2
        if len(self._replaced | {name}) > minority or not all(map(_admitted, cluster.machines.values())):
            return
        self._replaced.add(name)
        cluster.power_cut(name)
        cluster.replace_disk(name)
        cluster.machines[name].rejoin = True

    # disks and clocks

    def _disk_delay(self, args: _Arguments) -> None:
        name, seconds = args.node(), args.number("seconds") or 0.0
        self._cluster.machines[name].speed.stalled = seconds
        if seconds:
            self._world.note(f"{name}: disk jobs take {seconds:.3f} s longer")

    def _clock_rate(self, args: _Arguments) -> None:
        """``rate``: seconds of the node's clock per second; null: its usual one."""
        machine, rate = self._cluster.machines[args.node()], args.number("rate")
        machine.clock.set_rate(machine.usual_rate if rate is None else rate)
        if rate is not None:
            self._world.note(f"{machine.name}: clock runs at {rate:.3f}")


def _admitted(machine: Machine) -> bool:
    return machine.engine is not None and bool(machine.engine.journal.founders)


@dataclass(frozen=True, slots=True)
class _Arguments:
    """Reads arguments; a target may be symbolic (``leader``, ``follower0``), so that a schedule survives a change."""

    verb: str
    args: Args
    cluster: Cluster

    def node(self) -> str:
        return self._resolve(self.text("node"))

    def nodes(self) -> list[str]:
        return [self._resolve(name) for name in self._list("nodes")]

    def links(self) -> list[tuple[str, str]]:
        pairs = []
        for link in self._list("links"):
            source, arrow, target = link.partition(">")
            if not arrow:
                raise ValueError(f"{self.verb}: links: {link!r} is not of the form n1>n2")
            pairs.append((self._resolve(source), self._resolve(target)))
        return [(source, target) for source, target in pairs if source != target]

    def text(self, name: str) -> str:
        value = self.args.get(name)
        if not isinstance(value, str):
            raise ValueError(f"{self.verb}: {name}: a text is needed, not {value!r}")
        return value

    def number(self, name: str) -> float | None:
        value = self.args.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{self.verb}: {name}: a number or null is needed, not {value!r}")
        return value

    def _list(self, name: str) -> list[str]:
        value = self.args.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{self.verb}: {name}: a list of texts is needed, not {value!r}")
        return value

    def _resolve(self, name: str) -> str:
        return resolve(self.cluster, name)


def resolve(cluster: Cluster, name: str) -> str:
    """A member's name, or ``leader``, ``follower0``, ``follower1`` … as things are now (without a leader: the first
    member counts as one). Raises ``ValueError``."""
    if name in cluster.machines:
        return name
    leader = cluster.leader() or cluster.members[0]
    if name == "leader":
        return leader
    followers = [member for member in cluster.members if member != leader]
    symbolic = {f"follower{number}": follower for number, follower in enumerate(followers)}
    if name not in symbolic:
        raise ValueError(f"node: {name!r} is not one of {', '.join([*cluster.members, 'leader', *symbolic])}")
    return symbolic[name]
