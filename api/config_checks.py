"""Rules that hold between settings, and the secret. Each failure names a key, its value and what is allowed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from artemis.api.config import Config, ConfigError, Given, quote, settings
from artemis.api.config_kinds import Address
from artemis.api.push.settings import PushSettings
from artemis.api.settings import Consistency, HttpSettings, WithoutQuorum
from artemis.errors import InvalidInput

SECRET_BYTES_MIN = 16


def check(config: Config, given: Mapping[str, Given]) -> None:
    """Raise ``ConfigError`` for the first broken rule."""
    _check_members(config, given)
    _check_addresses(config, given)
    _check_times(config, given)
    _check_http(config, given)


def _wrong(key: str, config: Config, given: Mapping[str, Given], rule: str) -> ConfigError:
    """``rule`` follows "key = value: "; the source is said when there is one."""
    setting = next(setting for setting in settings() if setting.key == key)
    if key in given:
        item = given[key]
        named = item.source if item.source in (setting.flag, setting.env) else f"{item.source}: {key}"
        return ConfigError(f"{named} = {item.shown}: {rule}")
    value = getattr(config, key)
    if value is None:
        return ConfigError(f"{key} is not set: {rule}")
    return ConfigError(f"{key} = {quote(setting.kind.show(value))} (default): {rule}")


def _check_members(config: Config, given: Mapping[str, Given]) -> None:
    if config.node_id not in config.peers:
        raise _wrong("node_id", config, given, f"must be one of the peers: {', '.join(config.peers)}")
    if len(config.peers) > 1 and config.raft_listen is None:
        raise _wrong("raft_listen", config, given, "must be host:port when there are several peers")
    if config.raft_listen is not None and "peers" not in given:
        raise _wrong("raft_listen", config, given, "has no meaning without peers, which must name every member")
    for name, address in config.peers.items():
        if name != config.node_id and address == config.raft_listen:
            raise _wrong(
                "raft_listen", config, given, f"is the address of member {name}; this node is {config.node_id}"
            )


def _check_addresses(config: Config, given: Mapping[str, Given]) -> None:
    if config.raft_listen is not None and _overlap(config.listen, config.raft_listen):
        raise _wrong("listen", config, given, f"must differ from raft_listen ({config.raft_listen})")
    if config.listen.is_unspecified and "advertise" not in given:
        raise _wrong("advertise", config, given, f"must be set when listen is {config.listen}: clients cannot use that")
    if config.secret_file is not None or config.insecure:
        return
    for key, address in (("listen", config.listen), ("raft_listen", config.raft_listen)):
        if address is not None and not address.is_loopback:
            raise _wrong(key, config, given, "beyond loopback needs secret_file, or insecure to do without one")


def _overlap(one: Address, other: Address) -> bool:
    same_host = one.host == other.host or one.is_unspecified or other.is_unspecified
    return same_host and one.port == other.port


def _check_times(config: Config, given: Mapping[str, Given]) -> None:
    if config.election_timeout_ms <= 3 * config.heartbeat_ms:
        rule = f"must be more than three times heartbeat_ms ({config.heartbeat_ms})"
        raise _wrong("election_timeout_ms", config, given, rule)


def http_settings(config: Config) -> HttpSettings:
    """What the HTTP side is told. Raises ``InvalidInput``, which ``check`` has already turned into ``ConfigError``."""
    return HttpSettings(
        region_id=config.region,
        zone_id=config.zone,
        any_region=config.any_region,
        any_zone=config.any_zone,
        default_ttl_ms=config.default_ttl_ms,
        java_registry_ttl_ms=config.java_registry_ttl_ms,
        snake_ttl_ms=config.snake_ttl_ms,
        ttl_ms_min=config.ttl_ms_min,
        ttl_ms_max=config.ttl_ms_max,
        request_timeout_ms=config.request_timeout_ms,
        request_timeout_ms_max=config.request_timeout_ms_max,
        body_bytes_max=config.body_bytes_max,
        items_max=config.items_max,
        cache_bytes_max=config.cache_bytes_max,
        watch_wait_ms_max=config.watch_wait_ms_max,
        watch_bookmark_ms=config.watch_bookmark_ms,
        change_cache_bytes_max=config.change_cache_bytes_max,
        sockets_max=config.sockets_max,
        push=PushSettings(
            session_ms=config.push_session_ms,
            subscriptions_max=config.push_subscriptions_max,
            heartbeat_timeout_ms=config.push_heartbeat_timeout_ms,
            message_bytes_max=config.push_message_bytes_max,
            reload_on_subscribe=config.push_reload_on_subscribe,
            heartbeat_denied=config.push_heartbeat_denied,
            discovery_denied=config.push_discovery_denied,
            discoveries_denied=config.push_discoveries_denied,
        ),
        contexts=config.contexts,
        snake_default=config.snake_default,
        rate_limiting=config.rate_limiting,
        rate_limits=config.rate_limits,
        reads_default=cast(Consistency, config.reads_default),
        reads_without_quorum=cast(WithoutQuorum, config.reads_without_quorum),
    )


def _check_http(config: Config, given: Mapping[str, Given]) -> None:
    if config.sockets_max > config.connections_max:
        raise _wrong("sockets_max", config, given, f"must be at most connections_max ({config.connections_max})")
    if not config.any_region and not config.region:
        raise _wrong("any_region", config, given, "may be false only when region is set")
    if not config.any_zone and not config.zone:
        raise _wrong("any_zone", config, given, "may be false only when zone is set")
    try:
        http_settings(config)
    except InvalidInput as exc:
        raise _wrong(exc.field, config, given, f"must be {exc.rule}") from exc


def read_secret(path: Path) -> bytes:
    """The secret without its line end. ``ConfigError`` if it is missing, short, or open to others."""
    key = f"secret_file = {quote(str(path))}"
    try:
        found = path.stat()
        mode, owner = found.st_mode, found.st_uid
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{key}: must be a regular file")
        with path.open("rb") as file:
            secret = file.read(65_537).rstrip(b"\r\n")
    except OSError as exc:
        raise ConfigError(f"{key}: cannot be read: {exc.strerror}") from exc
    # A file of root's that its group may read is how Kubernetes gives secrets to those who are not root.
    forbidden = 0o037 if owner == 0 != os.geteuid() else 0o077
    if mode & forbidden:
        raise ConfigError(f"{key}: others may use it (mode {mode & 0o777:o}); run chmod 600 {quote(str(path))}")
    if not SECRET_BYTES_MIN <= len(secret) <= 65_536:
        raise ConfigError(f"{key}: holds {len(secret)} bytes; must be {SECRET_BYTES_MIN} to 65536")
    return secret
