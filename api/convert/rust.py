"""The keys of the Rust server's TOML (``rust-http.md`` 3.2), at its first and its newest state."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping

from artemis.api.config import quote
from artemis.api.config_kinds import ADDRESS
from artemis.api.convert.draft import ConvertError, Draft, duration_ms
from artemis.api.convert.members import Listed, address_of, advertised, place_alone, place_member

HTTP_PORT = 8080
LISTEN = f"0.0.0.0:{HTTP_PORT}"
TTL_S = 30
RENEWAL_S = 30
"""How often clients of the Rust server renew by default."""

_LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "error": "error", "off": "error"}
_FORMATS = {"pretty": "text", "compact": "text", "full": "text", "json": "json"}

_RAFT = "members replicate one log; there are no batches, retries or time-outs between two of them to set"
_NO_DATABASE = "all state is in the replicated log; no database is used"
LEFT = {
    "replication.enabled": "members of a cluster always replicate",
    "replication.timeout_secs": _RAFT,
    "replication.batch_size": _RAFT,
    "replication.batch_interval_ms": _RAFT,
    "replication.max_retries": _RAFT,
    "lease.cleanup_interval_secs": "leases end when they are due, without a sweep",
    "registry.eviction_interval": "leases end when they are due, without a sweep",
    "cache.enabled": "look-ups are always answered from encoded answers; cache_bytes_max bounds them",
    "cache.expiry_secs": "an encoded answer is replaced when its service changes, not by age",
    "database.url": _NO_DATABASE,
    "database.db_type": _NO_DATABASE,
    "database.max_connections": _NO_DATABASE,
    "ratelimit.enabled": "the earlier server read it and limited nothing; rate_limiting is on here",
    "ratelimit.requests_per_second": "the earlier server read it and limited nothing; limits are per operation here",
    "ratelimit.burst_size": "the earlier server read it and limited nothing; windows are fixed here",
    "registry.rate_limit_rps": "the earlier server read it and limited nothing; limits are per operation here",
}
_CARRIED = frozenset(
    (
        "server.node_id",
        "server.listen_addr",
        "server.peer_port",
        "server.region",
        "server.zone",
        "cluster.enabled",
        "cluster.peers",
        "lease.ttl_secs",
        "registry.lease_ttl",
        "logging.level",
        "logging.format",
    )
)
_SECTIONS = frozenset(key.partition(".")[0] for key in (*_CARRIED, *LEFT))


def convert_rust(draft: Draft, data: bytes) -> None:
    """Raises ``ConvertError``."""
    keys = _Keys(draft, data)
    _place(draft, keys)
    for key, setting in (("server.region", "region"), ("server.zone", "zone")):
        value = keys.text(key)
        if value is not None:
            draft.carry(key, value, setting, value)
    _leases(draft, keys)
    for key, setting, names in (("logging.level", "log_level", _LEVELS), ("logging.format", "log_format", _FORMATS)):
        value = keys.text(key)
        if value is not None:
            if value.lower() not in names:
                raise draft.wrong(key, value, f"must be {', '.join(names)} to become {setting}")
            draft.carry(key, value, setting, names[value.lower()])
    for key in keys.rest():
        draft.leave(key, LEFT.get(key, "the earlier server had no such key"))


class _Keys:
    """The file, flattened to ``section.key``. What was asked for is taken out."""

    def __init__(self, draft: Draft, data: bytes) -> None:
        self._draft = draft
        try:
            document = tomllib.loads(data.decode("utf-8-sig"))
        except ValueError as exc:  # TOMLDecodeError and UnicodeDecodeError
            raise ConvertError(f"{draft.source}: is not TOML: {quote(str(exc))}") from exc
        if not _SECTIONS & {name for name, value in document.items() if isinstance(value, dict)}:
            ours = sorted(name for name in document if draft.knows(name))
            hint = f"; {ours[0]} is a setting of artemis-node, so it may need no conversion" if ours else ""
            sections = ", ".join(f"[{name}]" for name in sorted(_SECTIONS))
            raise ConvertError(
                f"{draft.source}: is no configuration of the Rust server: none of {sections} is in it{hint}"
            )
        self._values: dict[str, object] = {}
        for section, content in document.items():
            if isinstance(content, Mapping):
                self._values.update({f"{section}.{name}": value for name, value in content.items()})
            else:
                self._values[section] = content

    def rest(self) -> list[str]:
        return list(self._values)

    def _taken(self, key: str, kind: str, fits: Callable[[object], bool]) -> object:
        value = self._values.pop(key, None)
        if value is not None and not fits(value):
            raise self._draft.wrong(key, value, f"must be {kind}")
        return value

    def text(self, key: str) -> str | None:
        value = self._taken(key, "text", lambda found: isinstance(found, str))
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        value = self._taken(key, "an integer", lambda found: isinstance(found, int) and not isinstance(found, bool))
        return value if isinstance(value, int) else None

    def boolean(self, key: str) -> bool | None:
        value = self._taken(key, "true or false", lambda found: isinstance(found, bool))
        return value if isinstance(value, bool) else None

    def texts(self, key: str) -> list[str] | None:
        value = self._taken(
            key, "a list of host:port", lambda found: isinstance(found, list) and all(isinstance(i, str) for i in found)
        )
        return [str(item) for item in value] if isinstance(value, list) else None


def _place(draft: Draft, keys: _Keys) -> None:
    shown = keys.text("server.listen_addr")
    try:
        listen = ADDRESS.from_text(shown or LISTEN)
    except ValueError as exc:
        raise draft.wrong("server.listen_addr", shown, f"becomes listen, which {exc}") from exc
    if shown is None:
        draft.decide("listen", LISTEN, "the earlier server's default")
    else:
        draft.carry("server.listen_addr", shown, "listen", str(listen))
    peers = keys.texts("cluster.peers")
    peer_port = keys.integer("server.peer_port")
    node_id = keys.text("server.node_id")
    enabled = keys.boolean("cluster.enabled")
    if enabled is not None:
        # No setting of its own: peers decide.
        draft.leave("cluster.enabled", "a node with peers is a member of a cluster, a node without is alone")
    if not enabled and peers:
        draft.leave("cluster.peers", "cluster.enabled is not true")
    if not enabled or not peers:
        if node_id is not None:
            draft.carry("server.node_id", node_id, "node_id", node_id)
        if peer_port is not None:
            draft.leave("server.peer_port", "a node without peers listens to no members")
        place_alone(draft, listen)
        return
    others = {
        address: f"http://{address}"
        for address in (address_of(draft, "cluster.peers", peer, HTTP_PORT) for peer in peers)
    }
    own = advertised(draft) or listen
    if own.is_unspecified:
        raise draft.wrong(
            "server.listen_addr", listen, "does not say how the other members reach this one; say it with --advertise"
        )
    if node_id is not None:
        draft.leave("server.node_id", "the other members' files do not name it; ids follow from addresses")
    if peer_port is not None:
        draft.leave("server.peer_port", "not a setting of its own: raft_listen and peers were made with it")
    place_member(draft, Listed("cluster.peers", ", ".join(peers), others), own, listen, peer_port)


def _leases(draft: Draft, keys: _Keys) -> None:
    """One TTL for all, where there are several here."""
    ttl_s = keys.integer("lease.ttl_secs")
    legacy = keys.text("registry.lease_ttl")
    key, shown, ttl_ms = "lease.ttl_secs", str(ttl_s), None if ttl_s is None else ttl_s * 1_000
    if legacy is not None and ttl_s is not None:
        draft.leave("registry.lease_ttl", "lease.ttl_secs is given as well")
    elif legacy is not None:
        key, shown, ttl_ms = "registry.lease_ttl", legacy, duration_ms(legacy)
        if ttl_ms is None:
            raise draft.wrong(key, legacy, "must be a duration such as 30s to become default_ttl_ms")
    if ttl_ms is None:
        return
    for setting in ("default_ttl_ms", "snake_ttl_ms"):
        draft.carry(key, shown, setting, ttl_ms)
    if ttl_ms <= RENEWAL_S * 1_000:
        draft.warn(
            f"snake_ttl_ms = {ttl_ms}: clients of the earlier server renew every {RENEWAL_S} s by default, and leases"
            f" really end here; {3 * RENEWAL_S * 1_000} would be safe"
        )
