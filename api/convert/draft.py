"""What has been made of a file so far: settings with the keys they come from, and keys that were left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from artemis.api.config import Setting, quote, settings

TomlValue = str | int | bool | list[str] | Mapping[str, str | int]

_DURATION = re.compile(r"([0-9]{1,12})\s*(ms|s|m|h|d)?")
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class ConvertError(Exception):
    """One line for the operator: the file, the key, its value, and what is allowed."""


class Carried(NamedTuple):
    """``key`` of the earlier server became ``setting``. ``shown`` is the earlier value."""

    key: str
    shown: str
    setting: str
    value: TomlValue


class Left(NamedTuple):
    key: str
    reason: str


class Decided(NamedTuple):
    """A setting that no key gave, and why it has this value."""

    setting: str
    value: TomlValue
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the operator says because the file cannot."""

    advertise: str | None = None
    secret_file: str | None = None
    raft_port_offset: int | None = None


@dataclass(slots=True)
class Draft:
    source: str
    format: str
    choices: Choices
    carried: list[Carried] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _table: Mapping[str, Setting] = field(default_factory=lambda: {setting.key: setting for setting in settings()})

    def knows(self, setting: str) -> bool:
        """``artemis-node`` has a setting of this name."""
        return setting in self._table

    def carry(self, key: str, shown: object, setting: str, value: TomlValue) -> None:
        """Raises ``ConvertError`` naming both keys when ``setting`` does not allow ``value``."""
        try:
            self._table[setting].kind.from_toml(value)
        except ValueError as exc:
            raise ConvertError(
                f"{self.source}: {key} = {quote(str(shown))}: becomes {setting} = {toml(value)}, which {exc}"
            ) from exc
        self.carried.append(Carried(key, str(shown), setting, value))

    def decide(self, setting: str, value: TomlValue, reason: str) -> None:
        self.decided.append(Decided(setting, value, reason))

    def leave(self, key: str, reason: str) -> None:
        self.left.append(Left(key, reason))

    def warn(self, text: str) -> None:
        """The result starts, but the operator should look at this."""
        self.warnings.append(text)

    def wrong(self, key: str, shown: object, rule: str) -> ConvertError:
        """``rule`` follows "key = value: "."""
        return ConvertError(f"{self.source}: {key} = {quote(str(shown))}: {rule}")

    def values(self) -> dict[str, TomlValue]:
        """Every setting of the result."""
        found: dict[str, TomlValue] = {}
        for carried in self.carried:
            before, value = found.get(carried.setting), carried.value
            # Several keys may each give lines of one table.
            merged = {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value
            found[carried.setting] = merged
        for item in self.decided:
            found.setdefault(item.setting, item.value)
        return found


def toml(value: TomlValue) -> str:
    """The value as TOML has it; a JSON text is a TOML basic string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(name)} = {toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def duration_ms(text: str) -> int | None:
    """``500ms``, ``30s``, ``5m``, ``2h``; a bare number is seconds. None for anything else."""
    match = _DURATION.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _MS[match[2] or "s"]
