"""Reading JSON as leniently as the earlier servers did (``java-http.md`` 2), and no more than that.

Names match in any case, with or without underscores; if two spellings of one name occur, the last wins; unknown names
are ignored. A number may come as text, a text as a number or boolean. What cannot be meant (an object where a text is
expected, ``"abc"`` as a port) is ``WrongShape`` with the path of the field and what is allowed.

One deliberate difference: bytes after a complete JSON value are refused. The earlier servers ignored them, but no
client sends them, and half of a damaged request would be acknowledged.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec
import orjson

from artemis.api.faults import HttpFault, WrongShape, bad_request, shown

Naming = Literal["camel", "snake"]

_KNOWN = frozenset(
    (
        "instances",
        "instancekeys",
        "discoveryconfig",
        "discoveryconfigs",
        "discoverydata",
        "serviceid",
        "instanceid",
        "regionid",
        "zoneid",
        "groupid",
        "machinename",
        "ip",
        "port",
        "protocol",
        "url",
        "healthcheckurl",
        "status",
        "metadata",
        "leasettlms",
        "expectedrevision",
        "expectedepoch",
        "version",
        "serviceids",
        "appids",
    )
)


class _Folded(NamedTuple):
    name: str
    naming: Naming | None
    """The spelling this name shows; None when both spellings are the same (``port``) or nobody knows the name."""


@lru_cache(maxsize=2048)
def fold(name: str) -> _Folded:
    folded = name.replace("_", "").lower()
    if folded not in _KNOWN:
        return _Folded(folded, None)
    if "_" in name:
        return _Folded(folded, "snake")
    return _Folded(folded, None if name == folded else "camel")


class Document:
    """One body or query being read. ``naming`` is that of the first known name that shows one, outermost first."""

    def __init__(self) -> None:
        self.naming: Naming | None = None

    def fields(self, value: object, where: str) -> Fields:
        if not isinstance(value, dict):
            raise mismatch(where or "body", "an object", value)
        return Fields(self, value, where)

    def saw(self, name: str) -> str:
        folded = fold(name)
        if self.naming is None:
            self.naming = folded.naming
        return folded.name


class Fields:
    """The fields of one JSON object, by folded name."""

    __slots__ = ("_document", "_values", "_where")

    def __init__(self, document: Document, source: dict[str, object], where: str) -> None:
        self._document = document
        self._where = f"{where}." if where else ""
        self._values: dict[str, tuple[str, object]] = {
            document.saw(name): (name, value) for name, value in source.items()
        }

    def path(self, name: str) -> str:
        """Where the field stands, spelled as it was sent."""
        sent = self._values.get(name)
        return self._where + (name if sent is None else sent[0])

    def get(self, name: str) -> object:
        sent = self._values.get(name)
        return None if sent is None else sent[1]

    def text(self, name: str) -> str | None:
        return _text(self.get(name), self, name)

    def required_text(self, name: str, spelled: str) -> str:
        value = self.text(name)
        if value is None:
            raise WrongShape(f"{self._where}{spelled}: required, a text")
        return value

    def integer(self, name: str, least: int, most: int) -> int | None:
        value = self.get(name)
        if value is None:
            return None
        number = _integer(value)
        if number is None or not least <= number <= most:
            raise mismatch(self.path(name), f"an integer from {least} to {most}", value)
        return number

    def count(self, name: str, most: int) -> int | None:
        """As ``integer``, of a field that the earlier servers did not have: ``""`` is not 0 and 1.9 not 1."""
        value = self.get(name)
        if (isinstance(value, str) and not value.strip()) or (
            isinstance(value, bytes) and not float(value).is_integer()
        ):
            raise mismatch(self.path(name), f"an integer from 0 to {most}", value)
        return self.integer(name, 0, most)

    def texts(self, name: str) -> dict[str, str | None] | None:
        """A map of texts. Its keys are data: they keep their spelling."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise mismatch(self.path(name), "an object", value)
        return {key: _text(item, self, name, key) for key, item in value.items()}

    def items(self, name: str) -> list[object] | None:
        value = self.get(name)
        if value is not None and not isinstance(value, list):
            raise mismatch(self.path(name), "a list", value)
        return value

    def plain_texts(self, name: str) -> list[str]:
        """The texts of a list; null elements are left out."""
        texts = [_text(item, self, name, str(position)) for position, item in enumerate(self.items(name) or ())]
        return [text for text in texts if text is not None]

    def child(self, name: str) -> Fields | None:
        value = self.get(name)
        return None if value is None else self._document.fields(value, self.path(name))

    def children(self, name: str) -> list[Fields | None] | None:
        """The objects of a list; a null element is None."""
        items = self.items(name)
        if items is None:
            return None
        path = self.path(name)
        return [
            None if item is None else self._document.fields(item, f"{path}[{position}]")
            for position, item in enumerate(items)
        ]


_decoder = msgspec.json.Decoder(float_hook=str.encode)


def parse(body: bytes) -> object:
    """A number that is no integer comes as the bytes of its spelling, and integers are exact: as a text ``1.10`` is not
    ``1.1``, and ids of 21 digits must not become one float."""
    try:
        return _decoder.decode(body)
    except RecursionError as exc:
        raise bad_request("body: not valid JSON: nested too deeply") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_request(f"body: not valid JSON: {_fault(body, exc)}") from exc


def _fault(body: bytes, exc: ValueError | msgspec.DecodeError) -> Exception:
    """What is wrong with ``body``, with its line and column where orjson finds it wrong, too."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as located:
        return located
    return exc


def mismatch(where: str, allowed: str, value: object) -> HttpFault:
    return WrongShape(f"{where}: {allowed} is allowed, not {_described(value)}")


def _described(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return shown(float(value) if isinstance(value, bytes) else value)


def _integer(value: object) -> int | None:
    """A whole number as Jackson would coerce it, or None: ``"8080"`` -> 8080, ``""`` -> 0, ``80.9`` -> 80."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        number = float(value)
        return int(number) if math.isfinite(number) else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    # 19 digits are enough for 64 bits, and bound the cost of a conversion that is quadratic in the length.
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 19 else None


def _text(value: object, fields: Fields, name: str, key: str = "") -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    raise mismatch(fields.path(name) + (f".{key}" if key else ""), "a text", value)
