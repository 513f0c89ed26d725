"""What a caller may ask of an answer: how current it is, how long it may take, which write it is a retry of.

Each is a header ``x-artemis-…``, or a query parameter of the same meaning (``consistency``, ``min-revision``,
``max-stale-ms``, ``timeout-ms``, ``request-id``, ``instance-revisions``; any case, with ``-``, ``_`` or nothing between
the words). The header wins. ``If-Match`` and ``If-None-Match`` are headers only (``conditions``). A value outside
what is allowed, or a second one, is HTTP 400 that names it: an option misread in silence is a broken promise. (Two
headers ``x-artemis-consistency`` without any other option are not looked for: most reads send one.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from artemis.api.faults import bad_request, shown
from artemis.api.requests import (
    CONSISTENCY,
    IF_MATCH,
    IF_NONE_MATCH,
    INSTANCE_REVISIONS,
    MAX_STALE_MS,
    MIN_REVISION,
    OPTION_HEADERS,
    REQUEST_ID,
    TIMEOUT_MS,
    Request,
)
from artemis.api.settings import CONSISTENCIES, Consistency, HttpSettings

INT64_MAX = 2**63 - 1
REQUEST_ID_CHARACTERS_MAX = 128

_QUERY_NAMES = {
    "consistency": CONSISTENCY,
    "minrevision": MIN_REVISION,
    "maxstalems": MAX_STALE_MS,
    "timeoutms": TIMEOUT_MS,
    "requestid": REQUEST_ID,
    "instancerevisions": INSTANCE_REVISIONS,
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class ReadOptions(NamedTuple):
    consistency: Consistency
    min_revision: int
    """The answer holds at least this revision, whatever its level."""
    max_stale_ms: int | None
    """For ``stale`` and ``session``: refuse when the state may be older."""
    timeout_ms: int
    may_fall_back: bool = False
    """Linearizable because nothing else was asked, where the settings prefer a stale answer to none."""
    instance_revisions: bool = False
    """Show the revision and lease epoch of each instance."""


class WriteOptions(NamedTuple):
    request_id: str | None
    timeout_ms: int
    expected_revision: int | None = None
    """Of the one instance that the request names (``If-Match``); 0: it must not exist (``If-None-Match: *``)."""


class OptionReader:
    """Reads options against one node's settings."""

    def __init__(self, settings: HttpSettings) -> None:
        self._timeout_ms_max = settings.request_timeout_ms_max
        self._timeout_ms = settings.request_timeout_ms
        self._by_level: dict[bytes, ReadOptions] = {
            level.encode(): ReadOptions(level, 0, None, settings.request_timeout_ms) for level in CONSISTENCIES
        }
        falls_back = settings.reads_default == "linearizable" and settings.reads_without_quorum == "stale"
        self._read_default = self._by_level[settings.reads_default.encode()]._replace(may_fall_back=falls_back)
        self._write_default = WriteOptions(None, settings.request_timeout_ms)

    def read(self, request: Request, *, names_revision: bool = False) -> ReadOptions:
        """``names_revision``: the request says otherwise which revision its sender has seen."""
        headers = request.headers
        if not request.scope["query_string"] and not (
            MIN_REVISION in headers or MAX_STALE_MS in headers or TIMEOUT_MS in headers or INSTANCE_REVISIONS in headers
        ):
            level = headers.get(CONSISTENCY)
            if level is None:
                return self._read_default
            found = self._by_level.get(level)
            if found is not None and (names_revision or found.consistency != "session"):
                return found
        given = _given(request)
        consistency = self._consistency(given)
        min_revision = _integer(given, MIN_REVISION, 0, INT64_MAX)
        if min_revision is None and consistency == "session" and CONSISTENCY in given and not names_revision:
            # It would be an answer of any age under a better name. Only who asks for the level can know what to name.
            raise bad_request(
                f"{MIN_REVISION.decode()}: required with session; the last revision seen, 0 if there is none"
            )
        return ReadOptions(
            consistency,
            min_revision or 0,
            _integer(given, MAX_STALE_MS, 0, INT64_MAX),
            self._timeout(given),
            self._read_default.may_fall_back and CONSISTENCY not in given,
            _boolean(given, INSTANCE_REVISIONS),
        )

    def write(self, request: Request) -> WriteOptions:
        headers = request.headers
        if not request.scope["query_string"] and not (
            REQUEST_ID in headers or TIMEOUT_MS in headers or IF_MATCH in headers or IF_NONE_MATCH in headers
        ):
            return self._write_default
        given = _given(request)
        return WriteOptions(_request_id(given), self._timeout(given), _expected_revision(headers))

    def _consistency(self, given: dict[bytes, str]) -> Consistency:
        value = given.get(CONSISTENCY)
        if value is None:
            return self._read_default.consistency
        for level in CONSISTENCIES:
            if value.strip().lower() == level:
                return level
        raise bad_request(f"{CONSISTENCY.decode()}: one of {', '.join(CONSISTENCIES)} is allowed, not {shown(value)}")

    def _timeout(self, given: dict[bytes, str]) -> int:
        timeout_ms = _integer(given, TIMEOUT_MS, 1, self._timeout_ms_max)
        return self._timeout_ms if timeout_ms is None else timeout_ms


