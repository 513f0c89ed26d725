"""The keys of a Java server's files as they are looked for and taken out, one after the other."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from artemis.api.convert.draft import ConvertError, Draft
from artemis.api.convert.members import advertised
from artemis.api.convert.properties import Property

HOST_SUFFIX = re.compile(r"(.+?)\.((?:[0-9]{1,3}\.){3}[0-9]{1,3})")
"""A key for one host only: the address stands behind it."""


class Given(NamedTuple):
    key: str
    """As it stands in the file, with the address of a host behind it if there was one."""
    value: str


class Keys:
    """The last value of each key; one with this host's address behind it beats the bare one. Taking takes out."""

    def __init__(self, draft: Draft, properties: Iterable[Property], known: Collection[str]) -> None:
        """Raises ``ConvertError`` when there is none of the ``known`` keys."""
        self._draft = draft
        self._values: dict[str, str] = {}
        for item in properties:
            if item.key in self._values and self._values[item.key] != item.value:
                draft.warn(f"{item.key}: given twice; {item.value!r}, the last, counts")
            self._values[item.key] = item.value
        if not any(_is_known(key, known) for key in self._values):
            raise ConvertError(
                f"{draft.source}: is no configuration of an earlier Artemis server: none of its keys is known"
                f" (such as {', '.join(list(known)[:3])})"
            )
        said = advertised(draft)
        self.host = said and said.host
        """The address of this host, if it is known."""
        host_ip = self._values.pop("host.ip", None)
        if host_ip is not None:
            self.host = host_ip.strip()
            draft.leave("host.ip", "not a setting of its own: it told which keys and which member are this host's")

    def take(self, key: str) -> Given | None:
        own = f"{key}.{self.host}"
        if own in self._values:
            if key in self._values:
                del self._values[key]
                self._draft.leave(key, f"{own} beats it")
            return Given(own, self._values.pop(own).strip())
        return Given(key, self._values.pop(key).strip()) if key in self._values else None

    def first(self, *keys: str) -> Given | None:
        """The first of the keys that is there; the others are left."""
        found: Given | None = None
        for key in keys:
            given = self.take(key)
            if given is None:
                continue
            if found is None:
                found = given
            else:
                self._draft.leave(given.key, f"{found.key} is given as well")
        return found

    def rest(self) -> list[Given]:
        return [Given(key, value) for key, value in self._values.items()]

    def carry_once(self, given: Given, setting: str, value: str | int | bool | list[str]) -> None:
        earlier = next((item for item in self._draft.carried if item.setting == setting), None)
        if earlier is None:
            self._draft.carry(given.key, given.value, setting, value)
        else:
            self._draft.leave(given.key, f"{earlier.key} is given as well")

    def integer(self, given: Given) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", given.value):
            raise self._draft.wrong(given.key, given.value, "must be an integer")
        return int(given.value)

    def boolean(self, given: Given) -> bool:
        if given.value.lower() not in ("true", "false"):
            raise self._draft.wrong(given.key, given.value, "must be true or false")
        return given.value.lower() == "true"


def _is_known(key: str, known: Collection[str]) -> bool:
    host = HOST_SUFFIX.fullmatch(key)
    return key in known or (host is not None and host[1] in known) or key.startswith("artemis.service.")


def split_list(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]
