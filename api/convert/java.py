"""The keys of the Java servers' ``.properties``: those in use (``java-http.md`` 9), and those that the Rust project
planned for its converter and its specification (``rust-http.md`` 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from artemis.api.convert.draft import Draft, duration_ms
from artemis.api.convert.java_keys import HOST_SUFFIX, Keys, split_list
from artemis.api.convert.java_place import NODES, PEERS, PORTS, carry_path, place_java
from artemis.api.convert.limits import carry_limits
from artemis.api.convert.properties import Property

_LEASE = "artemis.service.registry.{}.lease-manager.lease.ttl"
_SAFE_CHECK = "artemis.service.registry.instance.lease-manager.lease-update-safe-checker."

PLAIN = {
    "region.id": "region",
    "artemis.region": "region",
    "zone.id": "zone",
    "artemis.zone": "zone",
}
MILLISECONDS = {
    _LEASE.format("instance"): "default_ttl_ms",
    _LEASE.format("legacy-instance"): "java_registry_ttl_ms",
    "artemis.service.websocket.session.ttl": "push_session_ms",
}
DENIED = {
    "artemis.service.service-heartbeat.ws-ip.black-list": "push_heartbeat_denied",
    "artemis.service.service-discovery.ws-ip.black-list": "push_discovery_denied",
    "artemis.service.service-discoveries.ws-ip.black-list": "push_discoveries_denied",
}
DURATIONS = {"artemis.lease.ttl": "default_ttl_ms"}
OTHER_ZONES = ("artemis.service.registry.allow-from-other-zone", "artemis.service.discovery.allow-from-other-zone")

KNOWN = (NODES, *PLAIN, *MILLISECONDS, *DURATIONS, *OTHER_ZONES, *PORTS, PEERS, "app.path")
"""A file with none of these, and none below ``artemis.service.``, is not a server's."""

_NO_DATABASE = "all state is in the replicated log; no database is used"
_DEAD = "the earlier server never read it"
_SWEEP = "leases end when they are due, without a sweep"
LEFT: tuple[tuple[str, str], ...] = (
    (r"app\.id", "an identifier of the earlier deployment system"),
    (r"app\.protocol", "HTTP is served; TLS ends in front of the node"),
    (r"artemis\.cluster\.enabled", "a node with peers is a member of a cluster, a node without is alone"),
    (r"artemis\.service\.cluster\.nodes\.status-update\..*", "members know of each other from their own links"),
    (r"artemis\.service\.cluster\.node\.init\..*", "a node takes the state from the log, not from another's answer"),
    (r"artemis\.service\.cluster\.node\.status\..*", "whether a node can serve is found out, not set; see /readyz"),
    (r"artemis\.service\.registry\.replicaton\..*", _DEAD),
    (r".*\.lease-manager\.thread-pool-size", _DEAD),
    (r"artemis\.service\.registry\..*replication\..*", "members replicate one log; there are no tasks to batch"),
    (r".*\.clean-task\..*|artemis\.eviction\.interval", _SWEEP),
    (r".*\.data\.(init-capacity|instance-change\..*)", "grows by itself"),
    (r"artemis\.service\.discovery\.versioned-cache\..*", "deltas reach back by revisions, not by snapshots"),
    (r".*\.(notify|change-publisher)\.thread-count", "changes are pushed in order, by one loop"),
    (r".*\.lease-update-safe-checker\.max-count-threshold", "it counted renewals; protection_leases_min counts leases"),
    (r".*\.lease-update-safe-checker\.max-count-reset-interval", "no maximum is remembered"),
    (r".*\.legacy-instance\..*\.lease-update-safe-checker\..*", "there is one protection for all instances"),
    (r".*\.lease-update-safe-checker\..*", "protection looks at every lease that comes due, without a schedule"),
    (r"artemis\.management\..*", "there is no management plane"),
    (r".*ws-ip\.black-list.*", "it is for none of the WebSockets of the earlier server"),
    (r".*rate-limiter\..*|artemis\.ratelimit\..*", "limits are per operation here, see rate_limits"),
    (r"artemis\.websocket\..*|artemis\.service\.websocket\..*", "there is no such setting here"),
    (r"artemis\.db\..*|.*(jdbc|mysql|datasource|data-source).*", _NO_DATABASE),
)
_LEFT = tuple((re.compile(pattern), reason) for pattern, reason in LEFT)


