"""The result: checked as a node would check it, written aside and then put in place, and summed up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from artemis.api.config import ConfigError, Given, settings
from artemis.api.config_sources import complete
from artemis.api.convert.draft import ConvertError, Draft, toml


def check(draft: Draft) -> None:
    """Raises ``ConvertError`` naming the earlier key as well when settings cannot work together."""
    origin = {item.setting: f"{draft.source}: {item.key} becomes" for item in draft.carried}
    table = {setting.key: setting for setting in settings()}
    given: dict[str, Given] = {}
    for key, value in draft.values().items():
        try:
            read = table[key].kind.from_toml(value)
        except ValueError as exc:
            raise ConvertError(f"{draft.source}: {key} = {toml(value)}: {exc}") from exc
        given[key] = Given(read, origin.get(key, draft.source), toml(value))
    try:
        complete(given)
    except ConfigError as exc:
        raise ConvertError(str(exc)) from exc


def text(draft: Draft) -> str:
    """The TOML file, in the order of the settings; each line says where it comes from."""
    values = draft.values()
    origin = {item.setting: f"was {item.key}" for item in reversed(draft.carried)}
    origin = {item.setting: item.reason for item in draft.decided} | origin
    lines = [f"# Made from {draft.source} by artemis convert-config.", ""]
    tables: list[str] = []
    for setting in settings():
        value = values.get(setting.key)
        if isinstance(value, Mapping):
            tables += ["", f"[{setting.key}]", *(f"{toml(name)} = {toml(item)}" for name, item in value.items())]
        elif value is not None:
            lines.append(f"{setting.key} = {toml(value)}  # {origin[setting.key]}")
    return "\n".join([*lines, *tables, ""])


def write(path: Path, content: str, *, force: bool) -> None:
    """Whole or not at all. Raises ``ConvertError``, also when ``path`` is there and ``force`` was not said."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        aside = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
            aside.chmod(0o644)
            if force:
                aside.replace(path)
            else:
                os.link(aside, path)  # unlike a rename it fails when the name is taken
        finally:
            aside.unlink(missing_ok=True)
    except FileExistsError as exc:
        raise ConvertError(f"{path}: is there already; --force overwrites it") from exc
    except OSError as exc:
        raise ConvertError(f"{path}: cannot be written: {exc.strerror}") from exc


def summary(draft: Draft, output: Path) -> str:
    """For people."""
    lines = [
        f"{draft.source} ({draft.format}) -> {output}: "
        f"{len(draft.carried)} keys carried, {len(draft.left)} not, {len(draft.decided)} settings decided"
    ]
    if draft.carried:
        lines += ["", "carried"]
        lines += [f"  {item.key} = {item.shown} -> {item.setting} = {toml(item.value)}" for item in draft.carried]
    if draft.left:
        lines += ["", "not carried", *(f"  {item.key}: {item.reason}" for item in draft.left)]
    if draft.decided:
        lines += ["", "decided"]
        lines += [f"  {item.setting} = {toml(item.value)}: {item.reason}" for item in draft.decided]
    if draft.warnings:
        lines += ["", "look at this", *(f"  {warning}" for warning in draft.warnings)]
    return "\n".join([*lines, "", f"start it with: artemis-node --config {output}"])


def report(draft: Draft, output: Path) -> dict[str, object]:
    """For machines. Values of keys that were not carried are left out: they may hold passwords."""
    return {
        "input": draft.source,
        "output": str(output),
        "format": draft.format,
        "carried": [
            {"key": item.key, "was": item.shown, "setting": item.setting, "value": item.value} for item in draft.carried
        ],
        "not_carried": [{"key": item.key, "reason": item.reason} for item in draft.left],
        "decided": [{"setting": item.setting, "value": item.value, "reason": item.reason} for item in draft.decided],
        "warnings": draft.warnings,
    }
