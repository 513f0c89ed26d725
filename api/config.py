"""The settings of ``artemis-node``. ``Config`` is the only list of them.

Each field is one setting: its name is the TOML key, with dashes the flag, and in capitals after ``ARTEMIS_`` the
environment variable. Flags, environment, TOML, ``--help`` and ``docs/configuration.md`` are all made from the fields;
to add a setting, add a field. A flag beats the environment, the environment beats the file, the file beats the default.
"""

# ruff: noqa: RUF009 - _setting makes a dataclasses.field

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from artemis.api.config_kinds import (
    ADDRESS,
    BOOLEAN,
    IPS,
    LIMITS,
    NODE_ID,
    OPTIONAL_ADDRESS,
    OPTIONAL_PATH,
    PATH,
    PEERS,
    PLAIN,
    PREFIXES,
    URL,
    Address,
    Kind,
    Peers,
    choice,
    integer,
)
from artemis.api.rate_limits import DEFAULT_LIMITS, WINDOW_S
from artemis.api.settings import CONSISTENCIES, WITHOUT_QUORUM, HttpSettings
from artemis.protection import ProtectionSettings

T = TypeVar("T")

ENV_PREFIX = "ARTEMIS_"
DAY_MS = 86_400_000
HTTP_DEFAULTS = HttpSettings()
PROTECTION_DEFAULTS = ProtectionSettings()
PUSH_DEFAULTS = HTTP_DEFAULTS.push
TTL = integer(1, 366 * DAY_MS)


class ConfigError(Exception):
    """One line for the operator: where the value came from, the key, the value, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about a setting beside its name and type."""

    key: str
    kind: Kind[Any]
    group: str
    help: str
    default: str
    """As shown to the operator; a derived default in words."""

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.key.upper()


def _setting(kind: Kind[T], group: str, help_text: str, *, default: T | None = None, derived: str | None = None) -> T:
    """A field with its description. ``derived`` says in words what ``load`` fills in when nothing was given."""
    shown = derived if derived is not None else kind.show(cast(T, default))
    metadata = {"kind": kind, "group": group, "help": help_text, "default": shown}
    if derived is not None and default is None:
        return cast(T, dataclasses.field(metadata=metadata))
    return cast(T, dataclasses.field(default=default, metadata=metadata))


