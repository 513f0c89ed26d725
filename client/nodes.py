"""Which node to ask. Pure; time and chance are given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from artemis.errors import InvalidInput

AVOID_BASE_S = 1.0
AVOID_MAX_S = 30.0


@dataclass(slots=True)
class _Health:
    failures: int = 0
    avoid_until: float = float("-inf")


class NodeChooser:
    """Stays with one node while it works, avoids for a while those that failed, and never has nothing to offer.

    Staying keeps the connection warm and makes session reads cheap: the node that applied a client's write has it.
    The starting node is drawn, so the clients of a cluster spread over it.
    """

    def __init__(self, nodes: Sequence[str], rng: random.Random) -> None:
        self._order = list(dict.fromkeys(_base_url(node) for node in nodes))
        if not self._order:
            raise InvalidInput("nodes", "needs at least one address such as http://127.0.0.1:8081")
        rng.shuffle(self._order)
        self._rng = rng
        self._health = {node: _Health() for node in self._order}
        self._current = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._order)

    def pick(self, now: float) -> str:
        """The current node while it works. Then, going round: one that has not failed since it last worked, else one
        whose time of avoidance is over, else the one whose time ends first: refusing to ask anyone would turn three
        short troubles into an outage."""
        count = len(self._order)

        def preference(position: int) -> tuple[bool, float, int]:
            health = self._health[self._order[position]]
            return health.failures > 0, max(now, health.avoid_until), (position - self._current) % count

        self._current = min(range(count), key=preference)
        return self._order[self._current]

    def succeeded(self, node: str) -> None:
        self._health[node] = _Health()

    def failed(self, node: str, now: float) -> None:
        health = self._health[node]
        ceiling_s = min(AVOID_MAX_S, AVOID_BASE_S * 2.0 ** min(health.failures, 30))
        health.failures += 1
        health.avoid_until = now + self._rng.uniform(ceiling_s / 2, ceiling_s)


def _base_url(node: str) -> str:
    """``http(s)://host[:port][/prefix]`` without its last slash."""
    try:
        parts = urlsplit(node)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise InvalidInput("nodes", f"{node!r} is not an address such as http://127.0.0.1:8081")
    return node.rstrip("/")
