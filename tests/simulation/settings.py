"""What one run is made of: cluster, speeds, bounds, clients, and which kinds of fault exist in it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Literal, get_args

from artemis.consensus.timing import Bounds, Timing
from tests.simulation.network import NetworkSettings

FaultKind = Literal[
    "isolate",
    "split",
    "one-way",
    "bridge",
    "reset",
    "slow-network",
    "kill",
    "kill-in-disk-job",
    "power-cut",
    "power-cut-all",
    "stop",
    "pause",
    "slow-disk",
    "failing-disk",
    "snapshot",
    "clock-rate",
    "resign",
    "replace-disk",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RareSteps(Timing):
    """For runs in which no lease comes near its end: how often the lease clock moves is then of no interest, and its
    steps would be most of what a calm cluster does."""

    lease_step_ms: int = 2000

    def validate(self) -> None:
        """How the step relates to the error of stamps does not matter either."""
        Timing(
            heartbeat_ms=self.heartbeat_ms,
            election_timeout_ms_min=self.election_timeout_ms_min,
            election_timeout_ms_max=self.election_timeout_ms_max,
            timer_ms=self.timer_ms,
        ).validate()


@dataclass(kw_only=True)
class Settings:
    """Times in seconds unless the name says otherwise."""

    members: int = 3
    timing: Timing = field(default_factory=Timing)
    bounds: Bounds = field(default_factory=Bounds)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    disk_job_min: float = 0.0002
    disk_job_max: float = 0.003
    lateness: float = 0.0
    """Most by which a callback of an event loop starts late."""
    clock_offset_max: float = 1e6
    clock_drift: float = 0.001
    """Rates of the nodes' clocks differ from 1 by at most this. The lease bounds are checked with it."""
    clients: int = 6
    lease_owners: int = 3
    think: float = 0.25
    """Mean pause of a client between two operations."""
    request_ids: float = 0.6
    """Share of writes that carry a request id; only these are retried when their outcome is unknown."""
    faults: tuple[FaultKind, ...] = ()
    fault_pause: float = 2.0
    """Mean time between two faults."""
    fault_length: float = 2.0
    """Mean time until a fault is undone."""
    burst: float = 20.0
    lull: float = 0.0
    """Clients and faults begin things for ``burst``, then nothing for ``lull``, and so on. What is open goes on."""

    def rest(self, now: float) -> float:
        """How long it is until something may begin; 0 in a burst."""
        if not self.lull:
            return 0.0
        into = now % (self.burst + self.lull)
        return 0.0 if into < self.burst else self.burst + self.lull - into

    def span(self, seconds: float) -> float:
        """How long a run lasts that has so many seconds of bursts."""
        return seconds + int(seconds / self.burst) * self.lull

    def __post_init__(self) -> None:
        if self.timing.lease_step_ms >= RareSteps().lease_step_ms and not isinstance(self.timing, RareSteps):
            self.timing = RareSteps(**{item.name: getattr(self.timing, item.name) for item in fields(Timing)})

    def describe(self) -> str:
        faults = ", ".join(self.faults) or "none"
        return (
            f"{self.members} nodes, {self.clients} clients, snapshot every {self.bounds.snapshot_log_entries} entries,"
            f" fault every {self.fault_pause:.1f} s for {self.fault_length:.1f} s: {faults}"
        )


STEP = {"lease_step_ms": Timing().lease_step_ms}


def _timing(rng: Random, lease_owners: int) -> Timing:
    """Half of the clusters as configured by default, half as for members that are far from each other."""
    kind = Timing if lease_owners else RareSteps
    if rng.random() < 0.5:
        return kind(timer_ms=rng.choice((20, 40)))
    return kind(heartbeat_ms=200, election_timeout_ms_min=700, election_timeout_ms_max=1500)