def _given(request: Request) -> dict[bytes, str]:
    given: dict[bytes, str] = {}
    if request.scope["query_string"]:
        for name, value in request.query:
            folded = name.lower().replace("-", "").replace("_", "").removeprefix("xartemis")
            header = _QUERY_NAMES.get(folded)
            if header is not None:
                if header in given:
                    raise bad_request(f"{header.decode()}: given twice, once is allowed")
                given[header] = value
    _refuse_repeated(request)
    for header in _QUERY_NAMES.values():
        sent = request.headers.get(header)
        if sent is not None:
            given[header] = sent.decode("latin-1")
    return given


def _refuse_repeated(request: Request) -> None:
    """``request.headers`` has the last of each."""
    seen: set[bytes] = set()
    for name, _ in request.scope["headers"]:
        if name in OPTION_HEADERS:
            if name in seen:
                raise bad_request(f"{name.decode()}: given twice, once is allowed")
            seen.add(name)


def _integer(given: dict[bytes, str], name: bytes, least: int, most: int) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    digits = text.strip()
    # At most 19 digits fit 64 bits; longer ones are not worth converting.
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and least <= (value := int(digits)) <= most:
        return value
    raise bad_request(f"{name.decode()}: an integer from {least} to {most} is allowed, not {shown(text)}")


def _boolean(given: dict[bytes, str], name: bytes) -> bool:
    text = given.get(name)
    if text is None:
        return False
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise bad_request(f"{name.decode()}: true or false is allowed, not {shown(text)}")
    return value


def _expected_revision(headers: Mapping[bytes, bytes]) -> int | None:
    match, none_match = headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)
    if match is not None and none_match is not None:
        raise bad_request("If-None-Match: not allowed beside If-Match")
    if none_match is not None:
        if none_match.strip() != b"*":
            raise bad_request(f"If-None-Match: * is allowed, not {shown(none_match.decode('latin-1'))}")
        return 0
    if match is None:
        return None
    tag = match.strip()
    digits = tag[1:-1] if len(tag) > 2 and tag[:1] == tag[-1:] == b'"' else tag
    if digits.isdigit() and len(digits) <= 19 and 0 < (revision := int(digits)) <= INT64_MAX:
        return revision
    raise bad_request(f'If-Match: one revision above 0, as "17", is allowed, not {shown(match.decode("latin-1"))}')


def _request_id(given: dict[bytes, str]) -> str | None:
    text = given.get(REQUEST_ID)
    if text is None:
        return None
    if 0 < len(text) <= REQUEST_ID_CHARACTERS_MAX and all("!" <= character <= "~" for character in text):
        return text
    raise bad_request(
        f"{REQUEST_ID.decode()}: 1 to {REQUEST_ID_CHARACTERS_MAX} visible ASCII characters are allowed, "
        f"not {shown(text)}"
    )
