"""What ``/metrics`` tells of the WebSockets of existing clients. All labels come from closed sets."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from artemis.api.push.sessions import KINDS, Sessions


class PushMetrics(Collector):
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        sessions = self._sessions
        is_open = GaugeMetricFamily("artemis_push_sessions", "Open sessions.", labels=("kind",))
        opened = CounterMetricFamily("artemis_push_sessions_opened", "Sessions accepted.", labels=("kind",))
        sent = CounterMetricFamily("artemis_push_messages", "Messages sent.", labels=("kind",))
        for kind in KINDS:
            is_open.add_metric((kind,), sessions.count(kind))
            opened.add_metric((kind,), sessions.opened[kind])
            sent.add_metric((kind,), sessions.sent(kind))
        closed = CounterMetricFamily("artemis_push_closes", "Sessions ended, by reason.", labels=("kind", "reason"))
        for kind, reason in sorted(sessions.closed):
            closed.add_metric((kind, reason), sessions.closed[kind, reason])
        refused = CounterMetricFamily("artemis_push_refused", "Handshakes refused.", labels=("kind", "reason"))
        for kind, why in sorted(sessions.refused):
            refused.add_metric((kind, why), sessions.refused[kind, why])
        reloads = CounterMetricFamily("artemis_push_reloads", "Reloads told, by cause.", labels=("cause",))
        for cause in sorted(sessions.reloads):
            reloads.add_metric((cause,), sessions.reloads[cause])
        heartbeats = CounterMetricFamily(
            "artemis_push_heartbeats", "Heartbeats over WebSocket, by outcome.", labels=("outcome",)
        )
        for outcome in sorted(sessions.heartbeats):
            heartbeats.add_metric((outcome,), sessions.heartbeats[outcome])
        yield from (is_open, opened, sent, closed, refused, reloads, heartbeats)
