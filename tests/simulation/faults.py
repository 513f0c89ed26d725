"""The nemesis: draws faults from the seed, does them to the cluster, and undoes each after a while.

Everything it does is an action with plain arguments, so that ``actions.log`` afterwards is the whole schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import permutations
from random import Random
from typing import Protocol

from tests.simulation.actions import Actions
from tests.simulation.cluster import Cluster
from tests.simulation.settings import FaultKind, log_uniform

Links = list[tuple[str, str]]


class Faults(Protocol):
    """Where the trouble of a run comes from: drawn (``Nemesis``) or listed (``plans``)."""

    done: Counter[str]

    def start(self) -> None: ...

    def stop(self) -> None:
        """No new faults. What is under way ends by itself."""


def restart_delay(rng: Random) -> float:
    """How long a node that ended stays away. Most restarts are quick, as a supervisor's are: old messages are then
    still on their way."""
    return log_uniform(rng, 0.002, 2.0)


def restart_delays(cluster: Cluster) -> Callable[[], float]:
    """Those after crashes, which no schedule lists: from a stream that a drawn and a listed run use alike."""
    return partial(restart_delay, cluster.world.stream("restarts"))


class Nemesis:
    def __init__(
        self, actions: Actions, cluster: Cluster, kinds: tuple[FaultKind, ...], pause: float, length: float
    ) -> None:
        """``pause``, ``length``: mean seconds between two faults and until one is undone."""
        self.done: Counter[str] = Counter()
        self._actions = actions
        self._cluster = cluster
        self._world = cluster.world
        self._rng = cluster.world.stream("faults")
        self._kinds = kinds
        self._pause = pause
        self._length = length
        self._stopped = False
        cluster.restart_after = restart_delays(cluster)
        self._faults: dict[FaultKind, Callable[[], None]] = {
            "isolate": self._isolate,
            "split": self._split,
            "one-way": self._one_way,
            "bridge": self._bridge,
            "reset": self._reset,
            "slow-network": self._slow_network,
            "kill": self._kill,
            "kill-in-disk-job": partial(self._crash_in_disk_job, power=False),
            "power-cut": self._power_cut,
            "power-cut-all": self._power_cut_all,
            "stop": self._stop_node,
            "pause": self._pause_node,
            "slow-disk": self._slow_disk,
            "failing-disk": self._failing_disk,
            "snapshot": self._snapshot,
            "clock-rate": self._clock_rate,
            "resign": self._resign,
            "replace-disk": self._replace_disk,
        }

    def start(self) -> None:
        if self._kinds:
            self._later()

    def stop(self) -> None:
        self._stopped = True

    def _later(self) -> None:
        self._world.after(self._rng.expovariate(1 / self._pause), self._strike)

    def _strike(self) -> None:
        if self._stopped:
            return
        rest = self._cluster.settings.rest(self._world.now)
        if rest:
            self._world.after(rest, self._later)
            return
        kind = self._rng.choice(self._kinds)
        self.done[kind] += 1
        self._faults[kind]()
        self._later()

    # choices

    def _victim(self) -> str:
        """The leader twice as often as it would come by itself: most of what can go wrong goes through it."""
        leader = self._cluster.leader()
        if leader is not None and self._rng.random() < 0.4:
            return leader
        return self._rng.choice(self._cluster.members)

    def _duration(self) -> float:
        return self._rng.expovariate(1 / self._length)

    # the network

    def _cut(self, links: Links) -> None:
        self._actions.do("cut", links=_texts(links))
        # Restored together, or one by one in any order.
        duration = self._duration()
        together: Links = []
        for link in links:
            if self._rng.random() < 0.3:
                self._actions.later(duration + self._rng.random() * 0.2, "heal", links=_texts([link]))
            else:
                together.append(link)
        self._actions.later(duration, "heal", links=_texts(together))

    def _between(self, side: set[str]) -> Links:
        return [(a, b) for a, b in permutations(self._cluster.members, 2) if (a in side) != (b in side)]

    def _isolate(self) -> None:
        self._cut(self._between({self._victim()}))

    def _split(self) -> None:
        size = self._rng.randint(1, len(self._cluster.members) - 1)
        self._cut(self._between(set(self._rng.sample(self._cluster.members, size))))

    def _one_way(self) -> None:
        victim = self._victim()
        links = [(a, b) for a, b in self._between({victim}) if a == victim]
        if self._rng.random() < 0.5:
            links = [(b, a) for a, b in links]  # deaf instead of mute
        if self._rng.random() < 0.3:
            links = links[:1]
        self._cut(links)

    def _bridge(self) -> None:
        """Two sides that see each other through one node only."""
        bridge, *others = self._rng.sample(self._cluster.members, len(self._cluster.members))
        half = set(others[: len(others) // 2])
        self._cut([(a, b) for a, b in self._between(half) if bridge not in (a, b)])

    def _reset(self) -> None:
        victim = self._victim()
        links = [link for link in permutations(self._cluster.members, 2) if victim in link]
        self._actions.do("reset", links=_texts(self._rng.sample(links, self._rng.randint(1, len(links)))))

    def _slow_network(self) -> None:
        self._actions.do("latency", most=log_uniform(self._rng, 0.02, 0.4))
        self._actions.later(self._duration(), "latency", most=None)

    # processes

    def _kill(self) -> None:
        victim = self._victim()
        self._actions.do("kill", node=victim)
        self._start_later(victim)

    def _stop_node(self) -> None:
        victim = self._victim()
        self._actions.do("stop", node=victim)
        self._start_later(victim)

    def _start_later(self, name: str) -> None:
        self._actions.later(restart_delay(self._rng), "start", node=name)

    def _resign(self) -> None:
        """Half of the time it stays up, else it stops as a service manager stops it."""
        victim = self._cluster.leader() or self._victim()
        self._actions.do("resign", node=victim, stop=self._rng.random() < 0.5)

    def _pause_node(self) -> None:
        victim = self._victim()
        self._actions.do("pause", node=victim)
        self._actions.later(self._duration(), "resume", node=victim)

    def _power_cut(self) -> None:
        if self._rng.random() < 0.5:
            self._crash_in_disk_job(power=True)
            return
        victim = self._victim()
        self._actions.do("power-cut", nodes=[victim])
        self._start_later(victim)

    def _power_cut_all(self) -> None:
        self._actions.do("power-cut", nodes=list(self._cluster.members))
        for name in self._cluster.members:
            self._start_later(name)

    # disks and clocks

    def _crash_in_disk_job(self, *, power: bool) -> None:
        operations = self._rng.randint(1, 30)
        torn_bytes = self._rng.choice((None, 0, 1, 17, 300))
        self._actions.do(
            "crash-in-disk-job", node=self._victim(), operations=operations, torn_bytes=torn_bytes, power=power
        )

    def _replace_disk(self) -> None:
        victim = self._victim()
        self._actions.do("replace-disk", node=victim)
        self._start_later(victim)

    def _slow_disk(self) -> None:
        victim = self._victim()
        self._actions.do("disk-delay", node=victim, seconds=log_uniform(self._rng, 0.02, 2.0))
        self._actions.later(self._duration(), "disk-delay", node=victim, seconds=0.0)

    def _failing_disk(self) -> None:
        self._actions.do("disk-fail", node=self._victim(), operation=self._rng.choice(("write", "sync")))

    def _snapshot(self) -> None:
        self._actions.do("snapshot", node=self._victim())

    def _clock_rate(self) -> None:
        victim = self._victim()
        self._actions.do("clock-rate", node=victim, rate=log_uniform(self._rng, 0.5, 2.0))
        self._actions.later(self._duration(), "clock-rate", node=victim, rate=None)


def _texts(links: Links) -> list[str]:
    return [f"{source}>{target}" for source, target in links]
