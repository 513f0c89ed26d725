"""The API document as a page to read: one file of HTML, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import cast

import orjson

from artemis.api.openapi.schemas import Json

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f5f5f5;padding:.7rem;overflow-x:auto}"
    "summary{cursor:pointer;padding:.2rem 0}summary b{display:inline-block;width:3.5rem}"
    "details{border-bottom:1px solid #ddd}details>*:not(summary){margin-left:1rem}"
    "table{border-collapse:collapse}td{padding:.15rem 1rem .15rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}"
    "a{color:#8ab4f8}details{border-color:#444}}"
)
_METHODS = ("get", "post")
_COMPONENTS = "#/components/"


def openapi_page(document: bytes) -> bytes:
    """HTML in UTF-8 for the document that ``openapi_document`` made."""
    content: Json = orjson.loads(document)
    return "\n".join(_page(content)).encode()


def _page(content: Json) -> Iterator[str]:
    info = _object(content["info"])
    title = f"{escape(str(info['title']))} {escape(str(info['version']))}"
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
    yield f'<p>{_text(info["description"])}</p><p><a href="openapi.json">openapi.json</a></p>'
    components = _object(content["components"])
    for tag in cast(list[Json], content["tags"]):
        yield f"<h2>{escape(str(tag['name']))}</h2>"
        for path, item in _object(content["paths"]).items():
            for method in _METHODS:
                operation = _object(item).get(method)
                if operation is not None and tag["name"] in cast(list[str], _object(operation)["tags"]):
                    yield from _operation(path, method, _object(operation), components)
    yield "<h2>Schemas</h2>"
    for name, schema in _object(components["schemas"]).items():
        shown = escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
        yield f'<details id="{escape(name)}"><summary>{escape(name)}</summary><pre>{_linked(shown)}</pre></details>'
    yield "</body></html>"


def _operation(path: str, method: str, operation: Json, components: Json) -> Iterator[str]:
    summary = escape(str(operation["summary"]))
    yield f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code> {summary}</summary>"
    if "description" in operation:
        yield f"<p>{_text(operation['description'])}</p>"
    rows = list(_parameters(cast(list[Json], operation.get("parameters", [])), components))
    if rows:
        yield f"<table>{''.join(rows)}</table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_schemas(_object(operation['requestBody']))}</p>"
    for status, answer in _object(operation["responses"]).items():
        response = _resolved(_object(answer), components)
        yield f"<p><b>{status}</b> {_text(response['description'])} {_schemas(response)}</p>"
    yield "</details>"


def _parameters(parameters: list[Json], components: Json) -> Iterator[str]:
    for reference in parameters:
        parameter = _resolved(reference, components)
        where = f"{parameter['in']}, required" if parameter.get("required") else str(parameter["in"])
        yield (
            f"<tr><td><code>{escape(str(parameter['name']))}</code></td><td>{escape(where)}</td>"
            f"<td>{_text(parameter.get('description', ''))}</td></tr>"
        )


def _schemas(holder: Json) -> str:
    """Links to the schemas that a body may have."""
    links: list[str] = []
    for media in _object(holder.get("content", {})).values():
        schema = _object(_object(media)["schema"])
        for option in cast(list[Json], schema.get("anyOf", [schema])):
            if "$ref" in option:
                name = escape(str(option["$ref"]).rpartition("/")[2])
                links.append(f'<a href="#{name}"><code>{name}</code></a>')
    return " or ".join(links)


def _resolved(part: Json, components: Json) -> Json:
    reference = part.get("$ref")
    if not isinstance(reference, str):
        return part
    kind, name = reference.removeprefix(_COMPONENTS).split("/")
    return _object(_object(components[kind])[name])


def _linked(shown: str) -> str:
    """References inside a schema become links."""
    pieces = shown.split("#/components/schemas/")
    return pieces[0] + "".join(
        f'<a href="#{name}">{name}</a>{mark}{rest}'
        for name, mark, rest in (piece.partition("&quot;") for piece in pieces[1:])
    )


def _text(value: object) -> str:
    """Prose in which `code` is between backticks."""
    parts = escape(str(value)).split("`")
    return "".join(f"<code>{part}</code>" if position % 2 else part for position, part in enumerate(parts))


def _object(value: object) -> Json:
    assert isinstance(value, Mapping)
    return cast(Json, value)
