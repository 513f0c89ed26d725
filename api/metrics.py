"""What ``/metrics`` tells, and the cheap counting behind it.

A request costs one dictionary look-up, one bisection and three additions; Prometheus' own types take a lock per call.
Everything is counted on the event loop's thread, and turned into families only when somebody asks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from artemis.api.lease_metrics import lease_metrics
from artemis.api.ports import ReplicatedRegistry
from artemis.consensus.freshness import UNKNOWN_MS
from artemis.consensus.status import NodeStatus

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*(str(bound) for bound in BUCKETS_S), "+Inf")

_ROLES = ("leader", "follower", "candidate")
_RUST_COUNTERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("artemis_register_requests", "Register requests.", ("register",)),
    ("artemis_heartbeat_requests", "Heartbeat requests.", ("heartbeat",)),
    ("artemis_discovery_requests", "Discovery requests.", ("lookup", "service", "services", "delta")),
)


def _lag_s(status: NodeStatus) -> float:
    return math.inf if status.apply_lag_ms >= UNKNOWN_MS else status.apply_lag_ms / 1000


class _Series:
    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * len(_BOUNDS)
        self.seconds = 0.0


class HttpMetrics(Collector):
    """Requests by operation and outcome. Both come from closed sets, so the number of series is bounded."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}

    def observe(self, operation: str, outcome: str, seconds: float) -> None:
        series = self._series.get((operation, outcome))
        if series is None:
            series = self._series.setdefault((operation, outcome), _Series())
        series.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        series.seconds += seconds

    def count(self, operation: str) -> int:
        return sum(sum(series.buckets) for (name, _), series in self._series.items() if name == operation)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "artemis_http_requests", "Requests by operation and outcome.", labels=("operation", "outcome")
        )
        durations = HistogramMetricFamily(
            "artemis_http_request_duration_seconds",
            "Time from the request's arrival to the last byte of its answer.",
            labels=("operation", "outcome"),
        )
        for labels, series in sorted(self._series.items()):
            requests.add_metric(labels, sum(series.buckets))
            cumulative = 0
            buckets: list[tuple[str, float]] = []
            for bound, hits in zip(_BOUNDS, series.buckets, strict=True):
                cumulative += hits
                buckets.append((bound, cumulative))
            durations.add_metric(labels, buckets, series.seconds)
        yield requests
        yield durations
        # The four names the earlier Rust server documented.
        for name, text, operations in _RUST_COUNTERS:
            family = CounterMetricFamily(name, text)
            family.add_metric((), sum(map(self.count, operations)))
            yield family


class NodeMetrics(Collector):
    """The node's state at the moment of the scrape."""

    def __init__(self, node: ReplicatedRegistry, cached_bytes: Callable[[], int]) -> None:
        self._node = node
        self._cached_bytes = cached_bytes

    def collect(self) -> Iterator[Metric]:
        yield from self._registry()
        yield from lease_metrics(self._node)
        yield from self._raft()

    def _registry(self) -> Iterator[Metric]:
        registry = self._node.registry
        instances = registry.instance_count
        for name, text, value in (
            ("artemis_active_instances", "Instances in the registry.", instances),
            ("artemis_registry_instances", "Instances in the registry.", instances),
            ("artemis_registry_leases", "Running leases.", registry.lease_count),
            ("artemis_registry_services", "Services with at least one instance.", registry.service_count),
            ("artemis_registry_revision", "Revision of the applied state.", registry.revision),
            ("artemis_lease_clock_seconds", "The lease clock of the applied state.", registry.clock_ms / 1000),
            ("artemis_http_cache_bytes", "Encoded answers kept.", self._cached_bytes()),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _raft(self) -> Iterator[Metric]:
        status = self._node.status()
        for name, text, value in (
            ("artemis_raft_term", "Current term.", status.term),
            ("artemis_raft_commit_index", "Last index known to be committed.", status.commit_index),
            ("artemis_raft_applied_index", "Last index applied.", status.applied_index),
            ("artemis_raft_last_log_index", "Last index in the log.", status.last_log_index),
            ("artemis_raft_first_log_index", "First index in the log.", status.first_log_index),
            ("artemis_raft_snapshot_index", "Index of the latest snapshot.", status.snapshot_index),
            ("artemis_raft_apply_lag_seconds", "How old the applied state may be.", _lag_s(status)),
            ("artemis_raft_known_leader", "1 if a leader was heard of recently.", int(status.known_leader)),
            ("artemis_raft_is_leader", "1 if this node is the leader.", int(status.role == "leader")),
            ("artemis_state_quarantined", "1 if this node's state differs from its peers'.", int(status.quarantined)),
            ("artemis_state_verified_index", "Last entry with a majority's state.", status.verified_index),
            ("artemis_state_differing_peers", "Members whose state differs from a majority's.", len(status.differing)),
            ("artemis_node_ready", "1 if the node answers what it promises.", int(status.ready)),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        role = GaugeMetricFamily("artemis_raft_role", "1 for the role this node has.", labels=("role",))
        for name in _ROLES:
            role.add_metric((name,), int(status.role == name))
        yield role
        peers = GaugeMetricFamily("artemis_raft_peer_connected", "1 if the link to the peer is up.", labels=("peer",))
        for peer in status.peers:
            peers.add_metric((peer.node_id,), int(peer.connected))
        yield peers
