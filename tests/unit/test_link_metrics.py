"""What the links carried and refused, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from artemis.api.link_metrics import LinkMetrics
from artemis.consensus.link_settings import LinkCounters


def test_the_counters_are_read_at_the_scrape_and_by_reason() -> None:
    counters = LinkCounters()
    registry = CollectorRegistry()
    registry.register(LinkMetrics(counters))
    assert registry.get_sample_value("artemis_raft_link_connects_total") == 0
    assert registry.get_sample_value("artemis_raft_link_refused_total", {"reason": "proof"}) is None
    counters.connects, counters.bytes_in = 3, 1000
    counters.refused["proof"] += 2
    counters.refused["too_many"] += 5
    counters.lost["stalled"] += 1
    assert registry.get_sample_value("artemis_raft_link_connects_total") == 3
    assert registry.get_sample_value("artemis_raft_link_received_bytes_total") == 1000
    assert registry.get_sample_value("artemis_raft_link_refused_total", {"reason": "proof"}) == 2
    assert registry.get_sample_value("artemis_raft_link_refused_total", {"reason": "too_many"}) == 5
    assert registry.get_sample_value("artemis_raft_link_lost_total", {"reason": "stalled"}) == 1
