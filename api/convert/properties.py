"""The format of ``java.util.Properties``: comments, continued lines, three separators, escapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from artemis.api.convert.draft import ConvertError

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_HEX4 = re.compile(r"[0-9A-Fa-f]{4}")
_BLANKS = " \t\f"


class Property(NamedTuple):
    line: int
    key: str
    value: str


def read_properties(data: bytes, source: str) -> list[Property]:
    """Keys in order, with those that are given several times. Raises ``ConvertError`` naming the line.

    UTF-8, which the earlier servers' files are, else ISO 8859-1, which the format was before Java 9.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\x00" in text:
        raise ConvertError(f"{source}: is not a text file: it has zero bytes")
    found: list[Property] = []
    for number, line in _logical_lines(text):
        end = _key_end(line)
        rest = line[end:].lstrip(_BLANKS)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANKS)
        where = f"{source}: line {number}"
        found.append(Property(number, _unescaped(line[:end], where), _unescaped(rest, where)))
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations joined, without blank lines and comments; with the number of their first line."""
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = raw.lstrip(_BLANKS)
        if not parts:
            if not line or line[0] in "#!":
                continue
            first = number
        # An odd number of backslashes at the end: the last one continues the line.
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            parts.append(line[:-1])
            continue
        yield first, "".join([*parts, line])
        parts = []
    if parts:
        yield first, "".join(parts)


def _key_end(line: str) -> int:
    """Position of the first separator that is not escaped, else the length."""
    escaped = False
    for position, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "=:" or character in _BLANKS:
            return position
    return len(line)


def _unescaped(text: str, where: str) -> str:
    if "\\" not in text:
        return text
    parts: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            parts.append(character)
            continue
        escape = text[position : position + 1]
        position += 1
        if escape != "u":
            parts.append(_ESCAPES.get(escape, escape))
            continue
        digits = text[position : position + 4]
        if not _HEX4.fullmatch(digits):
            raise ConvertError(f"{where}: \\u must be followed by four hexadecimal digits, not {digits!r}")
        parts.append(chr(int(digits, 16)))
        position += 4
    return "".join(parts)
