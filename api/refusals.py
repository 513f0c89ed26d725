"""Refusals that stand before a handler: a request beyond its rate limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from artemis.api.answers import NOT_APPLIED, Answer
from artemis.api.dialects import Kind
from artemis.api.dialects.bodies import read_place, read_query, read_write
from artemis.api.dialects.reading import Naming
from artemis.api.requests import Request
from artemis.api.serving import Serving

RATE_LIMITED = "Request is rate limited."

WRITES = frozenset(("register", "heartbeat", "unregister"))


def rate_limited(serving: Serving, kind: Kind) -> Callable[[Request], Awaitable[Answer]]:
    """The handler in place of one whose limit is reached.

    Java clients retry on the code and take any status but 200 for a broken node (``java-http.md`` 4.3); for those of
    the Rust server it is 429 (``rust-http.md`` 6, 7).
    """
    bytes_max = serving.settings.body_bytes_max

    async def refuse(request: Request) -> Answer:
        dialect = serving.dialect(await _naming(request, kind, bytes_max), request)
        return Answer(
            dialect.failed(kind, "rate-limited", RATE_LIMITED),
            "rate-limited",
            serving.node.status(),
            serving.node.registry.revision,
            headers=NOT_APPLIED if kind in WRITES else (),
            http_status=HTTPStatus.TOO_MANY_REQUESTS if dialect.strict else HTTPStatus.OK,
        )

    return refuse


async def _naming(request: Request, kind: Kind, bytes_max: int) -> Naming | None:
    """How the request is spelled. Raises ``HttpFault`` when it is not understood."""
    if request.scope["method"] == "GET":
        return read_query(request.query).naming
    body = await request.body(bytes_max)
    return read_write(body).naming if kind in WRITES else read_place(body).naming
