"""The OpenAPI 3.1 document of one node, from its table of endpoints.

Complete by construction: every path and method in the table is described, and an operation that has no text is an error
when the document is made (``KeyError``), which a test does.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import cast

import orjson

from artemis.api.dialects import Dialect
from artemis.api.endpoints import Endpoint
from artemis.api.openapi.fixed import fixed_paths
from artemis.api.openapi.parameters import outcome_header, request_headers, response_headers
from artemis.api.openapi.schemas import Family, Json, any_of, components, reference
from artemis.api.openapi.texts import TEXTS, Text
from artemis.api.serving import RUST, SNAKE
from artemis.api.settings import HttpSettings

_READ = ("Consistency", "MinRevision", "MaxStaleMs", "InstanceRevisions", "TimeoutMs")
_WRITE = ("RequestId", "IfMatch", "IfNoneMatch", "TimeoutMs")
_FAULTS = {
    "400": "The request cannot be read; the message names the part and what is allowed there.",
    "406": "`Accept` excludes application/json.",
    "413": "The body is larger than the node allows, as sent or inflated.",
    "415": "The body is not application/json, or its Content-Encoding is not gzip, deflate or identity.",
    "422": "Where clients of the earlier Rust server ask: JSON of a wrong shape.",
}
_MARKED = "/api/replication/"
"""Where a write needs a header, as on the earlier Rust server."""
_DECIDED = "The registry's answer, also when it refuses: the code says which."
_NOT_PICKED = {
    "403": "A look-up of one instance in another region or zone than the node's.",
    "404": "A look-up of one instance: there is none.",
    "503": "A look-up of one instance: this node cannot answer it now.",
}
_DESCRIPTION = (
    "A strongly consistent service registry. Field names are read in camelCase and snake_case, in any case of letters; "
    "the answer is spelled as the request was. Unknown fields are ignored. What the registry decides is HTTP 200 with "
    "its code in the answer; a request that cannot be read is 4xx. Each path is also served under every configured "
    "context instead of `/artemis`."
)


def openapi_document(table: Mapping[str, Endpoint], settings: HttpSettings) -> bytes:
    """JSON. ``table`` by path."""
    paths: Json = {path: _path(path, endpoint) for path, endpoint in table.items()}
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Artemis",
            "version": version("artemis-registry"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name} for name in ("registry", "discovery", "cluster", "status", "replication", "operations")
        ],
        "paths": {**paths, **fixed_paths()},
        "components": {
            "schemas": components(),
            "parameters": request_headers(settings),
            "responses": _fault_responses(),
        },
    }
    return orjson.dumps(document)


def _path(path: str, endpoint: Endpoint) -> Json:
    text = TEXTS[path.partition("/api/")[2].removesuffix(".json")]
    return {method.lower(): _operation(path, method, endpoint, text) for method in endpoint.handlers}


def _operation(path: str, method: str, endpoint: Endpoint, text: Text) -> Json:
    headers = {"read": _READ, "write": _WRITE, "none": ()}[text.options]
    parameters: list[Json] = [{"$ref": f"#/components/parameters/{name}"} for name in headers]
    operation: Json = {
        "operationId": f"{method.lower()} {path}",
        "tags": [text.tag],
        "summary": text.summary,
        "description": text.description,
        "responses": {**_answers(endpoint, text), **_faults(method)},
    }
    if path.startswith(_MARKED) and text.options == "write":
        parameters.append({"$ref": "#/components/parameters/Replication"})
        cast(Json, operation["responses"])["400"] = {"description": "As elsewhere, or without the header: no body."}
    if method == "GET":
        parameters.extend(_query(name) for name in text.query)
    else:
        bodies = [f"Sent{spelling}{body}" for body in text.bodies for spelling in ("Camel", "Snake")]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": any_of(bodies)}}}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _answers(endpoint: Endpoint, text: Text) -> Json:
    dialects = (SNAKE,) if text.answer == "Connections" else (*endpoint.spoken, SNAKE)
    families = list(dict.fromkeys(map(_family, dialects)))
    if text.answer == "Connections":
        families = ["Java"]
    names = [f"{family}{text.answer}" for family in families]
    headers = response_headers() | (outcome_header() if text.options == "write" else {})
    answers: Json = {"200": _answer(_DECIDED, names, headers)}
    if endpoint.limit is not None:
        answers["429"] = _answer(
            "More requests than the node's rate limit; in Java's answers it is 200.", names, headers
        )
    if text.picks:
        picked = ["RustPicked", "SnakePicked"]
        answers["200"] = _answer(_DECIDED, [*names, *picked], headers)
        answers |= {status: _answer(said, picked, headers) for status, said in _NOT_PICKED.items()}
    return answers


def _answer(description: str, schemas: list[str], headers: Mapping[str, Json]) -> Json:
    content = {"application/json": {"schema": any_of(schemas)}}
    return {"description": description, "headers": headers, "content": content}


def _family(dialect: Dialect) -> Family:
    if dialect is SNAKE:
        return "Snake"
    return "Rust" if dialect is RUST else "Java"


def _faults(method: str) -> Json:
    statuses = ("400", "406") if method == "GET" else tuple(_FAULTS)
    return {status: {"$ref": f"#/components/responses/Fault{status}"} for status in statuses}


def _fault_responses() -> Json:
    return {
        f"Fault{status}": {
            "description": description,
            "content": {"application/json": {"schema": reference("Fault")}},
        }
        for status, description in _FAULTS.items()
    }


def _query(name: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
