"""The lines of a scale run, each with its target, as text and as JSON."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``met`` is None where there is no target."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: str
    facts: list[Fact]
    broken: list[str]
    """Promises that did not hold."""


def shown(figures: Figures) -> str:
    lines = [figures.machine, ""]
    for fact in figures.facts:
        verdict = {None: "", True: f"  (target {fact.target})", False: f"  MISSED (target {fact.target})"}[fact.met]
        lines.append(f"{fact.name:<58}{fact.value}{verdict}")
    lines += ["", *(f"BROKEN: {one}" for one in figures.broken)]
    return "\n".join(lines).rstrip()
