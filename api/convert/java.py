"""The keys of the Java servers' ``.properties``: those in use (``java-http.md`` 9), and those that the Rust project
planned for its converter and its specification (``rust-http.md`` 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from artemis.api.config_kinds import Address
from artemis.api.convert.draft import ConvertError, Draft, duration_ms
from artemis.api.convert.members import (
    Listed,
    address_of,
    advertise_as_listed,
    advertised,
    place_alone,
    place_member,
    which_one,
)
from artemis.api.convert.properties import Property

HTTP_PORT = 8080
NODES = "artemis.service.cluster.nodes"
PEERS = "artemis.cluster.peers"
_LEASE = "artemis.service.registry.{}.lease-manager.lease.ttl"
_HOST_SUFFIX = re.compile(r"(.+?)\.((?:[0-9]{1,3}\.){3}[0-9]{1,3})")

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
PORTS = ("app.port", "server.port", "artemis.service.port")

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
    (r".*\.replication\.rate-limiter\..*", "the replication operations are limited like the others"),
    (r"artemis\.service\.registry\..*replication\..*", "members replicate one log; there are no tasks to batch"),
    (r".*\.clean-task\..*|artemis\.eviction\.interval", _SWEEP),
    (r".*\.data\.(init-capacity|instance-change\..*)", "grows by itself"),
    (r"artemis\.service\.discovery\.versioned-cache\..*", "deltas reach back by revisions, not by snapshots"),
    (r".*\.(notify|change-publisher)\.thread-count", "changes are pushed in order, by one loop"),
    (r".*\.lease-update-safe-checker\..*", "mass expiry is handled otherwise here; see the settings of leases"),
    (r"artemis\.management\..*", "there is no management plane"),
    (r".*ws-ip\.black-list.*", "it is for none of the WebSockets of the earlier server"),
    (r".*rate-limiter\..*|artemis\.ratelimit\..*", "there is no such limit here"),
    (r"artemis\.websocket\..*|artemis\.service\.websocket\..*", "there is no such setting here"),
    (r"artemis\.db\..*|.*(jdbc|mysql|datasource|data-source).*", _NO_DATABASE),
)
_LEFT = tuple((re.compile(pattern), reason) for pattern, reason in LEFT)


class _Given(NamedTuple):
    key: str
    """As it stands in the file, with the address of a host behind it if there was one."""
    value: str


def convert_java(draft: Draft, properties: Iterable[Property]) -> None:
    """Raises ``ConvertError``."""
    keys = _Keys(draft, properties)
    _place(draft, keys)
    for key, setting in PLAIN.items():
        given = keys.take(key)
        if given is not None and given.value:
            keys.carry_once(given, setting, given.value)
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
    for key, setting in DENIED.items():
        _denied(draft, keys, key, setting)
    _path(draft, keys)
    _places_served(draft, keys)
    for given in keys.rest():
        draft.leave(given.key, next((why for key, why in _LEFT if key.fullmatch(given.key)), _unknown(given.key)))


def _unknown(key: str) -> str:
    host = _HOST_SUFFIX.fullmatch(key)
    return f"it is for the host {host[2]} only" if host else "no earlier server is known to have had it"


class _Keys:
    """The last value of each key; one with this host's address behind it beats the bare one. Taking takes out."""

    def __init__(self, draft: Draft, properties: Iterable[Property]) -> None:
        self._draft = draft
        self._values: dict[str, str] = {}
        for item in properties:
            if item.key in self._values and self._values[item.key] != item.value:
                draft.warn(f"{item.key}: given twice; {item.value!r}, the last, counts")
            self._values[item.key] = item.value
        known = (*PLAIN, *MILLISECONDS, *DURATIONS, *OTHER_ZONES, *PORTS, NODES, PEERS, "app.path")
        if not any(_is_known(key, known) for key in self._values):
            raise ConvertError(
                f"{draft.source}: is no configuration of an earlier Artemis server: none of its keys is known"
                f" (such as {NODES}, region.id, artemis.region)"
            )
        self.host = self._values.pop("host.ip", None) or ((found := advertised(draft)) and found.host)

    def take(self, key: str) -> _Given | None:
        own = f"{key}.{self.host}"
        if own in self._values:
            if key in self._values:
                del self._values[key]
                self._draft.leave(key, f"{own} beats it")
            return _Given(own, self._values.pop(own).strip())
        return _Given(key, self._values.pop(key).strip()) if key in self._values else None

    def first(self, *keys: str) -> _Given | None:
        """The first of the keys that is there; the others are left."""
        found: _Given | None = None
        for key in keys:
            given = self.take(key)
            if given is None:
                continue
            if found is None:
                found = given
            else:
                self._draft.leave(given.key, f"{found.key} is given as well")
        return found

    def rest(self) -> list[_Given]:
        return [_Given(key, value) for key, value in self._values.items()]

    def carry_once(self, given: _Given, setting: str, value: str | int | bool | list[str]) -> None:
        earlier = next((item for item in self._draft.carried if item.setting == setting), None)
        if earlier is None:
            self._draft.carry(given.key, given.value, setting, value)
        else:
            self._draft.leave(given.key, f"{earlier.key} is given as well")

    def integer(self, given: _Given) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", given.value):
            raise self._draft.wrong(given.key, given.value, "must be an integer")
        return int(given.value)

    def boolean(self, given: _Given) -> bool:
        if given.value.lower() not in ("true", "false"):
            raise self._draft.wrong(given.key, given.value, "must be true or false")
        return given.value.lower() == "true"