CLUSTER, HTTP, PUSH, LEASES, PROTECTION, TIMING, LOGS = (
    "Cluster",
    "HTTP",
    "Push",
    "Leases",
    "Protection",
    "Timing",
    "Logs",
)
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings, read, checked and with every default filled in."""

    node_id: str = _setting(NODE_ID, CLUSTER, "Name of this node in the cluster.", derived="n1 without peers")
    peers: Peers = _setting(
        PEERS,
        CLUSTER,
        "Every member with its Raft address, this node included; the same on all members.",
        derived="a cluster of this node alone",
    )
    raft_listen: Address | None = _setting(
        OPTIONAL_ADDRESS, CLUSTER, "Where the other members connect; needed with several peers.", derived=NONE
    )
    data_dir: Path = _setting(PATH, CLUSTER, "Log and snapshots of this node.", derived="./.artemis/<node-id>")
    cluster_name: str = _setting(
        NODE_ID, CLUSTER, "Members with another name are refused; keeps clusters apart.", default="artemis"
    )
    secret_file: Path | None = _setting(
        OPTIONAL_PATH,
        CLUSTER,
        "File with the secret the members share: at least 16 bytes, of no use to others (chmod 600;"
        " 640 if it is root's and the node runs as another user).",
        derived=NONE,
    )
    insecure: bool = _setting(BOOLEAN, CLUSTER, "Allow addresses beyond loopback without a secret.", default=False)
    listen: Address = _setting(ADDRESS, HTTP, "Where clients connect.", default=Address("127.0.0.1", 8080))
    advertise: str = _setting(URL, HTTP, "URL of this node as clients reach it.", derived="http://<listen>")
    region: str = _setting(PLAIN, HTTP, "Region of this node.", default="")
    zone: str = _setting(PLAIN, HTTP, "Zone of this node.", default="")
    any_region: bool = _setting(
        BOOLEAN, HTTP, "Serve requests for other regions; false: no-permission.", default=HTTP_DEFAULTS.any_region
    )
    any_zone: bool = _setting(
        BOOLEAN, HTTP, "Serve requests for other zones; false: no-permission.", default=HTTP_DEFAULTS.any_zone
    )
    contexts: tuple[str, ...] = _setting(
        PREFIXES, HTTP, "Prefixes before /api/… under which the API is served as well (servlet contexts).", default=()
    )
    snake_default: bool = _setting(
        BOOLEAN,
        HTTP,
        "Under /api/… answer in snake_case when the request gives no hint; false: camelCase.",
        default=True,
    )
    reads_default: str = _setting(
        choice(*CONSISTENCIES), HTTP, "Consistency of reads that ask for none.", default=HTTP_DEFAULTS.reads_default
    )
    reads_without_quorum: str = _setting(
        choice(*WITHOUT_QUORUM),
        HTTP,
        "When no majority confirms a read that asked for no consistency: refuse it, or answer it as stale.",
        default=HTTP_DEFAULTS.reads_without_quorum,
    )
    rate_limiting: bool = _setting(BOOLEAN, HTTP, "Refuse requests beyond rate_limits.", default=True)
    rate_limits: Mapping[str, int] = _setting(
        LIMITS,
        HTTP,
        f"Requests in {WINDOW_S} s by operation, where it is not {LIMITS.show(DEFAULT_LIMITS)}.",
        derived=NONE,
    )
    request_timeout_ms: int = _setting(
        integer(1, DAY_MS), HTTP, "Time budget of a request that names none.", default=HTTP_DEFAULTS.request_timeout_ms
    )
    request_timeout_ms_max: int = _setting(
        integer(1, DAY_MS), HTTP, "Largest budget a request may name.", default=HTTP_DEFAULTS.request_timeout_ms_max
    )
    body_bytes_max: int = _setting(
        integer(1, 1 << 30),
        HTTP,
        "Largest request body, as sent and after inflation. What a request writes may take 1 MiB in the log.",
        default=HTTP_DEFAULTS.body_bytes_max,
    )
    items_max: int = _setting(
        integer(1, 1_000_000),
        HTTP,
        "Instances, keys or services that one request may name.",
        default=HTTP_DEFAULTS.items_max,
    )
    cache_bytes_max: int = _setting(
        integer(1, 1 << 40), HTTP, "Encoded answers kept in memory.", default=HTTP_DEFAULTS.cache_bytes_max
    )
    connections_max: int = _setting(
        integer(1, 1_000_000), HTTP, "Open client connections; at this number requests get 503.", default=10_000
    )
    sockets_max: int = _setting(
        integer(0, 1_000_000),
        HTTP,
        "Open WebSockets, which count as connections as well; at this number further ones get 503.",
        derived="four fifths of connections_max",
    )
    watch_wait_ms_max: int = _setting(
        integer(1, DAY_MS),
        HTTP,
        "Longest time a watch by long poll may ask to be kept waiting.",
        default=HTTP_DEFAULTS.watch_wait_ms_max,
    )
    watch_bookmark_ms: int = _setting(
        integer(1, DAY_MS),
        HTTP,
        "A watch over a WebSocket is told this often, up to a quarter more or less, how far it is.",
        default=HTTP_DEFAULTS.watch_bookmark_ms,
    )
    change_cache_bytes_max: int = _setting(
        integer(1, 1 << 40),
        HTTP,
        "Encoded changes kept in memory for those that watch.",
        default=HTTP_DEFAULTS.change_cache_bytes_max,
    )
    keep_alive_s: int = _setting(
        integer(1, 86_400), HTTP, "Seconds after which an idle client connection is closed.", default=90
    )
    shutdown_timeout_s: int = _setting(
        integer(0, 600), HTTP, "Seconds open requests may take to finish when the node stops.", default=5
    )
    push_session_ms: int = _setting(
        integer(1_000, 18_000_000),
        PUSH,
        "Age at which a Java client's WebSocket is closed; such clients change theirs every 300000.",
        default=PUSH_DEFAULTS.session_ms,
    )
    push_subscriptions_max: int = _setting(
        integer(1, 1_000_000),
        PUSH,
        "Services that one WebSocket of a Java or Rust client may subscribe to.",
        default=PUSH_DEFAULTS.subscriptions_max,
    )
    push_heartbeat_timeout_ms: int = _setting(
        integer(1, 60_000),
        PUSH,
        "How long a heartbeat over WebSocket waits for a leader before it is answered service-unavailable.",
        default=PUSH_DEFAULTS.heartbeat_timeout_ms,
    )
    push_message_bytes_max: int = _setting(
        integer(1_024, 1 << 20),
        PUSH,
        "Longest message to a Java client, whose buffer takes 8 KiB by default.",
        default=PUSH_DEFAULTS.message_bytes_max,
    )
    push_reload_on_subscribe: bool = _setting(
        BOOLEAN,
        PUSH,
        "Tell a Java client to look a service up again when it subscribes to it; false: as earlier servers, which lost"
        " what changed before.",
        default=PUSH_DEFAULTS.reload_on_subscribe,
    )
    push_heartbeat_denied: tuple[str, ...] = _setting(
        IPS, PUSH, "Client addresses that may not open a heartbeat WebSocket.", default=()
    )
    push_discovery_denied: tuple[str, ...] = _setting(
        IPS, PUSH, "Client addresses that may not open a WebSocket for changes of single services.", default=()
    )
    push_discoveries_denied: tuple[str, ...] = _setting(
        IPS, PUSH, "Client addresses that may not open a WebSocket for changes of all services.", default=()
    )
    default_ttl_ms: int = _setting(
        TTL, LEASES, "Lease of an instance that asks for none.", default=HTTP_DEFAULTS.default_ttl_ms
    )
    java_registry_ttl_ms: int = _setting(
        TTL,
        LEASES,
        "Lease of an instance whose metadata has java_registry.",
        default=HTTP_DEFAULTS.java_registry_ttl_ms,
    )
    snake_ttl_ms: int = _setting(
        TTL,
        LEASES,
        "Lease of an instance registered as by clients of the earlier Rust server, which renew every 30 s.",
        default=HTTP_DEFAULTS.snake_ttl_ms,
    )
    ttl_ms_min: int = _setting(TTL, LEASES, "Shortest lease an instance may ask for.", default=HTTP_DEFAULTS.ttl_ms_min)
    ttl_ms_max: int = _setting(TTL, LEASES, "Longest lease an instance may ask for.", default=HTTP_DEFAULTS.ttl_ms_max)
    protection: bool = _setting(
        BOOLEAN,
        PROTECTION,
        "Hold leases instead of ending them when too many would end at once. Like the settings below, of members that"
        " are set differently the last to start counts for all.",
        default=PROTECTION_DEFAULTS.enabled,
    )
    protection_share_percent: int = _setting(
        integer(1, 100),
        PROTECTION,
        "A service, or the registry, is protected when it would lose more than this share of its leases in a window.",
        default=PROTECTION_DEFAULTS.share_percent,
    )
    protection_leases_min: int = _setting(
        integer(1, 1_000_000_000),
        PROTECTION,
        "Fewer leases than this may always end in a window.",
        default=PROTECTION_DEFAULTS.leases_min,
    )
    protection_window_ms: int = _setting(
        integer(1_000, DAY_MS),
        PROTECTION,
        "The window; also how long a scope must be calm before its protection ends.",
        default=PROTECTION_DEFAULTS.window_ms,
    )
    protection_hold_ms: int = _setting(
        integer(1_000, 7 * DAY_MS),
        PROTECTION,
        "A lease ends this long after its deadline at the latest, protected or not.",
        default=PROTECTION_DEFAULTS.hold_ms,
    )
    heartbeat_ms: int = _setting(
        integer(10, 60_000), TIMING, "The leader is heard of at least this often.", default=100
    )
    election_timeout_ms: int = _setting(
        integer(50, 600_000),
        TIMING,
        "Without a leader for this time, up to twice as long, a node stands for election;"
        " more than three times heartbeat_ms.",
        default=500,
    )
    log_level: str = _setting(choice("debug", "info", "warning", "error"), LOGS, "Least level logged.", default="info")
    log_format: str = _setting(
        choice("text", "json"), LOGS, "Lines for people or for machines, on stderr.", default="text"
    )


def settings() -> tuple[Setting, ...]:
    """The table, in the order of the fields."""
    return tuple(
        Setting(
            field.name,
            field.metadata["kind"],
            field.metadata["group"],
            field.metadata["help"],
            field.metadata["default"],
        )
        for field in dataclasses.fields(Config)
    )


@dataclass(frozen=True, slots=True)
class Given:
    """A value that was set, and by what."""

    value: Any
    source: str
    shown: str


def quote(text: str) -> str:
    """A value inside a one-line message."""
    shown = text if text.isprintable() and text == text.strip() and text else repr(text)
    return shown if len(shown) <= 120 else shown[:117] + "…"
