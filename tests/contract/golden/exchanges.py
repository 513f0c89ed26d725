"""The golden files: requests and the bytes that answer them, in a format one can read and write by hand.

::

    # java-http.md 4.4: what is being shown, over as many lines as it takes
    start: registered
    settings: {"region_id": "lab", "any_region": false}

    POST /artemis/api/registry/heartbeat.json
    content-type: application/json

    {"instances":[…]}
    ---
    200
    content-type: application/json
    x-artemis-outcome: (absent)

    {"failedInstances":null,…}
    ===
    advance: 5000
    GET /health
    ---
    200

    OK

``start`` names a state of ``start.py``, ``settings`` are fields of ``HttpSettings``. ``advance`` moves the lease clock,
in milliseconds, before the request. A body ends before the line with the separator; it is sent and expected as it
stands, but for a request with ``content-encoding: gzip``, whose body is compressed on the way. Of the answer, the
status, the headers listed and the body are compared; ``(absent)`` is for headers that must not be there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

ABSENT = "(absent)"
_NEXT = "\n===\n"
_ANSWER = "\n---\n"


class Malformed(ValueError):
    """A golden file that cannot be read; names the file and the part."""


@dataclass(slots=True)
class Exchange:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int
    expected_headers: dict[str, str]
    expected_body: bytes
    advance_ms: int = 0


@dataclass(slots=True)
class Case:
    comment: list[str]
    start: str
    settings: dict[str, object]
    exchanges: list[Exchange] = field(default_factory=list)


def read_case(path: Path) -> Case:
    """Raises ``Malformed``."""
    head, blank, rest = path.read_bytes().decode().partition("\n\n")
    if not blank:
        raise Malformed(f"{path.name}: a blank line must follow the comment")
    case = Case([], "empty", {})
    for line in head.split("\n"):
        if line.startswith("#"):
            case.comment.append(line)
        elif line.startswith("start: "):
            case.start = line.removeprefix("start: ")
        elif line.startswith("settings: "):
            case.settings = json.loads(line.removeprefix("settings: "))
        else:
            raise Malformed(f"{path.name}: {line!r} is neither comment, start nor settings")
    if not case.comment:
        raise Malformed(f"{path.name}: it must say in a comment what it shows, and of which section")
    case.exchanges = [_exchange(path, part) for part in rest.removesuffix("\n").split(_NEXT)]
    return case


def _exchange(path: Path, text: str) -> Exchange:
    request, separator, answer = text.partition(_ANSWER)
    if not separator:
        raise Malformed(f"{path.name}: no line --- in {text[:40]!r}")
    head, has_body, body = request.partition("\n\n")
    lines = head.split("\n")
    advance_ms = 0
    if lines[0].startswith("advance: "):
        advance_ms = int(lines.pop(0).removeprefix("advance: "))
    method, _, target = lines[0].partition(" ")
    answer_head, _, answer_body = answer.partition("\n\n")
    status, *answer_lines = answer_head.split("\n")
    return Exchange(
        method=method,
        path=target,
        headers=_headers(path, lines[1:]),
        body=body.encode() if has_body else None,
        status=int(status),
        expected_headers=_headers(path, answer_lines),
        expected_body=answer_body.encode(),
        advance_ms=advance_ms,
    )


def _headers(path: Path, lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"{path.name}: {line!r} is no header")
        headers[name.strip().lower()] = value.strip()
    return headers


def write_case(path: Path, case: Case) -> None:
    """What ``read_case`` reads."""
    head = [*case.comment]
    if case.start != "empty":
        head.append(f"start: {case.start}")
    if case.settings:
        head.append(f"settings: {json.dumps(case.settings)}")
    text = "\n".join(head) + "\n\n" + _NEXT.join(_written(one) for one in case.exchanges) + "\n"
    path.write_bytes(text.encode())


def _written(one: Exchange) -> str:
    lines = [f"advance: {one.advance_ms}"] if one.advance_ms else []
    lines += [f"{one.method} {one.path}", *(f"{name}: {value}" for name, value in one.headers.items())]
    request = "\n".join(lines) + ("" if one.body is None else "\n\n" + one.body.decode())
    answer = [str(one.status), *(f"{name}: {value}" for name, value in one.expected_headers.items())]
    body = one.expected_body.decode()
    return request + _ANSWER + "\n".join(answer) + ("\n\n" + body if body else "")
