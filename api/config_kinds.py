"""The kinds of values a setting can have: how each is read from text (flag, environment) and from TOML.

A reader raises ``ValueError`` with the rule that was broken, written so that it can follow "key = value: ". TOML is
typed, so its readers are strict: ``"5"`` is not an integer and ``1`` is not a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

NODE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Also a directory name below ``./.artemis``, hence no slash and no leading dot."""


class Address(NamedTuple):
    """A TCP address as configured. The host may be a name; it is resolved where it is used."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Certainly reachable from this machine only. A name other than localhost may resolve to anything: False."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_unspecified(self) -> bool:
        """All interfaces: a place to listen on, not a place to connect to."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    metavar: str
    allowed: str
    from_text: Callable[[str], T]
    from_toml: Callable[[object], T]
    show: Callable[[T], str] = str


def text_kind(metavar: str, allowed: str, read: Callable[[str], T], show: Callable[[T], str] = str) -> Kind[T]:
    """A kind that is text in TOML too."""

    def from_toml(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError(f"must be text: {allowed}")
        return read(value)

    return Kind(metavar, allowed, read, from_toml, show)


def integer(minimum: int, maximum: int) -> Kind[int]:
    allowed = f"an integer, {minimum} to {maximum}"

    def check(value: int) -> int:
        if not minimum <= value <= maximum:
            raise ValueError(f"must be {allowed}")
        return value

    def from_text(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise ValueError(f"must be {allowed}")
        return check(int(value))

    def from_toml(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"must be {allowed}")
        return check(value)

    return Kind("N", allowed, from_text, from_toml)


def choice(*names: str) -> Kind[str]:
    allowed = " or ".join((", ".join(names[:-1]), names[-1]))

    def read(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be {allowed}")
        return value

    return text_kind("|".join(names), allowed, read)


def _bool_from_text(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _bool_from_toml(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


BOOLEAN: Kind[bool] = Kind("", "true or false", _bool_from_text, _bool_from_toml, lambda value: str(value).lower())


def _plain(value: str) -> str:
    if len(value) > 255 or not value.isprintable() or value != value.strip():
        raise ValueError("must be printable text without surrounding spaces, at most 255 characters")
    return value


def _node_id(value: str) -> str:
    if not NODE_ID_PATTERN.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
    return value


def _path(value: str) -> Path:
    if not value or "\0" in value:
        raise ValueError("must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:
        raise ValueError("names a home directory that does not exist") from exc


def _address(value: str) -> Address:
    rule = "must be host:port, port 1 to 65535 (IPv6: [host]:port)"
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", value)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise ValueError(rule)
    if match[1] is not None:
        ip_address(match[1])
    return Address(match[1] or match[2], int(match[3]))


def _optional_address(value: str) -> Address | None:
    return _address(value)


def _optional_path(value: str) -> Path | None:
    return _path(value)


def _url(value: str) -> str:
    rule = "must be an http:// or https:// URL with a host, without user, query or fragment"
    try:
        parts = urlsplit(value)
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        raise ValueError(rule) from exc
    if parts.scheme not in ("http", "https") or not host or port == 0 or not value.isprintable() or " " in value:
        raise ValueError(rule)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(rule)
    if Address(host, port or 80).is_unspecified:
        raise ValueError(f"{host} is not an address a client can connect to")
    return value.rstrip("/")


Peers = Mapping[str, Address]


def _checked_peers(pairs: list[tuple[str, str]]) -> Peers:
    peers: dict[str, Address] = {}
    owner: dict[Address, str] = {}
    for name, where in pairs:
        try:
            address = _address(where)
            _node_id(name)
        except ValueError as exc:
            raise ValueError(f"member {name}={where}: {exc}") from exc
        if address.is_unspecified:
            raise ValueError(f"member {name}={where}: {address.host} is not an address other members can connect to")
        if name in peers:
            raise ValueError(f"two members have the id {name}; each needs its own")
        key = Address(address.host.lower(), address.port)
        if key in owner:
            raise ValueError(f"members {owner[key]} and {name} have the address {address}; each needs its own")
        peers[name], owner[key] = address, name
    if not peers:
        raise ValueError(f"names no member; must be {PEERS_ALLOWED}")
    return peers


PEERS_ALLOWED = "id=host:port,id=host:port,… with every member, this node included"


def _peers_from_text(value: str) -> Peers:
    pairs: list[tuple[str, str]] = []
    for item in value.split(","):
        name, separator, where = item.strip().partition("=")
        if not separator:
            raise ValueError(f"must be {PEERS_ALLOWED}")
        pairs.append((name, where))
    return _checked_peers(pairs)


def _peers_from_toml(value: object) -> Peers:
    if isinstance(value, str):
        return _peers_from_text(value)
    if not isinstance(value, dict):
        raise ValueError('must be a table [peers] with lines id = "host:port"')
    pairs: list[tuple[str, str]] = []
    for name, where in value.items():
        if not isinstance(where, str):
            raise ValueError(f'member {name} must be text: "host:port"')
        pairs.append((str(name), where))
    return _checked_peers(pairs)


def _prefixes_from_text(value: str) -> tuple[str, ...]:
    prefixes = tuple(item.strip() for item in value.split(",")) if value else ()
    for prefix in prefixes:
        if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+", prefix):
            raise ValueError(f"must be {PREFIXES_ALLOWED}")
    return prefixes


def _prefixes_from_toml(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of path prefixes, as ["/artemis-service"]')
    return _prefixes_from_text(",".join(value))


def _ips_from_text(value: str) -> tuple[str, ...]:
    addresses = tuple(item.strip() for item in value.split(",")) if value else ()
    try:
        return tuple(str(ip_address(address)) for address in addresses)
    except ValueError as exc:
        raise ValueError(f"must be {IPS_ALLOWED}") from exc


def _ips_from_toml(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of IP addresses, as ["10.0.0.1"]')
    return _ips_from_text(",".join(value))


IPS_ALLOWED = "IP addresses separated by commas"


def _limits_from_text(value: str) -> Mapping[str, int]:
    limits: dict[str, int] = {}
    for item in value.split(",") if value else ():
        match = re.fullmatch(r"\s*([a-z][a-z-]*)\s*:\s*([0-9]{1,9})\s*", item)
        if match is None:
            raise ValueError(f"must be {LIMITS_ALLOWED}")
        limits[match[1]] = int(match[2])
    return limits


def _limits_from_toml(value: object) -> Mapping[str, int]:
    if isinstance(value, str):
        return _limits_from_text(value)
    if not isinstance(value, dict) or not all(isinstance(limit, int) for limit in value.values()):
        raise ValueError("must be a table [rate_limits] with lines operation = number")
    return _limits_from_text(",".join(f"{operation}:{limit:d}" for operation, limit in value.items()))


LIMITS_ALLOWED = "operation:number,operation:number,…"
PREFIXES_ALLOWED = "path prefixes such as /artemis-service, without a slash at the end, separated by commas"

PLAIN: Kind[str] = text_kind("TEXT", "printable text", _plain)
NODE_ID: Kind[str] = text_kind("ID", "letters, digits, '.', '_', '-'", _node_id)
PATH: Kind[Path] = text_kind("PATH", "a path", _path)
OPTIONAL_PATH: Kind[Path | None] = text_kind("PATH", "a path", _optional_path)
ADDRESS: Kind[Address] = text_kind("HOST:PORT", "host:port", _address)
OPTIONAL_ADDRESS: Kind[Address | None] = text_kind("HOST:PORT", "host:port", _optional_address)
URL: Kind[str] = text_kind("URL", "an http:// or https:// URL", _url)
PEERS: Kind[Peers] = Kind(
    "ID=HOST:PORT,…",
    PEERS_ALLOWED,
    _peers_from_text,
    _peers_from_toml,
    lambda peers: ",".join(f"{name}={address}" for name, address in peers.items()),
)
PREFIXES: Kind[tuple[str, ...]] = Kind(
    "/PREFIX,…", PREFIXES_ALLOWED, _prefixes_from_text, _prefixes_from_toml, lambda names: ",".join(names)
)
IPS: Kind[tuple[str, ...]] = Kind(
    "IP,…", IPS_ALLOWED, _ips_from_text, _ips_from_toml, lambda addresses: ",".join(addresses)
)
LIMITS: Kind[Mapping[str, int]] = Kind(
    "OPERATION:N,…",
    LIMITS_ALLOWED,
    _limits_from_text,
    _limits_from_toml,
    lambda limits: ",".join(f"{operation}:{limit}" for operation, limit in limits.items()),
)
