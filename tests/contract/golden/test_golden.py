"""Requests and the bytes that answer them, one file per case (see ``exchanges``).

The expected answers are written from the contracts of the earlier servers. ``--golden-update`` rewrites those that
differ from what is answered now; what it changes is to be read like a change of the contract.
"""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from artemis.api.deployment import Deployment
from artemis.api.lease_report import _second
from artemis.api.settings import HttpSettings
from tests.contract.golden.exchanges import ABSENT, Case, Exchange, read_case, write_case
from tests.contract.golden.start import STARTS, Start
from tests.support.http import Api

CASES = Path(__file__).with_name("cases")
FILES = sorted(CASES.glob("*.http"))
DEPLOYMENT = Deployment(
    app_id="10001",
    ip="127.0.0.1",
    machine_name="node-a",
    port=8080,
    protocol="http",
    path=None,
    region_id="lab",
    zone_id="zone1",
    properties={"listen": "127.0.0.1:8080", "node_id": "n1", "region_id": "lab"},
)
SECTIONS = ("java-http-4.4", "java-http-4.5", "rust-http-1.1", "rust-http-1.2", "rust-http-1.3")
"""Sections of which every example body and every row of a table is a case."""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of leases are shown in the zone of the machine."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "UTC")
        time.tzset()
        _second.cache_clear()
        yield
    time.tzset()
    _second.cache_clear()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_answer_is_the_one_in_the_file(path: Path, pytestconfig: pytest.Config) -> None:
    case = read_case(path)
    answers = answered(case)
    if pytestconfig.getoption("--golden-update"):
        update(path, case, answers)
        return
    for number, (exchange, answer) in enumerate(zip(case.exchanges, answers, strict=True), start=1):
        where = f"{path.name}, exchange {number}: {exchange.method} {exchange.path}"
        assert seen(exchange, answer) == (
            exchange.status,
            exchange.expected_headers,
            exchange.expected_body,
        ), where


def answered(case: Case) -> list[httpx.Response]:
    start = STARTS[case.start]()
    fields: dict[str, Any] = {"region_id": "lab", "zone_id": "zone1"}
    fields |= {name: tuple(value) if isinstance(value, list) else value for name, value in case.settings.items()}
    # Later requests see what earlier ones did, through the same application.
    api = Api(start.node, HttpSettings(**fields), DEPLOYMENT)
    return [send(api, start, exchange) for exchange in case.exchanges]


def send(api: Api, start: Start, exchange: Exchange) -> httpx.Response:
    if exchange.advance_ms:
        start.cluster.advance(exchange.advance_ms)
    body = exchange.body
    if body is not None and exchange.headers.get("content-encoding") == "gzip":
        body = gzip.compress(body, mtime=0)
    return api.send(exchange.method, exchange.path, content=body, headers=exchange.headers)


def seen(exchange: Exchange, answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """Of the answer what the file speaks of."""
    headers = {name: answer.headers.get(name, ABSENT) for name in exchange.expected_headers}
    return answer.status_code, headers, answer.content


def update(path: Path, case: Case, answers: list[httpx.Response]) -> None:
    for exchange, answer in zip(case.exchanges, answers, strict=True):
        exchange.status, exchange.expected_headers, exchange.expected_body = seen(exchange, answer)
    write_case(path, case)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_what_would_be_written_of_it(path: Path, tmp_path: Path) -> None:
    write_case(tmp_path / path.name, read_case(path))
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_an_update_changes_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "health.http"
    path.write_text("# rust-http.md 1.2: health\n\nGET /health\n---\n404\ncontent-type: x\nx-no: (absent)\n\nKO\n")
    case = read_case(path)
    update(path, case, answered(case))
    assert path.read_text() == (
        "# rust-http.md 1.2: health\n\nGET /health\n---\n"
        "200\ncontent-type: text/plain; charset=utf-8\nx-no: (absent)\n\nOK\n"
    )


def test_there_are_cases_of_every_section() -> None:
    counts = Counter(section for section in SECTIONS for path in FILES if path.stem.startswith(f"{section}-"))
    assert set(counts) == set(SECTIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_named_after_its_section(path: Path) -> None:
    contract, _, section = read_case(path).comment[0].removeprefix("# ").partition(":")[0].partition(".md ")
    assert path.stem.startswith(f"{contract}-{section}-")
