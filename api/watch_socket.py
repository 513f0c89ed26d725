"""``WS …/api/watch``: a stream of changes.

The client sends ``{"type": "subscribe", "since": <revision or "now">, "services": [<id>, …]}``; without ``services`` it
watches all. A further ``subscribe`` takes the place of the one before. ``?since=…&services=…`` in the address does the
same at once. ``?naming=snake|camel`` says how instances are spelled. The node sends:

    {"type": "subscribed", "revision": 7}                  everything after this revision follows
    {"type": "changes", "changes": […], "revision": 9}     all changes after the last revision told and up to this one
    {"type": "bookmark", "revision": 12}                   nothing else for this client up to this revision
    {"type": "compacted", "oldest": 3, "revision": 12}     ``since`` is too old: read the services, subscribe again
    {"type": "resync", "oldest": 3, "revision": 12}        this client fell too far behind: as ``compacted``
    {"type": "error", "message": "…"}                      a message that is not understood; then it closes (1008)

After ``compacted`` and ``resync`` nothing follows until the client subscribes again. The node closes with 1012 when it
stops, and with 1013 when the client does not read or another node is a better place to watch: the client then goes on
elsewhere from the last revision it was told.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.websockets import WebSocket

from artemis.api.dialects import Dialect, Spoken
from artemis.api.faults import HttpFault, bad_request, shown
from artemis.api.feed import Behind
from artemis.api.serving import Serving
from artemis.api.sockets import Outlet, SocketClosed, SocketHandler, SocketMessage, text_message
from artemis.api.watch import Asked, Watches, read_naming, read_services, read_since
from artemis.errors import Unavailable

POLICY_VIOLATION = 1008
ELSEWHERE = 1013

_PARAMETERS = ("since", "services", "naming")
_FIELDS = ("type", "since", "services")
_GOLDEN = 0.618033988749895


class WatchSocket:
    """Handlers of the sockets, one by the dialects of its path."""

    def __init__(self, serving: Serving, watches: Watches) -> None:
        self._serving = serving
        self._watches = watches
        self._phases = itertools.count()

    def handler(self, spoken: Spoken) -> SocketHandler:
        async def serve(websocket: WebSocket) -> None:
            dialect, first = _read_query(websocket.scope["query_string"], spoken)
            await websocket.accept()
            # Sockets opened together, as after the end of another node, must not all get their bookmark in one turn.
            stretch = 0.75 + 0.5 * (next(self._phases) * _GOLDEN % 1.0)
            bookmark_s = self._serving.settings.watch_bookmark_ms / 1000 * stretch
            await _Watch(websocket, self._serving, self._watches, dialect, bookmark_s).run(first)

        return serve


class _Watch:
    """One socket: a task that reads, and one that writes while there is a subscription."""

    def __init__(
        self, websocket: WebSocket, serving: Serving, watches: Watches, dialect: Dialect, bookmark_s: float
    ) -> None:
        self._websocket = websocket
        self._serving = serving
        self._watches = watches
        self._encoder = watches.encoder(dialect)
        self._bookmark_s = bookmark_s
        self._outlet = Outlet(websocket)
        self._writer: asyncio.Task[None] | None = None

    async def run(self, asked: Asked | None) -> None:
        try:
            while True:
                if asked is not None:
                    await self._stop_writer()
                    self._writer = asyncio.ensure_future(self._write(asked))
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                asked = _read_message(message)
        except HttpFault as fault:
            await self._stop_writer()
            await self._outlet.send(text_message(orjson.dumps({"type": "error", "message": fault.message})))
            await self._websocket.close(POLICY_VIOLATION)
        finally:
            await self._stop_writer()

    async def _stop_writer(self) -> None:
        """Raises what the writer raised."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            await asyncio.wait((writer,))
            if not writer.cancelled():
                writer.result()

    async def _write(self, asked: Asked) -> None:
        """Ends when nothing more can be said of this subscription; the reader then waits for the client."""
        try:
            since = await self._watches.reach(asked.since, self._serving.settings.request_timeout_ms)
            await self._stream(since, asked.services)
        except Unavailable as exc:
            self._outlet.fail(ELSEWHERE, _reason(exc.message))
        except SocketClosed:
            # The reader learns of it by itself, and then of the reason.
            raise
        except Exception:
            self._outlet.fail(1011, "a fault of this node; its log says more")
            raise

    async def _stream(self, since: int, services: frozenset[str] | None) -> None:
        feed, outlet, counters = self._serving.feed, self._outlet, self._watches.counters
        with feed.subscribe(since, services) as subscription, self._watches.reading(subscription):
            begun = False
            while not feed.draining:
                got = await subscription.next(self._bookmark_s if begun else 0)
                if isinstance(got, Behind):
                    counters.lost(begun=begun)
                    await outlet.send(_lost("resync" if begun else "compacted", got, feed.revision))
                    return
                if not begun:
                    await outlet.send(text_message(b'{"type":"subscribed","revision":%d}' % since))
                self._watches.check_ready()
                if got.changes:
                    await outlet.send(self._encoder.message(got))
                    counters.sent("socket", got)
                elif begun:
                    self._watches.check_well()
                    await outlet.send(self._watches.bookmark(got.revision))
                    counters.sent("socket", got)
                begun = True


def _lost(kind: str, behind: Behind, revision: int) -> SocketMessage:
    return text_message(b'{"type":"%b","oldest":%d,"revision":%d}' % (kind.encode(), behind.oldest, revision))


def _reason(text: str) -> str:
    """A close frame holds 123 bytes."""
    return text.encode()[:120].decode(errors="ignore")


def _read_query(raw: bytes, spoken: Spoken) -> tuple[Dialect, Asked | None]:
    """Raises ``HttpFault``: the handshake is refused."""
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=8)
    except ValueError as exc:
        raise bad_request("query: at most 8 parameters are allowed") from exc
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.lower() not in _PARAMETERS:
            raise bad_request(f"{shown(name)}: no parameter of a watch; those are {', '.join(_PARAMETERS)}")
        if name.lower() in given:
            raise bad_request(f"{name.lower()}: given twice, once is allowed")
        given[name.lower()] = value
    dialect = read_naming(given.get("naming"), spoken)
    if "since" not in given:
        if "services" in given:
            raise bad_request("services: has no meaning here without since")
        return dialect, None
    services = read_services(given["services"].split(",")) if "services" in given else None
    return dialect, Asked(read_since(given["since"]), services)


def _read_message(message: Any) -> Asked:
    """Raises ``HttpFault``."""
    text = message.get("text")
    try:
        document = orjson.loads(text if text is not None else message["bytes"])
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"message: a JSON object is required ({exc})") from exc
    if not isinstance(document, dict):
        raise bad_request("message: a JSON object is required")
    for name in document:
        if name not in _FIELDS:
            raise bad_request(f"{shown(name)}: no field of a message; those are {', '.join(_FIELDS)}")
    if document.get("type") != "subscribe":
        raise bad_request(f'type: "subscribe" is allowed, not {shown(document.get("type"))}')
    if "since" not in document:
        raise bad_request('since: required; the last revision seen, or "now"')
    names = document.get("services")
    if names is not None and not isinstance(names, list):
        raise bad_request(f"services: a list of service ids is allowed, not {shown(names)}")
    return Asked(read_since(document["since"]), None if names is None else read_services(names))
