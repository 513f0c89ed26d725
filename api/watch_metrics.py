"""What ``/metrics`` tells of watches and of WebSockets."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from artemis.api.feed import ChangeFeed
from artemis.api.sockets import Sockets
from artemis.api.watch import Watches


class WatchMetrics(Collector):
    """Counted on the event loop's thread, made into families at the scrape."""

    def __init__(self, feed: ChangeFeed, watches: Watches, sockets: Sockets) -> None:
        self._feed = feed
        self._watches = watches
        self._sockets = sockets

    def collect(self) -> Iterator[Metric]:
        sockets = GaugeMetricFamily("artemis_sockets", "Open WebSockets by kind.", labels=("kind",))
        for kind, number in sorted(self._sockets.open.items()):
            sockets.add_metric((kind,), number)
        yield sockets
        refused = "WebSockets refused because there were as many as may be (sockets_max)."
        yield CounterMetricFamily("artemis_sockets_refused", refused, self._sockets.refused)
        stalled = "WebSockets closed because their client did not read."
        yield CounterMetricFamily("artemis_sockets_stalled", stalled, self._sockets.stalled)
        subscriptions = "Readers of the change feed: watches and push of every kind."
        yield GaugeMetricFamily("artemis_watch_subscriptions", subscriptions, self._feed.subscriptions)
        lag = "Changes that the slowest watch has still to be told."
        yield GaugeMetricFamily("artemis_watch_lag_revisions", lag, self._watches.lag_revisions)
        counters = self._watches.counters
        for name, text, by_kind in (
            ("artemis_watch_batches", "Answers and messages with changes, by way of watching.", counters.batches),
            ("artemis_watch_changes", "Changes told, by way of watching.", counters.changes),
            ("artemis_watch_bookmarks", "Answers and messages without changes.", counters.bookmarks),
        ):
            family = CounterMetricFamily(name, text, labels=("kind",))
            for kind, count in by_kind.items():
                family.add_metric((kind,), count)
            yield family
        compacted = "Watches that began at a revision that is not kept any more."
        yield CounterMetricFamily("artemis_watch_compacted", compacted, counters.compacted)
        yield CounterMetricFamily("artemis_watch_resyncs", "Watches that fell behind what is kept.", counters.resyncs)
