"""Hypothesis looks for the sequence of partitions, crashes, snapshots, writes and reads that breaks a promise.

The machine below drives the real engine on the simulated network, disk and clock; the invariants are those of every
simulated run (``invariants``, ``history``). Targets are symbolic (the leader, whoever that is), so that a shorter
sequence still means the same. A failure prints the shortest program found, its seed included: paste it into a test, or
run the same test again, for the search is derandomized.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from artemis.consensus.timing import Bounds
from tests.simulation.clients import SERVICES, Client
from tests.simulation.history import Kind
from tests.simulation.mutants_of_raft import acknowledge_before_the_disk, truncate_what_matches
from tests.simulation.scenario import Run
from tests.simulation.settings import Settings
from tests.simulation.world import Violation

Target = str
TARGETS = st.sampled_from(("leader", "follower0", "follower1"))
SECONDS = st.sampled_from((0.01, 0.3, 1.5))
"""How long after a rule the next one comes. Elections take between 0.5 and 1.5 s."""

SEARCH = settings(
    max_examples=50,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Partitions(RuleBasedStateMachine):
    """Three nodes, two clients that go on by themselves, and what the rules do. Time passes only as they say."""

    run: Run

    @initialize(
        seed=st.integers(0, 2**16),
        snapshot_every=st.sampled_from((10, 60, 100_000)),
        latency_max=st.sampled_from((0.002, 0.05)),
    )
    def begin(self, seed: int, snapshot_every: int, latency_max: float) -> None:
        bounds = Bounds(snapshot_log_entries=snapshot_every, snapshot_trailing_entries=5, snapshot_chunk_bytes=1024)
        run_settings = Settings(bounds=bounds, clients=2, lease_owners=1)
        run_settings.network.latency_max = latency_max
        note(f"seed {seed}")
        self.run = Run(seed, run_settings)
        self.cluster = self.run.cluster
        self.run.start()
        self.run.world.run_for(1.5)

    def node(self, target: Target) -> str:
        leader = self.cluster.leader() or "n1"
        followers = [name for name in self.cluster.members if name != leader]
        return leader if target == "leader" else followers[int(target[-1])]

    # the network

    @rule(target_=TARGETS, ways=st.sampled_from(("both", "mute", "deaf")), seconds=SECONDS)
    def isolate(self, target_: Target, ways: str, seconds: float) -> None:
        """Cut it off; or only its own packets; or only those to it."""
        name = self.node(target_)
        for other in self.cluster.members:
            if other != name and ways != "deaf":
                self.cluster.network.cut(name, other)
            if other != name and ways != "mute":
                self.cluster.network.cut(other, name)
        self.wait(seconds)

    @rule(seconds=SECONDS)
    def heal(self, seconds: float) -> None:
        self.cluster.network.heal_all()
        self.wait(seconds)

    @rule(target_=TARGETS)
    def reset(self, target_: Target) -> None:
        """Its connections break."""
        name = self.node(target_)
        for other in self.cluster.members:
            if other != name:
                self.cluster.network.reset(name, other)
                self.cluster.network.reset(other, name)

    # the machines

    @rule(target_=TARGETS, power=st.booleans(), seconds=SECONDS)
    def crash(self, target_: Target, power: bool, seconds: float) -> None:
        """kill -9, or the machine loses its power."""
        if power:
            self.cluster.power_cut(self.node(target_))
        else:
            self.cluster.kill(self.node(target_))
        self.wait(seconds)

    @rule(target_=TARGETS, operations=st.integers(1, 8), power=st.booleans())
    def crash_in_disk_job(self, target_: Target, operations: int, power: bool) -> None:
        self.cluster.crash_in_disk_job(self.node(target_), operations=operations, torn_bytes=3, power=power)

    @rule()
    def power_cut_everywhere(self) -> None:
        self.cluster.power_cut(*self.cluster.members)
        self.restart(1.5)

    @rule(target_=TARGETS, seconds=SECONDS)
    def pause(self, target_: Target, seconds: float) -> None:
        self.cluster.pause(self.node(target_))
        self.wait(seconds)

    @rule(seconds=SECONDS)
    def restart(self, seconds: float) -> None:
        """Whoever is down or stopped goes on."""
        self.cluster.start_all()
        for name in self.cluster.members:
            self.cluster.resume(name)
        self.wait(seconds)

    @rule()
    def recover(self) -> None:
        """All is well for a moment: most of what goes wrong needs something that went right before."""
        self.cluster.network.heal_all()
        self.restart(2.0)

    @rule(target_=TARGETS)
    def snapshot_now(self, target_: Target) -> None:
        self.cluster.take_snapshot(self.node(target_))

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.run.world.run_for(seconds)

    # clients

    @rule(target_=TARGETS, count=st.sampled_from((1, 10, 30)), service=st.sampled_from(SERVICES), seconds=SECONDS)
    def write(self, target_: Target, count: int, service: str, seconds: float) -> None:
        for _ in range(count):
            self.client(target_).add(service, 1)
            self.wait(0.002)
        self.wait(seconds)

    @rule(target_=TARGETS, kind=st.sampled_from(("read", "stale-read")), service=st.sampled_from(SERVICES))
    def read(self, target_: Target, kind: Kind, service: str) -> None:
        self.client(target_).read(service, kind)
        self.wait(0.01)

    def client(self, target: Target) -> Client:
        """One that asks one thing."""
        name = f"c{len(self.run.clients)}"
        client = Client(name, self.run.door, self.run.history, 1.0, home=self.node(target))
        client.stop()
        self.run.clients.append(client)
        return client

    def teardown(self) -> None:
        """Also of a machine that failed: then there is nothing to converge to."""
        if hasattr(self, "run") and not self.run.world.violated:
            self.run.finish()


def test_no_sequence_of_partitions_and_crashes_breaks_a_promise() -> None:
    run_state_machine_as_test(Partitions, settings=SEARCH)


@pytest.mark.parametrize(
    ("switch_off", "expected"),
    [
        (acknowledge_before_the_disk, "on the disks of|lacks it"),
        (truncate_what_matches, "lacks it|deletes the committed"),
    ],
)
def test_the_search_finds_a_planted_bug_and_prints_how(
    monkeypatch: pytest.MonkeyPatch, switch_off: Callable[[pytest.MonkeyPatch], None], expected: str
) -> None:
    switch_off(monkeypatch)
    generate_only = settings(SEARCH, phases=[Phase.generate], max_examples=200)
    with pytest.raises(Violation, match=expected) as found:
        run_state_machine_as_test(Partitions, settings=generate_only)
    program = "\n".join(found.value.__notes__)
    assert "state.begin(" in program
    assert "seed=" in program
