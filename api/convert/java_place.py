"""Where a Java server listens, who its members are, and which of them a file is for (``java-http.md`` 8.1)."""

from __future__ import annotations

from urllib.parse import urlsplit

from artemis.api.config_kinds import ADDRESS, Address
from artemis.api.convert.draft import Draft
from artemis.api.convert.java_keys import Given, Keys, split_list
from artemis.api.convert.members import (
    Listed,
    address_of,
    advertise_as_listed,
    advertised,
    place_alone,
    place_member,
    which_one,
)

HTTP_PORT = 8080
NODES = "artemis.service.cluster.nodes"
PEERS = "artemis.cluster.peers"
PORTS = ("app.port", "server.port", "artemis.service.port")


def place_java(draft: Draft, keys: Keys) -> None:
    """Where the node listens, and who the members are."""
    port = keys.first(*PORTS)
    host = keys.take("server.host")
    nodes = keys.take(NODES)
    peers = keys.take(PEERS)
    zones: dict[Address, str] = {}
    if nodes is not None and nodes.value:
        if peers is not None:
            draft.leave(peers.key, f"{nodes.key} is given as well")
        zones, urls = _zones(draft, nodes)
        listed = Listed(nodes.key, nodes.value, urls)
    elif peers is not None and peers.value:
        found = [address_of(draft, peers.key, peer, HTTP_PORT) for peer in split_list(peers.value, ",")]
        listed = Listed(peers.key, peers.value, {address: f"http://{address}" for address in found})
    else:
        _alone(draft, keys, port, host)
        return
    said_zone = str(draft.values().get("zone", "")).lower()
    in_zone = [address for address in listed.members if said_zone in ("", zones.get(address, "").lower())]
    own = _own(draft, keys, listed, in_zone, (port, host))
    _listen(draft, keys, own, port, host)
    if zones:
        zone = zones.get(own)
        if zone is None:
            raise draft.wrong("--advertise", str(own), f"is none of {', '.join(map(str, zones))}, which {NODES} names")
        if said_zone not in ("", zone.lower()):
            raise draft.wrong(NODES, listed.shown, f"has this node ({own}) in {zone}, but zone.id is {said_zone}")
        draft.decide("zone", zone, f"{listed.key} has this node in it")
    listen = ADDRESS.from_text(str(draft.values()["listen"]))
    if set(listed.members) <= {own}:
        draft.leave(listed.key, "it names this node alone, and a cluster of one needs no peers")
        if draft.choices.advertise is None:
            advertise_as_listed(draft, listed, own, listen)
        place_alone(draft, listen)
        return
    place_member(draft, listed, own, listen)


def _zones(draft: Draft, nodes: Given) -> tuple[dict[Address, str], dict[Address, str]]:
    """From ``zone:url,url;zone:url`` the zone and the URL of each address."""
    zones: dict[Address, str] = {}
    urls: dict[Address, str] = {}
    for part in split_list(nodes.value, ";"):
        zone, colon, listed = part.partition(":")
        if not colon or not zone.strip() or not split_list(listed, ",") or listed.startswith("//"):
            raise draft.wrong(nodes.key, nodes.value, "must be zone:url,url;zone:url")
        for url in split_list(listed, ","):
            address = address_of(draft, nodes.key, url)
            zones[address] = zone.strip()
            urls[address] = url.rstrip("/")
    return zones, urls


def _own(
    draft: Draft, keys: Keys, listed: Listed, in_zone: list[Address], places: tuple[Given | None, Given | None]
) -> Address:
    """Which of the listed members this file is for. ``places``: the keys for the port and the host."""
    said = advertised(draft)
    if said is not None:
        return said
    port, host = places
    number = keys.integer(port) if port is not None else HTTP_PORT
    for name in (keys.host, host.value if host is not None else None):
        own = [member for member in listed.members if member.host == name and member.port == number]
        if own:
            return own[0]
    # The other list may leave out this node, so being alone in it tells nothing.
    if listed.key.startswith(NODES):
        same_port = [member for member in in_zone if member.port == number]
        for candidates in (in_zone, same_port):
            if len(candidates) == 1:
                return candidates[0]
    raise which_one(draft, listed)


def _alone(draft: Draft, keys: Keys, port: Given | None, host: Given | None) -> None:
    said = advertised(draft)
    _listen(draft, keys, said or Address("0.0.0.0", HTTP_PORT), port, host)
    place_alone(draft, ADDRESS.from_text(str(draft.values()["listen"])))


def _listen(draft: Draft, keys: Keys, own: Address, port: Given | None, host: Given | None) -> None:
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


def carry_path(draft: Draft, keys: Keys) -> None:
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