def swarm(rng: Random, *, lulls: bool = True) -> Settings:
    """Draw a run. Every kind of fault exists in half of the runs: a mixture of everything hides what two of them do
    together, because a third one keeps undoing it."""
    lease_owners = rng.choice((0, 0, 0, 1, 2))
    snapshot_every = round(log_uniform(rng, 20, 2000))
    drawn = Settings(
        members=rng.choice((3, 3, 3, 3, 3, 5)),
        timing=_timing(rng, lease_owners),
        bounds=Bounds(
            entries_in_flight=rng.choice((1, 2, 2, 8)),
            entry_proposals=rng.choice((1, 4, 4096)),
            reread_records_per_second=20,
            append_window_bytes=rng.choice((500, 8 * 1024 * 1024)),
            snapshot_log_entries=snapshot_every,
            snapshot_trailing_entries=rng.choice((1, snapshot_every // 2 + 1)),
            snapshot_chunk_bytes=rng.choice((512, 4096, 256 * 1024)),
        ),
        network=NetworkSettings(
            latency_max=log_uniform(rng, 0.001, 0.08),
            retransmission_max=log_uniform(rng, 0.01, 1.0),
            stall=rng.choice((0.3, 1.0, 5.0)),
            grid=rng.choice((0.0, 0.0, 0.005, 0.05)),
            old_bytes_linger=rng.random() < 0.5,
        ),
        disk_job_max=log_uniform(rng, 0.001, 0.1),
        lateness=rng.choice((0.0, 0.0, 0.002, 0.02)),
        clock_drift=rng.choice((0.0, 0.001, 0.01)),
        clients=rng.choice((1, 2, 4)),
        lease_owners=lease_owners,
        think=log_uniform(rng, 0.2, 4.0),
        faults=tuple(kind for kind in FAULT_KINDS if rng.random() < 0.5),
        fault_pause=log_uniform(rng, 0.3, 4.0),
        fault_length=log_uniform(rng, 0.2, 5.0),
    )
    if rng.random() < 0.5:
        drawn.bounds = replace(drawn.bounds, entry_bytes=1024, command_bytes_max=2048, append_batch_bytes=4096)
    focus = rng.choice((*[None] * 14, "snapshots", "stragglers"))
    if focus == "snapshots":
        _focus_on_snapshots(drawn, rng)
    elif focus == "stragglers":
        _focus_on_stragglers(drawn, rng)
    elif lulls and not lease_owners:
        _live_long(drawn, rng)
    return drawn


def _live_long(drawn: Settings, rng: Random) -> None:
    """Trouble comes in bursts, with time between them in which the cluster comes to rest."""
    drawn.burst, drawn.lull = log_uniform(rng, 2.0, 8.0), log_uniform(rng, 8.0, 30.0)
    drawn.think = log_uniform(rng, 0.1, 1.0)
    drawn.fault_pause, drawn.fault_length = log_uniform(rng, 0.1, 0.5), log_uniform(rng, 0.1, 1.5)


def _focus_on_snapshots(drawn: Settings, rng: Random) -> None:
    """Snapshots all the time, in many pieces over slow links that break: else hardly one is interrupted."""
    drawn.bounds = replace(
        drawn.bounds,
        snapshot_log_entries=round(log_uniform(rng, 6, 40)),
        snapshot_trailing_entries=1,
        snapshot_chunk_bytes=rng.choice((200, 512)),
    )
    drawn.network.latency_max = log_uniform(rng, 0.01, 0.08)
    drawn.network.stall = rng.choice((0.3, 5.0, 5.0))
    drawn.clients, drawn.think = 4, 0.1
    kinds: tuple[FaultKind, ...] = (
        "isolate",
        "one-way",
        "one-way",
        "reset",
        "kill",
        "power-cut",
        "kill-in-disk-job",
        "resign",
    )
    drawn.faults = tuple(kind for kind in (*kinds, "replace-disk", "slow-disk") if rng.random() < 0.7)
    drawn.fault_pause, drawn.fault_length = log_uniform(rng, 0.3, 1.5), log_uniform(rng, 0.3, 4.0)


def _focus_on_stragglers(drawn: Settings, rng: Random) -> None:
    """What a dead process or a broken link still delivers, late, to a leader that has not changed meanwhile."""
    drawn.network.latency_max = log_uniform(rng, 0.002, 0.02)
    drawn.network.retransmission_max, drawn.network.old_bytes_linger = 1.0, True
    drawn.clients, drawn.think = 4, 0.1
    drawn.faults = ("one-way", "one-way", "kill", "reset")
    drawn.fault_pause, drawn.fault_length = log_uniform(rng, 0.1, 0.6), log_uniform(rng, 0.1, 0.5)


def with_leases(drawn: Settings) -> Settings:
    """The same with at least one owner of leases, and a lease clock that keeps its time."""
    timing = Timing(**{item.name: getattr(drawn.timing, item.name) for item in fields(Timing)} | STEP)
    return replace(drawn, timing=timing, lease_owners=drawn.lease_owners or 1)


def log_uniform(rng: Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())
