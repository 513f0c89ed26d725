"""Real clusters for tests: one per module, healed before each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from jepsen_lite.cluster import Cluster
from tests.cluster.calls import Calls, calls_on
from tests.support.java_sdk import Unavailable, build

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for all tests of a module. At the end no node may have logged a traceback."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
    for node, process in cluster.nodes.items():
        log = process.log_path.read_text(errors="replace")
        assert "Traceback" not in log, f"{node} logged a traceback:\n{log[log.index('Traceback') - 500 :][:4000]}"


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The module's cluster with every node running and ready."""
    shared_cluster.heal()
    return shared_cluster


@pytest.fixture
async def calls(cluster: Cluster) -> AsyncIterator[Calls]:
    async with calls_on(cluster) as calls:
        yield calls


@pytest.fixture(scope="session")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the program that calls the Java SDK. Skips where it cannot be built."""
    try:
        return build(tmp_path_factory.mktemp("java-sdk-build"))
    except Unavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture
def service() -> str:
    """A service id that no other test uses."""
    return f"service-{next(_numbers)}"
