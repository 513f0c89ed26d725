"""What all planes share: the node, how current an answer must be, who may be served, how a refusal is worded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from artemis.api.cache import EncodedServices
from artemis.api.deployment import Deployment, of_http_settings
from artemis.api.dialects import Dialect
from artemis.api.dialects.java import Java
from artemis.api.dialects.reading import Naming
from artemis.api.dialects.snake import Rust, Snake
from artemis.api.feed import ChangeFeed
from artemis.api.feed_cache import EncodedChanges
from artemis.api.health import PeerHealth, is_current
from artemis.api.options import OptionReader, ReadOptions
from artemis.api.ports import ReplicatedRegistry
from artemis.api.push.sessions import Sessions
from artemis.api.rate_limits import RateLimits
from artemis.api.requests import Request
from artemis.api.settings import Consistency, HttpSettings
from artemis.consensus.freshness import UNKNOWN_MS
from artemis.consensus.status import NodeStatus
from artemis.errors import Unavailable

logger = logging.getLogger("artemis.api")

JAVA: Dialect = Java()
SNAKE: Dialect = Snake()
RUST: Dialect = Rust()

Plane = Literal["registry", "discovery"]


class Serving:
    """One node being served."""

    def __init__(
        self,
        node: ReplicatedRegistry,
        settings: HttpSettings,
        now_ms: Callable[[], int],
        *,
        deployment: Deployment | None = None,
        peers: PeerHealth | None = None,
    ) -> None:
        self.node = node
        self.settings = settings
        self.options = OptionReader(settings)
        self.services = EncodedServices(settings.cache_bytes_max)
        self.feed = ChangeFeed(node)
        self.changes = EncodedChanges(settings.change_cache_bytes_max)
        self.sessions = Sessions(node, settings.push)
        self.peers = peers or PeerHealth(settings)
        self.deployment = deployment or of_http_settings(node.status().node_id, settings)
        self.limits = RateLimits(settings.rate_limits, enabled=settings.rate_limiting)
        self.now_ms = now_ms

    def dialect(self, naming: Naming | None, request: Request) -> Dialect:
        """The answer follows the request's spelling; without a hint its path decides."""
        if naming is None:
            return request.spoken.unhinted
        return SNAKE if naming == "snake" else request.spoken.camel

    def epoch_offset_ms(self) -> int:
        """From the lease clock to the time shown to people. The lease clock counts from the cluster's beginning; its
        newest stamp was set about now."""
        return self.now_ms() - self.node.registry.clock_ms

    async def current(self, options: ReadOptions) -> NodeStatus:
        """Wait until the applied state is as current as asked. Raises ``Unavailable`` when it cannot be.

        The status returned and the registry read next belong together: there is no await between them.
        """
        node = self.node
        if options.consistency == "linearizable":
            await node.barrier(timeout_ms=options.timeout_ms)
            if options.min_revision:
                self._require_revision(options.min_revision)
            return node.status()
        status = node.status()
        _require_ready(status)
        if options.min_revision or options.consistency == "session":
            await node.applied(options.min_revision, timeout_ms=options.timeout_ms)
            status = node.status()
            # It may have failed while the request waited.
            _require_ready(status)
        _require_fresh(status, options.max_stale_ms)
        return status

    def _require_revision(self, min_revision: int) -> None:
        """After a barrier: a revision that is not here was never acknowledged, at least not by this cluster."""
        revision = self.node.registry.revision
        if revision < min_revision:
            raise Unavailable(f"this node has applied revision {revision}, not yet {min_revision}", definite=True)

    def misplaced_region(self, region_id: str | None) -> str | None:
        """Why something of this region is not for this node (``java-http.md`` 4.2, 6.1)."""
        settings = self.settings
        if not settings.any_region and settings.region_id and not _same(region_id, settings.region_id):
            return (
                "regionId is not the same as the registry node. "
                f"regionId: {_or_null(region_id)}, registry node.regionId: {settings.region_id}"
            )
        return None

    async def given(self, options: ReadOptions) -> tuple[NodeStatus, Consistency]:
        """As ``current``, with the level that the read gets: a lower one only where settings prefer that to none."""
        if not options.may_fall_back:
            return await self.current(options), options.consistency
        # Half of the budget is longer than an election takes, and what is left is for the answer.
        patience_ms = options.timeout_ms // 2 if self.node.status().known_leader else 0
        if patience_ms:
            try:
                return await self.current(options._replace(timeout_ms=patience_ms)), options.consistency
            except Unavailable as exc:
                logger.debug("a read falls back to stale: %s", exc)
        status = self.node.status()
        self._require_revision(options.min_revision)
        _require_ready(status)
        _require_fresh(status, options.max_stale_ms)
        return status, "stale"

    def misplaced(self, region_id: str | None, zone_id: str | None) -> str | None:
        """The same of an instance or a look-up, which have a zone as well."""
        settings = self.settings
        misplaced = self.misplaced_region(region_id)
        if misplaced is not None:
            return misplaced
        if not settings.any_zone and settings.zone_id and not _same(zone_id, settings.zone_id):
            return (
                "zoneId is not the same as the registry node. "
                f"zoneId: {_or_null(zone_id)}, registry node.zoneId: {settings.zone_id}"
            )
        return None

    def unavailable(self, plane: Plane, exc: Unavailable) -> str:
        """The earlier servers' text (the first word is theirs), then the reason."""
        status = self.node.status()
        settings = self.settings
        member = self.node.registry.members.get(status.node_id)
        place = "/".join(
            _or_null(part or None) for part in (settings.region_id, settings.zone_id, member and member.url)
        )
        reads = _true_or_false(status.ready)
        writes = _true_or_false(status.ready and status.known_leader)
        reasons = "".join(f"; {reason}" for reason in status.reasons)
        return (
            f"Serivce {plane} is not in up state. Current status: {{ node: {place}, status: "
            f"{'up' if is_current(status) else 'down'}, canServiceRegistry: {writes}, canServiceDiscovery: {reads} }} "
            f"{exc.message}{reasons}"
        )


def _true_or_false(value: bool) -> str:
    return "true" if value else "false"


def _require_ready(status: NodeStatus) -> None:
    if not status.ready:
        raise Unavailable("this node is not ready", definite=True)


def _require_fresh(status: NodeStatus, max_stale_ms: int | None) -> None:
    if max_stale_ms is not None and status.apply_lag_ms > max_stale_ms:
        lag_ms = status.apply_lag_ms
        age = "is of unknown age" if lag_ms >= UNKNOWN_MS else f"may be {lag_ms} ms old"
        raise Unavailable(f"the state of this node {age}, x-artemis-max-stale-ms allows {max_stale_ms}", definite=True)


def _same(sent: str | None, own: str) -> bool:
    return sent is not None and not is_blank(sent) and sent.lower() == own.lower()


def is_blank(text: str | None) -> bool:
    return not text or text.isspace()


def _or_null(text: str | None) -> str:
    return "null" if text is None else text
