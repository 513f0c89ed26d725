"""Which node a client uses (7.1). HTTP and WebSocket of one client share the address, and its mark."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class AddressContext:
    """One chosen node."""

    url: str
    created: float
    available: bool = True

    def mark_unavailable(self) -> None:
        self.available = False


class AddressManager:
    """The list of nodes as last heard, and the one in use. A dead node is not remembered: it may be picked again."""

    def __init__(self, domain_url: str, ttl_s: float, clock: Callable[[], float], choose: random.Random) -> None:
        self._domain_url = domain_url.rstrip("/")
        self._ttl_s = ttl_s
        self._clock = clock
        self._random = choose
        self._urls: list[str] = []
        self._context = self._new()

    @property
    def domain_url(self) -> str:
        return self._domain_url

    @property
    def urls(self) -> list[str]:
        return list(self._urls)

    def heard(self, answer: dict[str, object]) -> None:
        """An answer of up-nodes. Only the urls are read; a list without any keeps the previous one."""
        nodes = answer.get("nodes")
        listed = [node.get("url") for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
        urls = list(dict.fromkeys(url.rstrip("/") for url in listed if isinstance(url, str) and url.strip()))
        if urls:
            self._urls = urls

    def get(self) -> AddressContext:
        if not self._context.available or self._clock() - self._context.created > self._ttl_s:
            self._context = self._new()
        return self._context

    def _new(self) -> AddressContext:
        return AddressContext(self._random.choice(self._urls) if self._urls else self._domain_url, self._clock())
