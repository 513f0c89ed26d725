"""``python -m benchmarks.run``: start three nodes (and three etcd members beside, when installed), drive both, compare.

Each operation is measured on Artemis and at once on etcd, so that noise of the machine hits both. etcd is asked at its
leader, Artemis too unless ``--at follower``. An etcd read returns one key, a look-up the ten instances of a service.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from benchmarks import etcd, moments, registry_load, wrk
from benchmarks.report import Result, Row, as_text, machine, table, with_ratios
from benchmarks.scratch import RESULTS, scratch
from benchmarks.wrk import BenchmarkError, Sample, Workload
from jepsen_lite.cluster import Cluster, ClusterError

ARGUMENTS = ["--log-level", "warning", "--no-rate-limiting"]
"""The limits of the earlier servers allow 10,000 registers a second, which is near to what is measured here."""
COUNTERPARTS = {
    "register": "etcd put",
    "lookup stale": "etcd get serializable",
    "lookup linearizable": "etcd get linearizable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure."""

    seconds: float
    connections: Sequence[int]
    only: str
    at: str
    failovers: int
    writes: int
    etcd: bool


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="Per measurement.")
@click.option("--connections", default="1,32,128", show_default=True, help="Comma-separated numbers of connections.")
@click.option("--only", default="", help="Measure only operations whose name contains this text, and no moments.")
@click.option("--at", type=click.Choice(["leader", "follower"]), default="leader", show_default=True)
@click.option("--failovers", type=int, default=5, show_default=True, help="Times the leader is killed; 0 for none.")
@click.option("--writes", type=int, default=300, show_default=True, help="Writes of the visibility measurement.")
@click.option("--etcd/--no-etcd", default=True, show_default=True, help="Measure etcd beside when it is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def main(
    seconds: float, connections: str, only: str, at: str, failovers: int, writes: int, etcd: bool, as_json: bool
) -> None:
    """Measure a local three-node cluster, and etcd beside it."""
    try:
        counts = [int(part) for part in connections.split(",")]
        wrk.require()
        result = measure(
            Options(
                seconds=seconds, connections=counts, only=only, at=at, failovers=failovers, writes=writes, etcd=etcd
            )
        )
    except (BenchmarkError, ClusterError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
    text = as_text(result)
    (RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json").write_text(text)
    print(text if as_json else table(result))


def measure(options: Options) -> Result:
    """Start everything, measure, and end and remove everything again. Raises ``BenchmarkError``, ``ClusterError``."""
    etcd_version = etcd.version() if options.etcd else None
    with scratch("run") as directory:
        about = machine(directory, etcd_version, f"wrk with one thread, at the {options.at}")
        with contextlib.ExitStack() as stack:
            beside = stack.enter_context(etcd.EtcdCluster(directory / "etcd")) if etcd_version else None
            cluster = stack.enter_context(Cluster(directory / "artemis", arguments=ARGUMENTS))
            rows = _throughput(options, cluster, beside, directory)
            found = {} if options.only else _moments(options, cluster)
    return Result(machine=about, rows=with_ratios(rows, COUNTERPARTS), moments=found)


def _throughput(options: Options, cluster: Cluster, beside: etcd.EtcdCluster | None, directory: Path) -> list[Row]:
    node = cluster.leader() if options.at == "leader" else cluster.followers()[0]
    bench = _Bench(cluster, node, beside, options.seconds, directory)
    names = [name for name in bench.names if options.only in name]
    if not names:
        raise BenchmarkError(f"--only: one of {', '.join(bench.names)}, or a part of one")
    registry_load.preload(cluster, node)
    bench.preload_etcd()
    return [row for count in options.connections for name in names for row in bench.measure(name, count)]


def _moments(options: Options, cluster: Cluster) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    if options.writes:
        times = moments.visibility(cluster, options.writes)
        found[f"{options.writes} writes, ms from the answer until visible on each other node"] = shown(times)
    if options.failovers:
        times = moments.failover(cluster, options.failovers)
        found[f"{options.failovers} kills of the leader, ms until the next acknowledged write"] = shown(times)
    return found


class _Bench:
    """Measures one operation at a time, on Artemis and then on etcd."""

    def __init__(
        self, cluster: Cluster, node: str, beside: etcd.EtcdCluster | None, seconds: float, scratch: Path
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._etcd = beside
        self._seconds = seconds
        self._scratch = scratch
        self._workloads = {
            workload.name: workload
            for workload in (
                registry_load.register(),
                registry_load.lookup("stale"),
                registry_load.lookup("linearizable"),
                registry_load.heartbeat_keys(),
                registry_load.heartbeat_instances(),
            )
        }
        self._beside = _etcd_workloads()

    @property
    def names(self) -> list[str]:
        return list(self._workloads)

    def measure(self, name: str, connections: int) -> list[Row]:
        """One row, and one of etcd when the operation has a counterpart and etcd runs."""
        workload = self._workloads[name]
        check = registry_load.Check(self._cluster, self._node, workload)
        sample = self._drive(self._cluster.addresses[self._node].url, workload, connections)
        check.confirm(sample)
        rows = [_row(workload, connections, self._seconds, sample)]
        if self._etcd is not None and name in COUNTERPARTS:
            other = self._beside[COUNTERPARTS[name]]
            rows.append(
                _row(other, connections, self._seconds, self._drive(self._etcd.leader_url(), other, connections))
            )
        return rows

    def preload_etcd(self) -> None:
        """Every key once, so that reads find what they ask for."""
        if self._etcd is not None:
            self._etcd.put_all(self._beside["etcd put"])

    def _drive(self, url: str, workload: Workload, connections: int) -> Sample:
        print(f"{workload.name}, {connections} connections", file=sys.stderr, flush=True)
        return wrk.drive(url, workload, connections=connections, seconds=self._seconds, scratch=self._scratch)


def _etcd_workloads() -> dict[str, Workload]:
    """As many keys as there are instances, each with the JSON of its instance as value."""
    items = registry_load.everything()
    pairs = [(f"{item['serviceId']}/{item['instanceId']}", orjson.dumps(item)) for item in items]
    keys = [key for key, _ in pairs]
    found = (etcd.put(pairs), etcd.get(keys, serializable=True), etcd.get(keys, serializable=False))
    return {workload.name: workload for workload in found}


def _row(workload: Workload, connections: int, seconds: float, sample: Sample) -> Row:
    return Row(
        name=workload.name,
        connections=connections,
        seconds=seconds,
        per_second=sample.per_second * workload.units_per_request,
        unit=workload.unit,
        p50_ms=sample.p50_us / 1000,
        p99_ms=sample.p99_us / 1000,
    )


def shown(times: moments.Times) -> dict[str, float]:
    """The values of a moment that the table prints, in ms."""
    return {"p50": times.percentile(50), "p99": times.percentile(99), "worst": times.ms[-1]}


if __name__ == "__main__":
    main()
