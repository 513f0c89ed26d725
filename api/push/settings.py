"""What the WebSockets of existing clients may be told. One frozen value, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from artemis.errors import InvalidInput

SERVICE_ID_CHARACTERS_MAX = 1_024
"""Of an id that a session subscribes to. It is kept as long as the session, and a message may have a megabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PushSettings:
    """Raises ``InvalidInput`` that names the field, as ``Config`` spells it."""

    session_ms: int = 360_000
    """A Java session is closed at this age; its client leaves by itself after 5 minutes (``java-http.md`` 7)."""
    subscriptions_max: int = 10_000
    """Services of one session. A Java session that wants more is closed, a Rust one is told."""
    heartbeat_timeout_ms: int = 4_000
    """How long a heartbeat waits for a leader. Longer than HTTP requests: these clients do not wait for the answer,
    and one that says ``service-unavailable`` makes them move. Shorter than the 5 s between two heartbeats."""
    message_bytes_max: int = 7_680
    """Of a message to a Java client, whose buffer takes 8 KiB: larger ones cost it the connection."""
    reload_on_subscribe: bool = True
    """Tell a Java client to look a service up again when it subscribes: it looked up before it subscribed, and what
    changed between the two would never reach it."""
    heartbeat_denied: tuple[str, ...] = ()
    """Client addresses whose handshake is refused."""
    discovery_denied: tuple[str, ...] = ()
    discoveries_denied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (
            ("session_ms", 1_000),
            ("subscriptions_max", 1),
            ("heartbeat_timeout_ms", 1),
            ("message_bytes_max", 1_024),
        ):
            if getattr(self, name) < least:
                raise InvalidInput(f"push_{name}", f"at least {least}, not {getattr(self, name)}")
        for name in ("heartbeat_denied", "discovery_denied", "discoveries_denied"):
            for address in getattr(self, name):
                try:
                    ip_address(address)
                except ValueError as exc:
                    raise InvalidInput(f"push_{name}", f"IP addresses, not {address!r}") from exc
