"""The nodes of one run: real engines on simulated machines, and everything that can happen to a machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pysyncobj

from artemis.consensus import ports
from artemis.errors import DataDamaged, InvalidInput
from tests.simulation.disk import Crashed, SimDisk
from tests.simulation.invariants import Invariants, ObservedEngine
from tests.simulation.network import Network, SimLinks
from tests.simulation.process import NodeClock, Process
from tests.simulation.queues import DiskSpeed, VirtualDiskQueue
from tests.simulation.settings import Settings
from tests.simulation.world import World

CLUSTER_NAME = "simulated"
WALL_MS = 1_700_000_000_000

RESIGN_MS = 500
"""How long a leader that stops waits for a successor."""


class _SortedNodes(set[Any]):
    """PySyncObj's set of peers, in a defined order. It asks for its union with a set that is always empty here.

    The order of a plain set follows the hash seed of the interpreter, and with it the order of messages: a seed would
    only replay under the same ``PYTHONHASHSEED``.
    """

    def __init__(self, nodes: set[Any]) -> None:
        super().__init__(nodes)
        self._in_order = sorted(nodes, key=lambda node: str(node.id))

    def __iter__(self) -> Any:
        return iter(self._in_order)

    def __or__(self, other: Any) -> Any:
        assert not other
        return self


class Machine:
    """One member: its disk stays, its process comes and goes."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        world, settings = cluster.world, cluster.settings
        self.name = name
        self.disk = SimDisk()
        self.rng = world.stream(f"machine/{name}")
        self.speed = DiskSpeed(world.stream(f"disk/{name}"), settings.disk_job_min, settings.disk_job_max)
        offset = self.rng.uniform(-settings.clock_offset_max, settings.clock_offset_max)
        self.usual_rate = 1 + self.rng.uniform(-settings.clock_drift, settings.clock_drift)
        self.clock = NodeClock(world, offset, self.usual_rate)
        self.lives = 0
        self.process: Process | None = None
        self.engine: ObservedEngine | None = None
        self.may_fail = False
        """A disk fault was injected into this life: the node may stop itself."""
        self.crash_cuts_power = False
        self.rejoin = False
        """Its operator knows that its data is gone."""
        self.queues: tuple[VirtualDiskQueue, VirtualDiskQueue] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None


