"""The benchmark's arithmetic, and its refusal to measure what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import wrk
from benchmarks.moments import Times
from benchmarks.registry_load import BATCH, heartbeat_keys, register
from benchmarks.report import Result, Row, machine, table, with_ratios
from benchmarks.run import main

SAMPLE = 'RESULT {"requests":300,"duration_us":1500000,"bytes":60000,"p50_us":900,"p99_us":4000,"max_us":9000,'


def row(name: str, connections: int, per_second: float) -> Row:
    return Row(
        name=name,
        connections=connections,
        seconds=5.0,
        per_second=per_second,
        unit="requests",
        p50_ms=1.0,
        p99_ms=2.0,
    )


def fake_wrk(directory: Path, output: str, code: int = 0) -> str:
    """A directory for ``PATH`` with a program ``wrk`` that prints ``output``."""
    program = directory / "wrk"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    program.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


def test_ratios_compare_the_same_number_of_connections() -> None:
    rows = [row("register", 1, 100.0), row("etcd put", 1, 50.0), row("register", 32, 300.0), row("etcd put", 32, 400.0)]
    ratios = [one.ratio for one in with_ratios(rows, {"register": "etcd put"})]
    assert ratios == [2.0, None, 0.75, None]


def test_without_etcd_there_is_no_ratio() -> None:
    (only,) = with_ratios([row("register", 1, 100.0)], {"register": "etcd put"})
    assert only.ratio is None
    assert "against" in table(Result(machine="m", rows=[only], moments={}))


def test_percentiles_are_values_that_were_measured() -> None:
    times = Times.of([float(value) for value in range(100, 0, -1)])
    assert (times.percentile(50), times.percentile(99), times.percentile(100)) == (50.0, 99.0, 100.0)
    assert Times.of([7.0]).percentile(50) == 7.0


def test_a_sample_is_read_from_what_wrk_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_wrk(tmp_path, SAMPLE + '"failed":0,"not_2xx":0}'))
    sample = wrk.drive("http://127.0.0.1:1", register(), connections=1, seconds=1, scratch=tmp_path)
    assert (sample.per_second, sample.bytes_per_answer) == (200.0, 200.0)
    written = (tmp_path / "requests.txt").read_bytes().split(b"\n")
    assert written[0].startswith(b"/artemis/api/registry/register")
    assert len(written) == written.index(b"") + 1 + len(register().bodies) + 1


@pytest.mark.parametrize("errors", ['"failed":1,"not_2xx":0}', '"failed":0,"not_2xx":3}'])
def test_answers_that_are_errors_are_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    monkeypatch.setenv("PATH", fake_wrk(tmp_path, SAMPLE + errors))
    with pytest.raises(wrk.BenchmarkError):
        wrk.drive("http://127.0.0.1:1", register(), connections=1, seconds=1, scratch=tmp_path)


def test_a_failing_wrk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_wrk(tmp_path, "unable to connect", code=1))
    with pytest.raises(wrk.BenchmarkError, match="unable to connect"):
        wrk.drive("http://127.0.0.1:1", register(), connections=1, seconds=1, scratch=tmp_path)


def test_a_missing_wrk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert result.output.strip() == "Error: wrk is not installed: apt-get install wrk"


def test_a_batch_of_heartbeats_counts_as_its_renewals() -> None:
    workload = heartbeat_keys()
    assert (workload.units_per_request, workload.unit) == (BATCH, "renewals")
    assert all(body.count(b"instance_id") == BATCH for body in workload.bodies)


def test_the_machine_line_names_the_file_system(tmp_path: Path) -> None:
    assert "etcd not installed" in machine(tmp_path, None, "clients")
    assert "data on proc," in machine(Path("/proc"), "3.4.23", "clients")
