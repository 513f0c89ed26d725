"""Words for scripted scenarios: a settled cluster, one write, who leads, what everybody holds at the end."""

from __future__ import annotations

from collections import Counter

import pytest

from artemis import snapshot
from artemis.consensus.engine import Engine
from artemis.consensus.timing import Bounds
from tests.simulation.clients import FOREVER_MS, Answer, elements_of, register
from tests.simulation.cluster import Cluster
from tests.simulation.invariants import ObservedEngine
from tests.simulation.settings import Settings
from tests.simulation.world import World

SERVICE = "s"


def new_cluster(seed: str, members: int = 3, bounds: Bounds | None = None) -> Cluster:
    """Machines that are all off."""
    return Cluster(World(seed), Settings(members=members, bounds=bounds or Bounds()))


def settled_cluster(seed: str, members: int = 3, bounds: Bounds | None = None) -> Cluster:
    cluster = new_cluster(seed, members, bounds)
    cluster.start_all()
    settle(cluster)
    return cluster


def settle(cluster: Cluster) -> None:
    """Run until one leader is known to all and everybody has applied everything."""
    assert cluster.world.run_until_true(cluster.settled, within=30), [e.status() for e in cluster.engines()]


def engine_of(cluster: Cluster, node: str) -> ObservedEngine:
    engine = cluster.engine(node)
    assert engine is not None
    return engine


def leader_of(cluster: Cluster) -> str:
    leader = cluster.leader()
    assert leader is not None
    return leader


def followers_of(cluster: Cluster) -> list[str]:
    return [name for name in cluster.members if name != leader_of(cluster)]


def write(cluster: Cluster, node: str, name: str, timeout_ms: int = 5_000) -> bool:
    """Register ``name`` through ``node``; whether it was acknowledged."""
    answers: list[Answer] = []
    engine_of(cluster, node).propose(register(SERVICE, (name,), FOREVER_MS), None, timeout_ms, answers.append)
    assert cluster.world.run_until_true(lambda: bool(answers), within=timeout_ms / 1000 + 1)
    return not isinstance(answers[0], Exception)


def names_on(cluster: Cluster, node: str) -> set[str]:
    """What ``node`` has applied of all writes."""
    return set(elements_of(engine_of(cluster, node).registry, SERVICE))


def converge(cluster: Cluster, *names: str) -> None:
    """Undo every fault; then all nodes hold the same bytes and exactly these names."""
    cluster.calm()
    settle(cluster)
    for node in cluster.members:
        assert names_on(cluster, node) == set(names), node
    states = {b"".join(snapshot.encode(snapshot.freeze(engine.registry))) for engine in cluster.engines()}
    assert len(states) == 1


def counted_steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each engine steps from now on."""
    steps: Counter[str] = Counter()
    step = Engine._step

    def counted(engine: Engine) -> None:
        steps[engine.node_id] += 1
        step(engine)

    monkeypatch.setattr(Engine, "_step", counted)
    return steps
