"""What the HTTP side may be told. One frozen value, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from artemis.api.push.settings import PushSettings
from artemis.api.rate_limits import DEFAULT_LIMITS, LIMIT_MAX
from artemis.errors import InvalidInput

Consistency = Literal["linearizable", "session", "stale"]
CONSISTENCIES: tuple[Consistency, ...] = ("linearizable", "session", "stale")
WithoutQuorum = Literal["refuse", "stale"]
WITHOUT_QUORUM: tuple[WithoutQuorum, ...] = ("refuse", "stale")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSettings:
    """Raises ``InvalidInput`` that names the field when values cannot work together."""

    region_id: str = ""
    zone_id: str = ""
    any_region: bool = True
    """False: an instance or a look-up of another region than ``region_id`` is ``no-permission``."""
    any_zone: bool = True
    """The same for ``zone_id`` (earlier servers: ``allow-from-other-zone``)."""
    default_ttl_ms: int = 20_000
    java_registry_ttl_ms: int = 90_000
    """TTL of instances whose metadata has a non-blank ``java_registry`` (``java-http.md`` 5.2)."""
    snake_ttl_ms: int = 90_000
    """TTL of registrations in the dialects of the earlier Rust server, whose clients renew every 30 s by default."""
    ttl_ms_min: int = 1_000
    ttl_ms_max: int = 604_800_000
    request_timeout_ms: int = 1_800
    """Budget of a request that names none. Below the 2 s within which a node without a majority must answer."""
    request_timeout_ms_max: int = 30_000
    body_bytes_max: int = 2 * 1024 * 1024
    """Bound of a request body, both as sent and after inflation."""
    items_max: int = 5_000
    """Instances, keys or services that one request may name. So many are some 50 ms of work for the event loop of each
    node, in which it does nothing else: their clients may send as many requests as they like instead."""
    cache_bytes_max: int = 64 * 1024 * 1024
    """Bound of the encoded answers kept, over all services and forms."""
    change_cache_bytes_max: int = 8 * 1024 * 1024
    """Bound of the encoded changes kept for those that watch."""
    watch_wait_ms_max: int = 300_000
    """Longest time that a long poll may ask to be kept waiting."""
    watch_bookmark_ms: int = 10_000
    """A watch over a WebSocket is told this often how far it is, when nothing else is to be told."""
    sockets_max: int = 8_000
    """WebSockets that may be open; each counts as a connection of the server as well."""
    contexts: tuple[str, ...] = ()
    """Further prefixes before ``/api/…``, as 1.x servers had their servlet context: ``("/artemis-service",)``."""
    snake_default: bool = True
    """Under ``/api/…`` a request without a naming hint is answered in snake_case; False: in camelCase."""
    reads_default: Consistency = "linearizable"
    """Of reads that name no level."""
    reads_without_quorum: WithoutQuorum = "refuse"
    """What becomes of those, if they are linearizable and no majority confirms them: refused, or answered from the
    applied state as ``stale``, with its age. A read that asks for ``linearizable`` is never answered otherwise."""
    rate_limiting: bool = True
    rate_limits: Mapping[str, int] = field(default_factory=dict)
    """Requests in ten seconds by operation, in place of ``rate_limits.DEFAULT_LIMITS``."""
    push: PushSettings = field(default_factory=PushSettings)

    def __post_init__(self) -> None:
        if not 0 < self.ttl_ms_min <= self.ttl_ms_max:
            raise InvalidInput("ttl_ms_min", f"from 1 to ttl_ms_max ({self.ttl_ms_max}), not {self.ttl_ms_min}")
        for name in ("default_ttl_ms", "java_registry_ttl_ms", "snake_ttl_ms"):
            ttl_ms = getattr(self, name)
            if not self.ttl_ms_min <= ttl_ms <= self.ttl_ms_max:
                raise InvalidInput(name, f"from {self.ttl_ms_min} to {self.ttl_ms_max}, not {ttl_ms}")
        if not 0 < self.request_timeout_ms <= self.request_timeout_ms_max:
            raise InvalidInput(
                "request_timeout_ms",
                f"from 1 to request_timeout_ms_max ({self.request_timeout_ms_max}), not {self.request_timeout_ms}",
            )
        for name in ("watch_wait_ms_max", "watch_bookmark_ms"):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, f"a positive number of milliseconds, not {getattr(self, name)}")
        if self.items_max <= 0:
            raise InvalidInput("items_max", f"1 or more, not {self.items_max}")
        if self.sockets_max < 0:
            raise InvalidInput("sockets_max", f"0 or more, not {self.sockets_max}")
        for name in ("body_bytes_max", "cache_bytes_max", "change_cache_bytes_max"):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, f"a positive number of bytes, not {getattr(self, name)}")
        for operation, limit in self.rate_limits.items():
            if operation not in DEFAULT_LIMITS:
                raise InvalidInput("rate_limits", f"for one of {', '.join(DEFAULT_LIMITS)}, not {operation!r}")
            if not 1 <= limit <= LIMIT_MAX:
                raise InvalidInput("rate_limits", f"from 1 to {LIMIT_MAX} for {operation}, not {limit}")
        for context in self.contexts:
            if not context.startswith("/") or context.endswith("/"):
                raise InvalidInput("contexts", f"each begins with a slash and does not end with one, not {context!r}")
        if self.reads_default not in CONSISTENCIES:
            raise InvalidInput("reads_default", f"one of {', '.join(CONSISTENCIES)}, not {self.reads_default!r}")
        if self.reads_without_quorum not in WITHOUT_QUORUM:
            raise InvalidInput(
                "reads_without_quorum", f"one of {', '.join(WITHOUT_QUORUM)}, not {self.reads_without_quorum!r}"
            )
