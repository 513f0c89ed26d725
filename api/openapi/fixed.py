"""Paths outside the planes of the registry: for those who run a node."""

from __future__ import annotations

from artemis.api.openapi.schemas import Json

_READYZ = "Whether the node should be given work"


def fixed_paths() -> Json:
    readyz = _get("/readyz", _READYZ, "text/plain")
    readyz["responses"] = {
        "200": _content("It should.", "text/plain"),
        "503": _content("It should not; `verbose` tells why.", "text/plain"),
    }
    readyz["parameters"] = [
        {
            "name": "verbose",
            "in": "query",
            "required": False,
            "schema": {"type": "boolean"},
            "description": "One line for each condition, and every reason for which it is not ready.",
        }
    ]
    return {
        "/health": {"get": _get("/health", "Whether the process answers", "text/plain")},
        "/livez": {"get": _get("/livez", "Whether the process answers", "text/plain")},
        "/readyz": {"get": readyz},
        "/metrics": {"get": _get("/metrics", "Metrics in the Prometheus text format", "text/plain")},
        "/openapi.json": {"get": _get("/openapi.json", "This document", "application/json")},
        "/openapi.html": {"get": _get("/openapi.html", "This document as a page", "text/html")},
    }


def _get(path: str, summary: str, media_type: str) -> Json:
    return {
        "operationId": f"get {path}",
        "tags": ["operations"],
        "summary": summary,
        "responses": {"200": _content(summary, media_type)},
    }


def _content(description: str, media_type: str) -> Json:
    schema: Json = {"type": "object" if media_type == "application/json" else "string"}
    return {"description": description, "content": {media_type: {"schema": schema}}}
