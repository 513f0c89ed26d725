"""Reads the settings from flags, environment and TOML file, and checks them."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artemis.api.config import ENV_PREFIX, Config, ConfigError, Given, Setting, quote, settings
from artemis.api.config_checks import check


def load(flags: Mapping[str, str | bool], environ: Mapping[str, str], config_file: str | None = None) -> Config:
    """The configuration. ``ConfigError`` names the first thing that is wrong and where it was set.

    ``flags`` holds the flags that were given, by key. ``config_file`` (a flag) beats ``ARTEMIS_CONFIG``.
    """
    path = config_file or environ.get(ENV_PREFIX + "CONFIG")
    given: dict[str, Given] = {}
    if path:
        given.update(_from_file(Path(path)))
    given.update(_from_environment(environ))
    given.update(_from_flags(flags))
    return complete(given)


def complete(given: Mapping[str, Given]) -> Config:
    """The configuration with every default filled in. ``ConfigError`` if the values cannot work together."""
    values = {key: item.value for key, item in given.items()}
    _fill_defaults(values)
    config = Config(**values)
    check(config, given)
    return config


def _fill_defaults(values: dict[str, Any]) -> None:
    if "peers" in values and "node_id" not in values:
        raise ConfigError(f"node_id is missing: peers is set, so it must be one of {', '.join(values['peers'])}")
    values.setdefault("node_id", "n1")
    values.setdefault("raft_listen", None)
    values.setdefault("rate_limits", {})
    values.setdefault("secret_file", None)
    values.setdefault("data_dir", Path(".artemis") / values["node_id"])
    listen = values.get("listen", Config.listen)
    values.setdefault("advertise", f"http://{listen}")
    values.setdefault("peers", {values["node_id"]: listen})
    values.setdefault("sockets_max", values.get("connections_max", Config.connections_max) * 4 // 5)


def _read(setting: Setting, value: str, source: str) -> Given:
    try:
        return Given(setting.kind.from_text(value), source, quote(value))
    except ValueError as exc:
        raise ConfigError(f"{source} = {quote(value)}: {exc}") from exc


def _from_flags(flags: Mapping[str, str | bool]) -> dict[str, Given]:
    table = {setting.key: setting for setting in settings()}
    given: dict[str, Given] = {}
    for key, value in flags.items():
        text = str(value).lower() if isinstance(value, bool) else value
        given[key] = _read(table[key], text, table[key].flag)
    return given


_KUBERNETES_LINK = re.compile(
    r"(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_.*)?)?)"
)
"""Kubernetes sets such variables in every pod once a service is called ``artemis`` or ``artemis-…``; not ours."""


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Variables that are set and not empty. An unknown ``ARTEMIS_`` name is an error: a typing slip in
    ``ARTEMIS_PEERS`` would otherwise start three clusters of one node each."""
    table = {setting.env: setting for setting in settings()}
    given: dict[str, Given] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or name == ENV_PREFIX + "CONFIG" or not value:
            continue
        setting = table.get(name)
        if setting is not None:
            given[setting.key] = _read(setting, value, name)
        elif not _KUBERNETES_LINK.fullmatch(name.removeprefix(ENV_PREFIX)):
            raise ConfigError(f"{name} = {quote(value)}: unknown setting{_similar(name, list(table))}")
    return given


def _from_file(path: Path) -> dict[str, Given]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"config {path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"config {path}: is not TOML: {quote(str(exc))}") from exc
    table = {setting.key: setting for setting in settings()}
    given: dict[str, Given] = {}
    for key, value in _flat(document, table):
        setting = table.get(key)
        shown = quote(json.dumps(value, ensure_ascii=False, default=str))  # text keeps its quotes: "5" is not 5
        if setting is None:
            raise ConfigError(f"{path}: {quote(key)} = {shown}: unknown setting{_similar(key, list(table))}")
        try:
            given[key] = Given(setting.kind.from_toml(value), str(path), shown)
        except ValueError as exc:
            raise ConfigError(f"{path}: {key} = {shown}: {exc}") from exc
    return given


def _flat(document: Mapping[str, Any], table: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    """``reads.default`` is the setting ``reads_default``; a table that is a setting's value stays one."""
    for key, value in document.items():
        inner = value if key not in table and isinstance(value, dict) else {}
        if inner and all(f"{key}_{name}" in table for name in inner):
            yield from ((f"{key}_{name}", item) for name, item in inner.items())
        else:
            yield key, value


def _similar(name: str, known: list[str]) -> str:
    if name.lower().removeprefix("artemis_") == "rejoin":
        return "; --rejoin is a flag only, for one start"
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
