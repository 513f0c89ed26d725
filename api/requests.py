"""One HTTP request as the handlers see it: the headers that matter, the query, and the body within its bound."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from artemis.api.dialects import Spoken
from artemis.api.faults import ClientGone, HttpFault, bad_request, shown

CONSISTENCY = b"x-artemis-consistency"
MIN_REVISION = b"x-artemis-min-revision"
MAX_STALE_MS = b"x-artemis-max-stale-ms"
TIMEOUT_MS = b"x-artemis-timeout-ms"
REQUEST_ID = b"x-artemis-request-id"
INSTANCE_REVISIONS = b"x-artemis-instance-revisions"
IF_MATCH = b"if-match"
IF_NONE_MATCH = b"if-none-match"
OPTION_HEADERS = (
    CONSISTENCY,
    MIN_REVISION,
    MAX_STALE_MS,
    TIMEOUT_MS,
    REQUEST_ID,
    INSTANCE_REVISIONS,
    IF_MATCH,
    IF_NONE_MATCH,
)

_WANTED = frozenset(
    (b"accept", b"accept-encoding", b"content-type", b"content-encoding", b"content-length", *OPTION_HEADERS)
)
_QUERY_FIELDS_MAX = 64

_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
_GZIP_MEMBERS_MAX = 16


class Request:
    """``headers`` holds only those in ``_WANTED``. ``spoken``: the dialects of the path."""

    __slots__ = ("_query", "headers", "receive", "scope", "spoken")

    def __init__(self, scope: Scope, receive: Receive, spoken: Spoken) -> None:
        self.scope = scope
        self.receive = receive
        self.spoken = spoken
        self.headers: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WANTED}
        self._query: list[tuple[str, str]] | None = None

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values in order. Raises ``HttpFault`` (400) when there are too many."""
        if self._query is None:
            raw: bytes = self.scope["query_string"]
            try:
                self._query = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
            except ValueError as exc:
                raise bad_request(f"query: at most {_QUERY_FIELDS_MAX} parameters are allowed") from exc
        return self._query

    def check_accept(self) -> None:
        accept = self.headers.get(b"accept")
        if accept is not None and not _accepts_json(accept):
            raise HttpFault(
                HTTPStatus.NOT_ACCEPTABLE,
                f"Accept: answers are application/json, not {shown(accept.decode('latin-1'))}",
            )

    async def body(self, bytes_max: int) -> bytes:
        """The inflated JSON body. Raises ``HttpFault`` 400, 413 or 415 and ``ClientGone``.

        ``bytes_max`` bounds what is read and what it inflates to, so a small gzip bomb costs no more than a big body.
        """
        content_type = self.headers.get(b"content-type", b"")
        if not _is_json(content_type):
            raise HttpFault(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type: application/json is allowed, not {shown(content_type.decode('latin-1'))}",
            )
        encoding = self.headers.get(b"content-encoding")
        inflate = None if encoding is None else _inflater(encoding)
        declared = self.headers.get(b"content-length")
        # More than 18 digits are too many whatever they say, and costly to convert.
        if declared is not None and declared.isdigit() and (len(declared) > 18 or int(declared) > bytes_max):
            raise _too_large(bytes_max)
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        data: bytes = message.get("body", b"")
        if message.get("more_body", False):
            data = await self._joined(data, bytes_max)
        if len(data) > bytes_max:
            raise _too_large(bytes_max)
        if inflate is not None:
            data = inflate(data, bytes_max)
        if not data:
            raise bad_request("body: a JSON object is required, the body is empty")
        return data

    async def _joined(self, data: bytes, bytes_max: int) -> bytes:
        """``data`` and the parts that follow it. Reads no further once they are too much."""
        parts = [data]
        size = len(data)
        more = True
        while more:
            if size > bytes_max:
                raise _too_large(bytes_max)
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            data = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(data)
            parts.append(data)
        return b"".join(parts)


def _too_large(bytes_max: int) -> HttpFault:
    return HttpFault(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        # The server drops what is still to come. Closed with bytes unread, the connection would be reset, and many
        # clients then never see this.
        f"body: at most {bytes_max} bytes are allowed, as sent and after inflation",
    )


def _inflater(encoding: bytes) -> Callable[[bytes, int], bytes] | None:
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return _gunzip
    if name == b"deflate":
        return _undeflate
    raise HttpFault(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Encoding: gzip, deflate and identity are allowed, not {shown(encoding.decode('latin-1'))}",
        headers=[(b"accept-encoding", b"gzip, deflate, identity")],
    )


def _gunzip(data: bytes, bytes_max: int) -> bytes:
    """All members of a gzip stream: RFC 1952 lets a sender concatenate several.

    Their number is bounded because each costs a copy of all that follows it: 100,000 members of 20 bytes would copy
    200 GB.
    """
    parts: list[bytes] = []
    size = 0
    while data:
        if len(parts) == _GZIP_MEMBERS_MAX:
            raise bad_request(f"body: at most {_GZIP_MEMBERS_MAX} gzip members are allowed")
        inflater = zlib.decompressobj(_GZIP)
        parts.append(_inflate_bounded(inflater, data, bytes_max - size, bytes_max))
        size += len(parts[-1])
        data = inflater.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _undeflate(data: bytes, bytes_max: int) -> bytes:
    """RFC 9110 means the zlib form; some senders mean the raw one. The zlib header tells them apart."""
    wrapped = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    inflater = zlib.decompressobj(_ZLIB if wrapped else _RAW_DEFLATE)
    return _inflate_bounded(inflater, data, bytes_max, bytes_max) if data else b""


def _inflate_bounded(inflater: zlib._Decompress, data: bytes, room: int, bytes_max: int) -> bytes:
    try:
        # One byte more than there is room for: it comes out only if the content is too large. (0 would mean no bound.)
        inflated = inflater.decompress(data, room + 1)
    except zlib.error as exc:
        raise bad_request(f"body: its Content-Encoding does not fit its bytes ({exc})") from exc
    if len(inflated) > room:
        raise _too_large(bytes_max)
    if not inflater.eof:
        raise bad_request("body: its compressed content is truncated")
    return inflated


@lru_cache(maxsize=256)
def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )


@lru_cache(maxsize=256)
def _accepts_json(accept: bytes) -> bool:
    ranges = accept.decode("latin-1").lower().split(",")
    for media_range in ranges:
        media_type, _, parameters = media_range.partition(";")
        refused = any(
            part.strip().replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters.split(";")
        )
        if media_type.strip() in ("*/*", "application/*", "application/json", "") and not refused:
            return True
    return False
