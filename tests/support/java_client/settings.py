"""Paths and times of the two generations (``java-client-and-push.md`` 1 and 6). Seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class JavaSettings:
    region_id: str | None = "lab"
    zone_id: str | None = "zone1"
    api_path: str = "/artemis/api"
    websocket_path: str = "/artemis/websocket"
    failing_status: int = 300
    """HTTP statuses from here on are failures of the node."""
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 10.0
    address_connect_timeout_s: float = 1.0
    address_read_timeout_s: float = 10.0
    address_poll_s: float = 300.0
    address_ttl_s: float = 3_600.0
    retry_times: int = 5
    retry_interval_s: float = 0.1
    check_s: float = 1.0
    """Period of the health check, which pings, and of the heartbeat check."""
    heartbeat_s: float = 5.0
    instance_ttl_s: float = 20.0
    """Without a heartbeat sent for so long the client moves to another node."""
    session_ttl_s: float = 300.0
    session_connect_timeout_s: float = 5.0
    ping_timeout_s: float = 1.0
    pong_noticed: float = 0.25
    """How often it notices that a pong did not come: it compares times in whole milliseconds, and 22 of 100 waits were
    long enough. So a node that hangs is left after some ten seconds, not after one."""
    beats_at_start: bool = True
    """Its watchdog and its timer begin as if it had never beaten."""
    message_chars_max: int = 8_192
    """A longer text message makes the client's container close the session with 1009."""
    reconnects_max: int = 5
    reconnects_window_s: float = 20.0
    reload_poll_s: float = 60.0
    service_ttl_s: float = 900.0

    def hurried(self, factor: float) -> JavaSettings:
        """The polls and renewals that take minutes, ``factor`` times as often; what takes seconds stays."""
        return replace(
            self,
            address_poll_s=self.address_poll_s / factor,
            address_ttl_s=self.address_ttl_s / factor,
            session_ttl_s=self.session_ttl_s / factor,
            reload_poll_s=self.reload_poll_s / factor,
            service_ttl_s=self.service_ttl_s / factor,
        )


def java2(region_id: str | None = "lab", zone_id: str | None = "zone1") -> JavaSettings:
    """2.0.1."""
    return JavaSettings(region_id=region_id, zone_id=zone_id)


def java1(region_id: str | None = "lab", zone_id: str | None = "zone1") -> JavaSettings:
    """1.5.16: another prefix, and 100 ms for a connection and for an answer."""
    return JavaSettings(
        region_id=region_id,
        zone_id=zone_id,
        api_path="/api",
        websocket_path="/ws",
        failing_status=400,
        beats_at_start=False,
        connect_timeout_s=0.1,
        read_timeout_s=0.1,
        address_read_timeout_s=20.0,
    )
