"""Leases, for ``/metrics``: how late they end, what happens to them, and what is protected.

Counters are those of this node since its start. Every node applies every entry, so they grow alike on all of them; a
node that was brought up to date by a snapshot lacks what the snapshot stood for. All is read at the scrape.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from artemis.api.ports import ReplicatedRegistry
from artemis.lease_stats import LATENESS_BUCKETS_MS

_BOUNDS = (*(str(bound / 1000) for bound in LATENESS_BUCKETS_MS), "+Inf")


def lease_metrics(node: ReplicatedRegistry) -> Iterator[Metric]:
    registry = node.registry
    stats = registry.lease_stats
    for name, text, count in (
        ("registrations", "Instances registered.", stats.registrations),
        ("renewals", "Leases renewed.", stats.renewals),
        ("evictions", "Leases that ended because they were not renewed.", stats.evictions),
        ("held", "Times a lease was held by protection instead of ended.", stats.held),
    ):
        yield CounterMetricFamily(f"artemis_lease_{name}", text, value=count)
    yield HistogramMetricFamily(
        "artemis_lease_expiry_lateness_seconds",
        "Lease clock at the end of a lease minus its deadline. Held leases included.",
        buckets=list(zip(_BOUNDS, accumulate(stats.lateness_ms), strict=True)),
        sum_value=stats.lateness_ms_sum / 1000,
    )
    protection = registry.protection
    for name, text, value in (
        (
            "artemis_lease_clock_age_seconds",
            "Real time since the lease clock moved on this node: while there are leases, what it stands is added to all"
            " of them.",
            node.status().lease_clock_age_ms / 1000,
        ),
        ("artemis_protection_enabled", "1 if mass eviction is protected against.", int(protection.settings.enabled)),
        ("artemis_protection_active", "1 if the whole registry is protected.", int(protection.since_ms is not None)),
        ("artemis_protection_services", "Services that are protected for themselves.", len(protection.services)),
        ("artemis_protection_held_leases", "Leases past their deadline that are held.", protection.held),
    ):
        yield GaugeMetricFamily(name, text, value=value)
