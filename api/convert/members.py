"""From HTTP addresses to members. A member also needs a Raft address, which no earlier server had.

Files are converted one machine at a time and the members must come out the same in all of them. So a member's id and
Raft port follow from its HTTP address alone: ``10.0.0.1-8080`` and the HTTP port plus one offset.
"""

from __future__ import annotations

import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from artemis.api.config_kinds import ADDRESS, URL, Address
from artemis.api.convert.draft import ConvertError, Draft

RAFT_PORT_OFFSET = 1_000


def address_of(draft: Draft, key: str, text: str, default_port: int | None = None) -> Address:
    """From a URL or ``host:port``. Raises ``ConvertError``."""
    bare = text.strip().rstrip("/")
    try:
        if "://" in bare:
            URL.from_text(bare)
            parts = urlsplit(bare)
            return Address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        if default_port is not None and ":" not in bare:
            bare = f"{bare}:{default_port}"
        return ADDRESS.from_text(bare)
    except ValueError as exc:
        raise draft.wrong(key, text, f"{exc}") from exc


def advertised(draft: Draft) -> Address | None:
    """What the operator said on the command line."""
    url = draft.choices.advertise
    return None if url is None else address_of(draft, "--advertise", url)


def member_id(address: Address) -> str:
    host = address.host.lower()
    return f"v6-{host.replace(':', '-')}-{address.port}" if ":" in host else f"{host}-{address.port}"


def place_alone(draft: Draft, listen: Address) -> None:
    """A cluster of one node; ``listen`` is already in the draft."""
    if draft.choices.advertise is not None:
        draft.decide("advertise", draft.choices.advertise, "--advertise")
    elif listen.is_unspecified and "advertise" not in draft.values():
        url = f"http://{socket.gethostname()}:{listen.port}"
        reason = "the file does not say how clients reach this node; the name of this machine was taken: check it"
        draft.decide("advertise", url, reason)
    _protect(draft, [listen])


class Listed(NamedTuple):
    """The key that lists members, its value, and the HTTP addresses found in it."""

    key: str
    shown: str
    members: dict[Address, str]
    """With the URL by which clients reach each."""


def place_member(draft: Draft, listed: Listed, own: Address, listen: Address, peer_port: int | None = None) -> None:
    """One of several members. ``own``: its HTTP address as the other members' files have it.

    ``peer_port``: what the file says the members' own port is; the same distance is taken for every member.
    """
    key, shown, members = listed
    chosen = draft.choices.raft_port_offset
    if chosen is not None:
        offset = chosen
    elif peer_port is not None:
        offset = peer_port - listen.port
    else:
        offset = RAFT_PORT_OFFSET
    everyone = sorted({own, *members})
    taken = set(everyone)
    peers: dict[str, str] = {}
    for member in everyone:
        raft = Address(member.host, member.port + offset)
        if not 1 <= raft.port <= 65_535 or raft in taken:
            raise draft.wrong(
                key, shown, f"gives member {member} the Raft address {raft}; choose others with --raft-port-offset"
            )
        peers[member_id(member)] = str(raft)
    draft.carry(key, shown, "peers", peers)
    draft.decide("node_id", member_id(own), "a member's id follows from its address, so that all files agree on it")
    raft_listen = Address(listen.host, own.port + offset)
    draft.decide("raft_listen", str(raft_listen), f"where members connect: the HTTP port plus {offset}")
    if draft.choices.advertise is not None:
        draft.decide("advertise", draft.choices.advertise, "--advertise")
    else:
        advertise_as_listed(draft, listed, own, listen)
    _protect(draft, [listen, raft_listen])


def advertise_as_listed(draft: Draft, listed: Listed, own: Address, listen: Address) -> None:
    url = listed.members.get(own, f"http://{own}")
    if url != f"http://{listen}":
        draft.decide("advertise", url, f"how {listed.key} names this node" if own in listed.members else "its address")


def which_one(draft: Draft, listed: Listed) -> ConvertError:
    urls = ", ".join(f"http://{member}" for member in listed.members)
    return draft.wrong(
        listed.key, listed.shown, f"does not show which member this file is for; say it with --advertise ({urls})"
    )


def _protect(draft: Draft, listening: list[Address]) -> None:
    if draft.choices.secret_file is not None:
        draft.decide("secret_file", draft.choices.secret_file, "--secret-file")
    elif not all(address.is_loopback for address in listening):
        reason = "the earlier servers had no secret; give the members one: --secret-file"
        draft.decide("insecure", True, reason)