def _is_known(key: str, known: tuple[str, ...]) -> bool:
    host = _HOST_SUFFIX.fullmatch(key)
    return key in known or (host is not None and host[1] in known) or key.startswith("artemis.service.")


def _place(draft: Draft, keys: _Keys) -> None:
    """Where the node listens, and who the members are."""
    port = keys.first(*PORTS)
    host = keys.take("server.host")
    nodes = keys.take(NODES)
    peers = keys.take(PEERS)
    if nodes is not None and nodes.value:
        if peers is not None:
            draft.leave(peers.key, f"{nodes.key} is given as well")
        zones, urls = _zones(draft, nodes)
        listed = Listed(nodes.key, nodes.value, urls)
    elif peers is not None and peers.value:
        zones = {}
        found = [address_of(draft, peers.key, peer, HTTP_PORT) for peer in _split(peers.value, ",")]
        listed = Listed(peers.key, peers.value, {address: f"http://{address}" for address in found})
    else:
        _alone(draft, keys, port, host)
        return
    own = _own(draft, keys, listed, port, host)
    _listen(draft, keys, own, port, host)
    zone = zones.get(own)
    if zone:
        # The file may name the zone as well; then that counts, and a difference is a mistake in the file.
        draft.decide("zone", zone, f"{listed.key} has this node in it")
    listen = Address(*_host_port(str(draft.values()["listen"])))
    if set(listed.members) <= {own}:
        draft.leave(listed.key, "it names this node alone, and a cluster of one needs no peers")
        if draft.choices.advertise is None:
            advertise_as_listed(draft, listed, own, listen)
        place_alone(draft, listen)
        return
    place_member(draft, listed, own, listen)


def _zones(draft: Draft, nodes: _Given) -> tuple[dict[Address, str], dict[Address, str]]:
    """From ``zone:url,url;zone:url`` the zone and the URL of each address."""
    zones: dict[Address, str] = {}
    urls: dict[Address, str] = {}
    for part in _split(nodes.value, ";"):
        zone, colon, listed = part.partition(":")
        if not colon or not zone.strip() or not _split(listed, ",") or listed.startswith("//"):
            raise draft.wrong(nodes.key, nodes.value, "must be zone:url,url;zone:url")
        for url in _split(listed, ","):
            address = address_of(draft, nodes.key, url)
            zones[address] = zone.strip()
            urls[address] = url.rstrip("/")
    return zones, urls


def _split(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]


def _own(draft: Draft, keys: _Keys, listed: Listed, port: _Given | None, host: _Given | None) -> Address:
    """Which of the listed members this file is for."""
    said = advertised(draft)
    if said is not None:
        return said
    number = keys.integer(port) if port is not None else HTTP_PORT
    for name in (keys.host, host.value if host is not None else None):
        own = [member for member in listed.members if member.host == name and member.port == number]
        if own:
            return own[0]
    if len(listed.members) == 1 and listed.key.startswith(NODES):
        return next(iter(listed.members))
    same_port = [member for member in listed.members if member.port == number]
    if len(same_port) == 1 and port is not None and listed.key.startswith(NODES):
        return same_port[0]
    raise which_one(draft, listed)


def _alone(draft: Draft, keys: _Keys, port: _Given | None, host: _Given | None) -> None:
    said = advertised(draft)
    _listen(draft, keys, said or Address("0.0.0.0", HTTP_PORT), port, host)
    place_alone(draft, Address(*_host_port(str(draft.values()["listen"]))))


def _listen(draft: Draft, keys: _Keys, own: Address, port: _Given | None, host: _Given | None) -> None:
    """The earlier servers listened on every interface; a node that is known as loopback needs no more than that."""
    number = keys.integer(port) if port is not None else own.port
    if host is not None and host.value:
        draft.carry(host.key, host.value, "listen", str(Address(host.value, number)))
        if port is not None:
            draft.leave(port.key, f"it is in listen, with {host.key}")
        return
    listen = str(Address(own.host if own.is_loopback else "0.0.0.0", number))
    if port is not None:
        draft.carry(port.key, port.value, "listen", listen)
    else:
        draft.decide("listen", listen, "the port of the node, on the interfaces the earlier server used")


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _denied(draft: Draft, keys: _Keys, key: str, setting: str) -> None:
    """A black list with a switch of its own."""
    listed = keys.take(key)
    switch = keys.take(f"{key}.enabled")
    is_on = switch is None or keys.boolean(switch)
    if switch is not None:
        draft.leave(switch.key, f"{setting} is on when it names an address")
    if listed is None:
        return
    addresses = _split(listed.value, ",")
    if is_on and addresses:
        draft.carry(listed.key, listed.value, setting, addresses)
    else:
        draft.leave(listed.key, "it is empty" if is_on else "it was switched off")


def _path(draft: Draft, keys: _Keys) -> None:
    given = keys.take("app.path")
    if given is not None and given.value.strip("/"):
        path = "/" + given.value.strip("/")
        if path == "/artemis":
            draft.leave(given.key, "the API is served under /artemis/api/ anyway")
        else:
            draft.carry(given.key, given.value, "contexts", [path])
        return
    if given is not None:
        draft.leave(given.key, "it is empty")
    path = urlsplit(str(draft.values().get("advertise", ""))).path
    if path and path != "/artemis":
        draft.decide("contexts", [path], "the URL of this node has it, and 1.x clients put /api/ behind that")


def _places_served(draft: Draft, keys: _Keys) -> None:
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
