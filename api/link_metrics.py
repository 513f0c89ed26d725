"""The links between the nodes, for ``/metrics``: what they carried, and what was turned away and why."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from artemis.consensus.link_settings import LinkCounters


class LinkMetrics(Collector):
    """Counters since the start of this process."""

    def __init__(self, counters: LinkCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        for name, text, value in (
            ("accepted", "Connections of peers that proved themselves.", counters.accepted),
            ("connects", "Connections to peers that were established.", counters.connects),
            ("reconnects", "Those of them that were not the first to their peer.", counters.reconnects),
            ("frames_received", "Frames from peers.", counters.frames_in),
            ("frames_sent", "Frames to peers.", counters.frames_out),
            ("received_bytes", "Bytes on the Raft port, strangers' included.", counters.bytes_in),
            ("sent_bytes", "Bytes to peers.", counters.bytes_out),
            ("messages_dropped", "Messages to a peer whose link was not up.", counters.messages_dropped),
        ):
            yield CounterMetricFamily(f"artemis_raft_link_{name}", text, value=value)
        for name, text, reasons in (
            ("refused", "Connections on the Raft port that this node closed.", counters.refused),
            ("lost", "Connections to peers that did not come up or went down.", counters.lost),
        ):
            family = CounterMetricFamily(f"artemis_raft_link_{name}", text, labels=("reason",))
            for reason, count in sorted(reasons.items()):
                family.add_metric((reason,), count)
            yield family