def convert_java(draft: Draft, properties: Iterable[Property]) -> None:
    """Raises ``ConvertError``."""
    keys = Keys(draft, properties, KNOWN)
    for key, setting in PLAIN.items():
        given = keys.take(key)
        if given is not None and given.value:
            keys.carry_once(given, setting, given.value)
    place_java(draft, keys)
    for key, setting in MILLISECONDS.items():
        given = keys.take(key)
        if given is not None:
            keys.carry_once(given, setting, keys.integer(given))
    for key, setting in DURATIONS.items():
        given = keys.take(key)
        if given is not None:
            ttl_ms = duration_ms(given.value)
            if ttl_ms is None:
                raise draft.wrong(given.key, given.value, f"must be as 500ms, 30s, 5m or 2h to become {setting}")
            keys.carry_once(given, setting, ttl_ms)
    carry_limits(draft, keys.take)
    _protection(draft, keys)
    for key, setting in DENIED.items():
        _denied(draft, keys, key, setting)
    carry_path(draft, keys)
    _places_served(draft, keys)
    for given in keys.rest():
        draft.leave(given.key, next((why for key, why in _LEFT if key.fullmatch(given.key)), _unknown(given.key)))


def _unknown(key: str) -> str:
    host = HOST_SUFFIX.fullmatch(key)
    return f"it is for the host {host[2]} only" if host else "no earlier server is known to have had it"


def _protection(draft: Draft, keys: Keys) -> None:
    """The safe check, as far as it means the same. It named the share of renewals that must be left."""
    enabled = keys.take(_SAFE_CHECK + "enabled")
    if enabled is not None:
        draft.carry(enabled.key, enabled.value, "protection", keys.boolean(enabled))
    window = keys.take(_SAFE_CHECK + "time-window")
    if window is not None:
        draft.carry(window.key, window.value, "protection_window_ms", keys.integer(window))
    left = keys.take(_SAFE_CHECK + "percentage-threshold")
    if left is not None:
        percent = keys.integer(left)
        if percent == 100:
            draft.warn(f"{left.key} = 100: protection_share_percent is at least 1")
        draft.carry(left.key, left.value, "protection_share_percent", 1 if percent == 100 else 100 - percent)


def _denied(draft: Draft, keys: Keys, key: str, setting: str) -> None:
    """A black list with a switch of its own."""
    listed = keys.take(key)
    switch = keys.take(f"{key}.enabled")
    is_on = switch is None or keys.boolean(switch)
    if switch is not None:
        draft.leave(switch.key, f"{setting} is on when it names an address")
    if listed is None:
        return
    addresses = split_list(listed.value, ",")
    if is_on and addresses:
        draft.carry(listed.key, listed.value, setting, addresses)
    else:
        draft.leave(listed.key, "it is empty" if is_on else "it was switched off")


def _places_served(draft: Draft, keys: Keys) -> None:
    """The Java servers refuse other regions always, and other zones unless they are allowed."""
    values = draft.values()
    if values.get("region"):
        draft.decide("any_region", False, "the earlier server refused other regions")
    given = [found for key in OTHER_ZONES if (found := keys.take(key)) is not None]
    allowed = [keys.boolean(item) for item in given]
    if not given:
        if values.get("zone"):
            reason = "the earlier server refused other zones unless allow-from-other-zone said otherwise"
            draft.decide("any_zone", False, reason)
    elif len(given) == len(OTHER_ZONES) and allowed[0] == allowed[1]:
        draft.carry(given[0].key, given[0].value, "any_zone", allowed[0])
        draft.carry(given[1].key, given[1].value, "any_zone", allowed[1])
    else:
        # Refusing what one of them allowed would break clients; allowing more breaks none.
        draft.decide("any_zone", True, "registry and discovery have one setting here, and the earlier server had two")
        for item in given:
            draft.leave(item.key, "registry and discovery do not allow other zones alike; any_zone is for both")
