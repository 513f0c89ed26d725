"""Asks the other members over HTTP how they are, as the earlier servers did: ``java-http.md`` 8.1.

The Raft link of a member may be up while its state is not: it is catching up, its disk fails, its state was found to
differ. It alone knows, and tells it under ``status/node.json``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import httpx
import msgspec

from artemis.api.health import UNKNOWN, Health, PeerHealth
from artemis.api.ports import ReplicatedRegistry
from artemis.model import Member

logger = logging.getLogger(__name__)

PATH = "/artemis/api/status/node.json"
INTERVAL_S = 1.0
STARTING_INTERVAL_S = 0.2
"""For one that says it is down: mostly it is starting, and a client that is given a list without it keeps that list for
5 minutes."""
TIMEOUT_S = 0.5
MISSES_MAX = 2
"""A member that answered before is unknown after so many misses in a row."""
ANSWER_BYTES_MAX = 16_384


class _NodeStatus(msgspec.Struct, rename="camel"):
    status: str
    can_service_registry: bool | None = None
    can_service_discovery: bool | None = None
    allow_registry_from_other_zone: bool | None = None
    allow_discovery_from_other_zone: bool | None = None


class _Answer(msgspec.Struct, rename="camel"):
    node_status: _NodeStatus


_decoder = msgspec.json.Decoder(_Answer)


def polling_client() -> httpx.AsyncClient:
    """Made before the event loop runs: reading the authorities it trusts takes some 40 ms."""
    # The environment's proxies are for the way out, not for the members of a cluster.
    return httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)


class PeerPolls:
    """Writes what it hears into ``health`` until it is cancelled."""

    def __init__(self, node: ReplicatedRegistry, health: PeerHealth, client: httpx.AsyncClient) -> None:
        self._node = node
        self._health = health
        self._client = client
        self._misses: dict[str, int] = {}

    async def run(self) -> None:
        async with self._client:
            while True:
                await self.once()
                next_at = asyncio.get_running_loop().time() + INTERVAL_S
                while (left_s := next_at - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(min(left_s, STARTING_INTERVAL_S))
                    await self.once_more()

    async def once(self) -> None:
        """Ask everybody once, all at the same time."""
        await asyncio.gather(*map(self._ask, self._others()))

    async def once_more(self) -> None:
        """Ask those who said that they are down."""
        await asyncio.gather(*(self._ask(member) for member in self._others() if self._is_down(member)))

    def _is_down(self, member: Member) -> bool:
        heard = self._health.heard.get(member.node_id)
        return heard is not None and heard.status == "down"

    def _others(self) -> Iterable[Member]:
        members = self._node.registry.members
        announced = [members.get(peer.node_id) for peer in self._node.status().peers]
        return [member for member in announced if member is not None]

    async def _ask(self, member: Member) -> None:
        told = await self._told_by(member)
        before = self._health.heard.get(member.node_id)
        if told is not None:
            self._misses[member.node_id] = 0
            self._health.heard[member.node_id] = told
            if told != before:
                logger.info("%s says of itself that it is %s", member.node_id, told.status)
        elif before is not None:
            self._misses[member.node_id] += 1
            if self._misses[member.node_id] >= MISSES_MAX and before != UNKNOWN:
                self._health.heard[member.node_id] = UNKNOWN
                logger.info("%s does not answer at %s", member.node_id, member.url)

    async def _told_by(self, member: Member) -> Health | None:
        """None: it did not answer, or not as a node of this cluster does."""
        try:
            async with self._client.stream("GET", member.url + PATH) as answer:
                if answer.status_code != httpx.codes.OK or answer.headers.get("x-artemis-node") != member.node_id:
                    return None
                data = b""
                async for part in answer.aiter_bytes():
                    data += part
                    if len(data) > ANSWER_BYTES_MAX:
                        return None
            said = _decoder.decode(data).node_status
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as exc:
            logger.debug("%s at %s: %r", member.node_id, member.url, exc)
            return None
        return Health(
            "up" if said.status == "up" else "down",
            said.can_service_registry,
            said.can_service_discovery,
            said.allow_registry_from_other_zone,
            said.allow_discovery_from_other_zone,
        )
