"""Every Python block of the client's documentation, and of the README, runs as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fake_cluster import FakeCluster

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

OUTPUT = {
    0: "['http://10.0.0.7:8080/']\n",
    1: "active 10000\n",
    2: "this process leads InstanceVersion(revision=1, epoch=1)\n()\n",
    3: "() 0 n1 stale 0.0\n['http://n1.test:1', 'http://n2.test:2', 'http://n3.test:3']\n",
    4: "start [('orders', 1)]\n[(2, 'new', 'stock-1')]\n",
    5: "instance.url | must be a text that is not blank, not None\n",
    6: "orders-1\n",
}


def blocks(name: str) -> list[str]:
    return [block for block in BLOCK.findall((ROOT / name).read_text("utf-8")) if "artemis.client" in block]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The addresses of the snippets lead to a cluster in memory."""
    cluster = FakeCluster()
    cluster.extra_headers = {"x-artemis-node": "n1", "etag": '"1"', "x-artemis-lease-epoch": "1"}
    blocking, awaiting = httpx.MockTransport(cluster.handle), httpx.MockTransport(cluster.handle_async)
    monkeypatch.setattr(httpx, "Client", _with(httpx.Client, blocking))
    monkeypatch.setattr(httpx, "AsyncClient", _with(httpx.AsyncClient, awaiting))
    return cluster


def _with(new: Callable[..., Any], transport: httpx.MockTransport) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        return partial(new, **{**options, "transport": transport})()

    return make


@pytest.mark.parametrize("number", OUTPUT)
def test_the_guide_runs_as_it_stands(number: int, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("docs/client.md")[number], "docs/client.md", "exec"), {})
    assert capsys.readouterr().out == OUTPUT[number]
    assert cluster.instances == {}, "each snippet leaves nothing behind"


def test_every_block_of_the_guide_is_run() -> None:
    assert len(blocks("docs/client.md")) == len(OUTPUT)


def test_the_client_blocks_of_the_readme_run_as_they_stand(cluster: FakeCluster) -> None:
    shown = blocks("README.md")
    for block in shown:
        exec(compile(block, "README.md", "exec"), {})
    assert bool(cluster.requests) == bool(shown)
    assert cluster.instances == {}
