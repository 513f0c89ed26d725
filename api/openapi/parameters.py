"""Headers of requests and answers that all operations share."""

from __future__ import annotations

from artemis.api.openapi.schemas import Json
from artemis.api.options import INT64_MAX, REQUEST_ID_CHARACTERS_MAX
from artemis.api.settings import CONSISTENCIES, HttpSettings
from artemis.consensus.freshness import UNKNOWN_MS


def request_headers(settings: HttpSettings) -> dict[str, Json]:
    """By component name."""
    return {
        "Consistency": _header(
            "x-artemis-consistency",
            {"type": "string", "enum": list(CONSISTENCIES)},
            "How current the answer must be: `linearizable` holds every write acknowledged before the request; "
            "`session` holds at least `x-artemis-min-revision`; `stale` is any committed state, with its age.",
        ),
        "MinRevision": _header(
            "x-artemis-min-revision", _integer(0, INT64_MAX), "The revision to hold; required with `session`."
        ),
        "MaxStaleMs": _header(
            "x-artemis-max-stale-ms",
            _integer(0, INT64_MAX),
            "For `stale` and `session`: refuse when the state may be older.",
        ),
        "TimeoutMs": _header(
            "x-artemis-timeout-ms",
            _integer(1, settings.request_timeout_ms_max),
            f"How long the request may take. {settings.request_timeout_ms} if not given.",
        ),
        "RequestId": _header(
            "x-artemis-request-id",
            {"type": "string", "minLength": 1, "maxLength": REQUEST_ID_CHARACTERS_MAX, "pattern": "^[!-~]+$"},
            "Names this write: a retry under the same id, at any node, gets the outcome of the first.",
        ),
        "InstanceRevisions": _header(
            "x-artemis-instance-revisions",
            {"type": "boolean"},
            "Show the revision and lease epoch of each instance.",
        ),
        "IfMatch": _header(
            "If-Match",
            {"type": "string", "pattern": '^"[1-9][0-9]{0,17}"$'},
            "Only if the one instance that the request names is at this revision.",
        ),
        "IfNoneMatch": _header(
            "If-None-Match", {"type": "string", "const": "*"}, "Only if the one instance named does not exist."
        ),
        "Replication": _header(
            "X-Artemis-Replication", {"type": "string", "minLength": 1}, "Any value.", required=True
        ),
    }


def response_headers() -> dict[str, Json]:
    """By header name."""
    number: Json = {"type": "integer", "minimum": 0}
    text: Json = {"type": "string"}
    return {
        "x-artemis-revision": _said(number, "The revision of the state that the answer was computed from."),
        "x-artemis-term": _said(number, "The term of the node's Raft log."),
        "x-artemis-node": _said(text, "The node that answered."),
        "x-artemis-leader": _said(text, "The leader it knows, or nothing."),
        "x-artemis-known-leader": _said({"type": "string", "enum": ["true", "false"]}, "Whether it knows one now."),
        "x-artemis-apply-lag-ms": _said(
            number, f"How old the node's state may be at most; {UNKNOWN_MS} while nobody can tell."
        ),
        "x-artemis-consistency": _said(
            {"type": "string", "enum": [*CONSISTENCIES, "none"]}, "The consistency that was given."
        ),
        "x-artemis-protection": _said(
            {"type": "string", "enum": ["registry", "services"]},
            "Present while silent instances are kept because too many are silent: of all services, or of some.",
        ),
    }


def outcome_header() -> dict[str, Json]:
    return {
        "x-artemis-outcome": _said(
            {"type": "string", "enum": ["not-applied", "unknown"]},
            "On a write of which nothing was done: whether it may still happen.",
        )
    }


def _header(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": description}


def _integer(least: int, most: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most}


def _said(schema: Json, description: str) -> Json:
    return {"schema": schema, "description": description}
