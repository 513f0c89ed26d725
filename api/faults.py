"""Requests that do not reach the application: HTTP 4xx with a small JSON body.

Application outcomes are HTTP 200 with their code in the body (``java-http.md`` 1.3); these are the others. Each
message names the part that is wrong and what is allowed there.
"""

from __future__ import annotations

from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]

PHRASES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Payload Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Entity",
}
"""Where the name of a status differs between versions of Python."""

SHOWN_CHARACTERS_MAX = 60
_SPELLED = {None: "null", True: "true", False: "false"}


class HttpFault(Exception):
    """Answered with ``status`` and {"timestamp", "status", "error", "message", "path"}; ``bare``: without a body."""

    def __init__(self, status: HTTPStatus, message: str, *, headers: Headers | None = None, bare: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers: Headers = headers or []
        self.bare = bare


class WrongShape(HttpFault):
    """JSON that cannot be meant. Java clients know it as 400; clients of the earlier Rust server as 422."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, message)

    def for_strict(self) -> HttpFault:
        return HttpFault(HTTPStatus.UNPROCESSABLE_ENTITY, self.message)


class ClientGone(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""


def bad_request(message: str) -> HttpFault:
    return HttpFault(HTTPStatus.BAD_REQUEST, message)


def too_many(field: str, most: int, sent: int) -> HttpFault:
    return HttpFault(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{field}: at most {most} are allowed in one request, not {sent}"
    )


def shown(value: object) -> str:
    """A foreign value as it may appear in a message: short, quoted so that its ends are visible, and spelled as in
    JSON where a client would not know it otherwise."""
    if value is None or isinstance(value, bool):
        return _SPELLED[value]
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
