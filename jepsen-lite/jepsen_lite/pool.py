"""Connections to the nodes of a cluster, kept and used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jepsen_lite.cluster import HOST, Address
from jepsen_lite.http1 import Answer, Connection


@dataclass(slots=True)
class Pool:
    """As many connections as requests are open at once. A call never retries."""

    addresses: Mapping[str, Address]
    timeout_s: float
    _idle: dict[str, list[Connection]] = field(default_factory=dict)

    async def request(
        self, node: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises ``NotSent`` or ``Lost``."""
        idle = self._idle.setdefault(node, [])
        connection = idle.pop() if idle else Connection(HOST, self.addresses[node].http_port)
        try:
            return await connection.request(method, path, body, headers, timeout_s=self.timeout_s)
        finally:
            idle.append(connection)

    async def aclose(self) -> None:
        for connection in [one for idle in self._idle.values() for one in idle]:
            await connection.aclose()
