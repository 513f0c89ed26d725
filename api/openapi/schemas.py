"""JSON schemas of request bodies and answers, made from the types that read and describe them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, cast

import msgspec

from artemis.api.dialects import shapes
from artemis.api.openapi import answers, bodies, status_answers

Json = dict[str, object]
Family = Literal["Java", "Rust", "Snake"]
"""Whose answers: camelCase with nulls; camelCase without; snake_case without."""

_REF = "#/components/schemas/"
_DATA_KEYS = ("properties", "required")


def components() -> Json:
    """Every named schema of the document. Names of one family begin with it."""
    sent = _named(_structs(shapes, ("Snake", "Camel")) + _structs(bodies, ("Snake", "Camel")))
    java = _named(_structs(answers, ("Java", "Fault")) + _structs(status_answers, ("Java",)))
    snake = _named(_structs(answers, ("Snake",)) + _structs(status_answers, ("Snake",)))
    rust = _camel(snake)
    requests = {f"Sent{name}": _open(schema) for name, schema in sent.items()}
    return dict(sorted({**cast(Json, _rename(requests, sent)), **java, **snake, **rust}.items()))


def reference(name: str) -> Json:
    return {"$ref": _REF + name}


def any_of(names: Iterable[str]) -> Json:
    references = [reference(name) for name in names]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _structs(module: object, prefixes: tuple[str, ...]) -> list[type[msgspec.Struct]]:
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and name.startswith(prefixes)
    ]


def _named(structs: list[type[msgspec.Struct]]) -> dict[str, Json]:
    _, found = msgspec.json.schema_components(structs, ref_template=_REF + "{name}")
    return {name: _without_defaults(schema) for name, schema in found.items()}


def _without_defaults(schema: Mapping[str, object]) -> Json:
    """A default of null says nothing that the type does not say."""
    plain = {key: value for key, value in schema.items() if key != "title"}
    properties = cast(dict[str, Json], plain.get("properties", {}))
    if properties:
        plain["properties"] = {
            name: {key: value for key, value in field.items() if key != "default" or value is not None}
            for name, field in properties.items()
        }
    return plain


def _open(schema: Json) -> Json:
    """Fields that are not known are ignored in requests; the strict shapes are only tried first."""
    return {key: value for key, value in schema.items() if key != "additionalProperties" or value is not False}


def _rename(value: object, names: Iterable[str]) -> object:
    """``value`` with its references to ``names`` pointing to their ``Sent…`` forms."""
    known = {_REF + name: f"{_REF}Sent{name}" for name in names}

    def renamed(inner: object) -> object:
        if isinstance(inner, dict):
            return {key: renamed(part) for key, part in inner.items()}
        if isinstance(inner, list):
            return [renamed(part) for part in inner]
        return known.get(inner, inner) if isinstance(inner, str) else inner

    return renamed(value)


def _camel(components: Mapping[str, Json]) -> Json:
    """The ``Snake…`` schemas as ``Rust…``: the same fields in camelCase."""

    def spelled(value: object) -> object:
        if isinstance(value, list):
            return [spelled(part) for part in value]
        if isinstance(value, dict):
            return {key: _fields(part) if key in _DATA_KEYS else spelled(part) for key, part in value.items()}
        if isinstance(value, str) and value.startswith(_REF + "Snake"):
            return value.replace(_REF + "Snake", _REF + "Rust")
        return value

    def _fields(part: object) -> object:
        if isinstance(part, dict):
            return {to_camel(name): spelled(schema) for name, schema in part.items()}
        return [to_camel(name) for name in cast(list[str], part)]

    return {name.replace("Snake", "Rust", 1): spelled(schema) for name, schema in components.items()}


def to_camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
