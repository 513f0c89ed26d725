"""The nemesis: draws faults from the seed, does them to the cluster, and undoes each after a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import permutations

from tests.simulation.cluster import Cluster
from tests.simulation.settings import FaultKind, log_uniform


class Nemesis:
    def __init__(self, cluster: Cluster, kinds: tuple[FaultKind, ...], pause: float, length: float) -> None:
        """``pause``, ``length``: mean seconds between two faults and until one is undone."""
        self.done: Counter[FaultKind] = Counter()
        self._cluster = cluster
        self._world = cluster.world
        self._rng = cluster.world.stream("faults")
        self._kinds = kinds
        self._pause = pause
        self._length = length
        self._stopped = False
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
        }
        cluster.restart_after = self._restart_delay

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

    def _restart_delay(self) -> float:
        """Most restarts are quick, as a supervisor's are: old messages are then still on their way."""
        return log_uniform(self._rng, 0.002, 2.0)

    # the network

    def _cut(self, pairs: list[tuple[str, str]]) -> None:
        self._world.note("cut " + " ".join(f"{a}>{b}" for a, b in pairs))
        for source, target in pairs:
            self._cluster.network.cut(source, target)
        # Restored one by one, in any order.
        duration = self._duration()
        for source, target in pairs:
            spread = self._rng.random() * 0.2 if self._rng.random() < 0.3 else 0.0
            self._world.after(duration + spread, partial(self._cluster.network.heal, source, target))

    def _between(self, side: set[str]) -> list[tuple[str, str]]:
        return [(a, b) for a, b in permutations(self._cluster.members, 2) if (a in side) != (b in side)]

    def _isolate(self) -> None:
        self._cut(self._between({self._victim()}))

    def _split(self) -> None:
        size = self._rng.randint(1, len(self._cluster.members) - 1)
        self._cut(self._between(set(self._rng.sample(self._cluster.members, size))))

    def _one_way(self) -> None:
        victim = self._victim()
        pairs = [(a, b) for a, b in self._between({victim}) if a == victim]
        if self._rng.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]  # deaf instead of mute
        if self._rng.random() < 0.3:
            pairs = pairs[:1]
        self._cut(pairs)

    def _bridge(self) -> None:
        """Two sides that see each other through one node only."""
        bridge, *others = self._rng.sample(self._cluster.members, len(self._cluster.members))
        half = set(others[: len(others) // 2])
        self._cut([(a, b) for a, b in self._between(half) if bridge not in (a, b)])

    def _reset(self) -> None:
        victim = self._victim()
        pairs = [pair for pair in permutations(self._cluster.members, 2) if victim in pair]
        for source, target in self._rng.sample(pairs, self._rng.randint(1, len(pairs))):
            self._cluster.network.reset(source, target)
        self._world.note(f"connections of {victim} break")

    def _slow_network(self) -> None:
        network = self._cluster.network.settings
        usual = self._cluster.network_latency_max
        network.latency_max = max(usual, log_uniform(self._rng, 0.02, 0.4))
        self._world.note(f"network slow: up to {network.latency_max:.3f} s")

        def again() -> None:
            network.latency_max = usual

        self._world.after(self._duration(), again)

    # processes

    def _kill(self) -> None:
        victim = self._victim()
        self._cluster.kill(victim)
        self._world.after(self._restart_delay(), partial(self._cluster.start, victim))

    def _stop_node(self) -> None:
        victim = self._victim()
        self._cluster.stop(victim)
        self._world.after(self._restart_delay(), partial(self._cluster.start, victim))

    def _pause_node(self) -> None:
        victim = self._victim()
        self._cluster.pause(victim)
        self._world.after(self._duration(), partial(self._cluster.resume, victim))

    def _power_cut(self) -> None:
        victim = self._victim()
        if self._rng.random() < 0.5:
            self._crash_in_disk_job(power=True)
            return
        self._cluster.power_cut(victim)
        self._world.after(self._restart_delay(), partial(self._cluster.start, victim))

    def _power_cut_all(self) -> None:
        self._cluster.power_cut(*self._cluster.members)
        for name in self._cluster.members:
            self._world.after(self._restart_delay(), partial(self._cluster.start, name))

    # disks and clocks

    def _crash_in_disk_job(self, *, power: bool) -> None:
        operations = self._rng.randint(1, 30)
        torn_bytes = self._rng.choice((None, 0, 1, 17, 300))
        self._cluster.crash_in_disk_job(self._victim(), operations=operations, torn_bytes=torn_bytes, power=power)

    def _slow_disk(self) -> None:
        machine = self._cluster.machines[self._victim()]
        machine.speed.stalled = log_uniform(self._rng, 0.02, 2.0)
        self._world.note(f"{machine.name}: disk jobs take {machine.speed.stalled:.3f} s longer")

        def again() -> None:
            machine.speed.stalled = 0.0

        self._world.after(self._duration(), again)

    def _failing_disk(self) -> None:
        self._cluster.fail_disk(self._victim(), self._rng.choice(("write", "sync")))

    def _snapshot(self) -> None:
        self._cluster.take_snapshot(self._victim())

    def _clock_rate(self) -> None:
        machine = self._cluster.machines[self._victim()]
        machine.clock.set_rate(log_uniform(self._rng, 0.5, 2.0))
        self._world.note(f"{machine.name}: clock runs at {machine.clock.rate:.3f}")
        self._world.after(self._duration(), lambda: machine.clock.set_rate(machine.usual_rate))