class Cluster:
    """Every method that changes a machine does so at once; ``world`` decides when it is called."""

    def __init__(self, world: World, settings: Settings, engine_class: type[ObservedEngine] = ObservedEngine) -> None:
        self.world = world
        self.settings = settings
        self.members = tuple(f"n{number}" for number in range(1, settings.members + 1))
        self.network = Network(world, self.members, settings.network)
        self.network_latency_max = settings.network.latency_max
        """The usual one; faults change the network's."""
        self.watch = Invariants(world, self.members)
        self.machines = {name: Machine(self, name) for name in self.members}
        self.on_booted: list[Callable[[Machine], None]] = []
        """Told of each process whose engine runs: what else lives in a node process starts now."""
        self.on_ending: list[Callable[[Machine, bool], None]] = []
        """Told just before a process ends, and whether its machine loses power."""
        self.on_ended: list[Callable[[str], None]] = []
        """Told of each process that ended: its clients lose their connections."""
        self._engine_class = engine_class
        self._rng = world.stream("cluster")
        self.restart_after: Callable[[], float] | None = None
        """When set, a node that crashed on its disk is started again after that long."""

    # looking

    @property
    def running(self) -> list[str]:
        return [name for name in self.members if self.machines[name].running]

    def engines(self) -> list[ObservedEngine]:
        return [machine.engine for machine in self.machines.values() if machine.engine is not None]

    def engine(self, name: str) -> ObservedEngine | None:
        return self.machines[name].engine

    def leader(self) -> str | None:
        """The leader of the highest term, if there is one."""
        leaders = [engine for engine in self.engines() if engine.core.role == "leader"]
        return max(leaders, key=lambda engine: engine.core.term).node_id if leaders else None

    def agreed_leader(self) -> ObservedEngine | None:
        """The one that every member runs under, each knowing that it has caught up; None while that is not so."""
        engines = self.engines()
        leaders = [engine for engine in engines if engine.core.leader_ready]
        if len(leaders) != 1 or len(engines) < len(self.members):
            return None
        seen = {(engine.core.term, engine.core.leader_id) for engine in engines}
        if seen != {(leaders[0].core.term, leaders[0].node_id)}:
            return None
        return leaders[0] if all(engine.status().ready for engine in engines) else None

    def settled(self) -> bool:
        """Everybody follows one leader, and nothing is under way: all logs end alike and are applied to their end."""
        ends = {(engine.journal.last_index, engine.core.applied_index) for engine in self.engines()}
        return self.agreed_leader() is not None and len(ends) == 1 and len(set(ends.pop())) == 1

    # lives

    def start_all(self) -> None:
        for name in self.members:
            if not self.machines[name].running:
                self.start(name)

    def start(self, name: str) -> None:
        machine, world = self.machines[name], self.world
        if machine.running:
            return
        machine.lives += 1
        machine.may_fail = False
        rng = world.stream(f"node/{name}/{machine.lives}")
        process = Process(world, name, machine.clock, rng, self.settings.lateness, partial(self._crashed, name))
        machine.process = process
        machine.queues = (
            VirtualDiskQueue(process, machine.disk, machine.speed),
            VirtualDiskQueue(process, machine.disk, machine.speed),
        )
        world.note(f"{name} starts (life {machine.lives})")
        process.run(partial(self._boot, machine, process, rng))

    def _boot(self, machine: Machine, process: Process, rng: Random) -> None:
        assert machine.queues is not None
        try:
            engine = self._engine_class(
                node_id=machine.name,
                members=self.members,
                cluster=CLUSTER_NAME,
                world=ports.World(
                    clock=machine.clock,
                    rng=rng,
                    scheduler=process,
                    disk=machine.disk,
                    disk_queue=machine.queues[0],
                    snapshot_queue=machine.queues[1],
                    links=SimLinks(self.network, process, machine.name),
                    # Machines' wall clocks differ and step: an hour either way.
                    wall_ms=WALL_MS + int(self.world.now * 1000) + machine.rng.randint(-3_600_000, 3_600_000),
                ),
                timing=self.settings.timing,
                bounds=self.settings.bounds,
                on_fatal=partial(self._fatal, machine, process),
                rejoin=machine.rejoin,
            )
        except (DataDamaged, InvalidInput, OSError) as exc:
            if machine.may_fail and isinstance(exc, OSError):
                self._end(machine.name, power=False)
            else:
                self.world.violate(f"{machine.name} refuses to start on what a crash left: {exc}")
            return
        _sort_peers(engine.core)
        machine.engine = engine
        engine.observe(self.watch)
        self.watch.started(engine)
        engine.start()
        for told in self.on_booted:
            told(machine)

    def _fatal(self, machine: Machine, process: Process, reason: str) -> None:
        if not machine.may_fail or reason.startswith("SafetyViolation"):
            self.world.violate(f"{machine.name} stops itself: {reason}")
        self.world.soon(lambda: self._ended_by_itself(machine, process))

    def _ended_by_itself(self, machine: Machine, process: Process) -> None:
        if machine.process is process:
            self.world.note(f"{machine.name} has stopped itself")
            self._end(machine.name, power=False)
            self._restart_later(machine.name)

    def _crashed(self, name: str) -> None:
        machine = self.machines[name]
        self.world.note(f"{name} crashes in a disk job{' and loses power' if machine.crash_cuts_power else ''}")
        self._end(name, power=machine.crash_cuts_power)
        self._restart_later(name)

    def _restart_later(self, name: str) -> None:
        if self.restart_after is not None:
            self.world.after(self.restart_after(), partial(self.start, name))

    def kill(self, name: str) -> None:
        """kill -9."""
        if self.machines[name].running:
            self.world.note(f"{name} is killed")
            self._end(name, power=False)

    def power_cut(self, *names: str) -> None:
        """Also for machines without a running process: what was not synced may go."""
        self.world.note(f"power cut: {' '.join(names)}")
        for name in names:
            self._end(name, power=True)

    def _end(self, name: str, *, power: bool) -> None:
        machine = self.machines[name]
        if machine.process is not None:
            for told_first in self.on_ending:
                told_first(machine, power)
            machine.process.alive = False
            machine.process = machine.engine = machine.queues = None
            self.network.process_ended(name, power=power)
            self.watch.ended(name)
            for told in self.on_ended:
                told(name)
        if power:
            machine.disk.power_cut(machine.rng)
        else:
            machine.disk.kill()

    def stop(self, name: str) -> None:
        """SIGTERM: the node closes in order, then the process ends."""
        machine = self.machines[name]
        if machine.process is None or machine.engine is None or machine.process.paused:
            return
        self.world.note(f"{name} stops")
        try:
            for queue in machine.queues or ():
                queue.close()
            machine.engine.close()
        except Crashed:
            self._crashed(name)
            return
        except OSError as exc:
            if not machine.may_fail:
                self.world.violate(f"{name} cannot stop in order: {exc}")
        self._end(name, power=False)

    def resign(self, name: str, *, stop: bool = False) -> None:
        """Its leader's seat goes to somebody else; then it stops, if it is told to, as at SIGTERM, and comes back."""
        machine = self.machines[name]
        process, engine = machine.process, machine.engine
        if process is None or engine is None or process.paused:
            return
        self.world.note(f"{name} resigns{' and stops' if stop else ''}")

        def resigned() -> None:
            if stop and machine.process is process:
                self.stop(name)
                self._restart_later(name)

        process.run(partial(engine.resign, RESIGN_MS, lambda: self.world.soon(resigned)))

    def pause(self, name: str) -> None:
        process = self.machines[name].process
        if process is not None and not process.paused:
            self.world.note(f"{name} is paused")
            process.pause()

    def resume(self, name: str) -> None:
        process = self.machines[name].process
        if process is not None and process.paused:
            self.world.note(f"{name} is continued")
            process.resume()

    def take_snapshot(self, name: str) -> None:
        engine = self.machines[name].engine
        process = self.machines[name].process
        if engine is not None and process is not None:
            self.world.note(f"{name} takes a snapshot at {engine.core.applied_index}")
            process.run(engine.take_snapshot)

    # disks

    def crash_in_disk_job(self, name: str, *, operations: int, torn_bytes: int | None, power: bool) -> None:
        """The node ends at the disk operation that many from now, with the power if so told."""
        machine = self.machines[name]
        machine.crash_cuts_power = power
        machine.disk.crash_at(machine.disk.steps + operations, torn_bytes)

    def replace_disk(self, name: str) -> None:
        """The machine of a stopped node comes back with an empty data directory."""
        self.world.note(f"{name} gets a new disk")
        self.machines[name].disk = SimDisk()
        self.watch.disk_replaced(name)

    def fail_disk(self, name: str, operation: str) -> None:
        machine = self.machines[name]
        if machine.running and operation in ("write", "sync"):
            self.world.note(f"{name}: the next {operation} fails")
            machine.may_fail = True
            machine.disk.fail("sync" if operation == "sync" else "write")

    # the end of a run

    def calm(self) -> None:
        """Undo every fault that can be undone and start everybody."""
        self.world.note("calm")
        self.network.heal_all()
        self.network.settings.latency_max = self.network_latency_max
        for machine in self.machines.values():
            machine.speed.stalled = 0.0
            machine.disk.disarm()
            machine.clock.set_rate(
                min(1 + self.settings.clock_drift, max(1 - self.settings.clock_drift, machine.clock.rate))
            )
            self.resume(machine.name)
        self.start_all()


def _sort_peers(core: pysyncobj.SyncObj) -> None:
    core._SyncObj__otherNodes = _SortedNodes(core._SyncObj__otherNodes)
