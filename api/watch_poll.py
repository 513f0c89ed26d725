"""``GET …/api/watch``: a long poll.

``since`` (required): a revision, or ``now``. ``services``: ids separated by commas; without it all services. ``wait``:
milliseconds until an answer without changes is given. ``naming``: ``snake`` or ``camel``. Whatever else is asked for is
HTTP 400: a filter that is misspelled would otherwise be a watch of everything.

The answer holds ``changes`` and the ``revision`` to go on from, which moves on also when nothing happened. When
changes after ``since`` are not kept any more, ``compacted`` is true and ``oldest`` names the smallest revision that
still works; the client then reads the services and goes on from that answer's revision.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from artemis.api.answers import Answer
from artemis.api.dialects import Dialect
from artemis.api.faults import ClientGone, bad_request, shown
from artemis.api.feed import Batch, Behind, Subscription
from artemis.api.options import ReadOptions
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.api.settings import Consistency
from artemis.api.watch import NOW, Asked, Watches, read_naming, read_services, read_since
from artemis.errors import Unavailable

WAIT_MS = 30_000
COMPACTED = "the changes after since are not kept any more; read the services again"

_PARAMETERS = ("since", "services", "wait", "naming", "timeout-ms")
_BY_FOLDED_NAME = {name.replace("-", ""): name for name in _PARAMETERS}


class Poll(NamedTuple):
    asked: Asked
    wait_ms: int
    dialect: Dialect
    options: ReadOptions


class WatchPoll:
    """Handler of the long poll."""

    def __init__(self, serving: Serving, watches: Watches) -> None:
        self._serving = serving
        self._node = serving.node
        self._watches = watches

    async def get(self, request: Request) -> Answer:
        poll = self._read(request)
        level: Consistency = "linearizable" if poll.asked.since == NOW else "session"
        try:
            since = await self._watches.reach(poll.asked.since, poll.options.timeout_ms)
            feed, watches = self._serving.feed, self._watches
            with feed.subscribe(since, poll.asked.services) as subscription, watches.reading(subscription):
                got = await _next(subscription, request, poll.wait_ms)
            if isinstance(got, Behind):
                return self._compacted(poll.dialect, got, level)
            self._watches.check_ready()
            if not got.changes:
                # Nothing came because nothing happened, or because this node does not hear of it?
                self._watches.check_well()
        except Unavailable as exc:
            return self._failed(poll.dialect, exc)
        return self._changed(poll.dialect, got, level)

    def _changed(self, dialect: Dialect, got: Batch, level: Consistency) -> Answer:
        self._watches.counters.sent("poll", got)
        body = b'%b,"changes":%b,"revision":%d}' % (
            dialect.reported({})[:-1],
            self._watches.encoder(dialect).changes(got.changes),
            got.revision,
        )
        return Answer(body, "success", self._node.status(), got.revision, level)

    def _compacted(self, dialect: Dialect, behind: Behind, level: Consistency) -> Answer:
        self._watches.counters.lost(begun=False)
        revision = self._node.registry.revision
        body = b'%b,"compacted":true,"oldest":%d,"revision":%d}' % (
            dialect.failed("watch", "data-not-found", COMPACTED)[:-1],
            behind.oldest,
            revision,
        )
        headers = [(b"x-artemis-compacted", b"%d" % behind.oldest)]
        return Answer(body, "data-not-found", self._node.status(), revision, level, headers)

    def _failed(self, dialect: Dialect, exc: Unavailable) -> Answer:
        body = dialect.failed("watch", "service-unavailable", self._serving.unavailable("discovery", exc))
        return Answer(body, "service-unavailable", self._node.status(), self._node.registry.revision)

    def _read(self, request: Request) -> Poll:
        given: dict[str, list[str]] = {}
        for name, value in request.query:
            known = _BY_FOLDED_NAME.get(name.lower().replace("-", "").replace("_", ""))
            if known is None:
                raise bad_request(f"{shown(name)}: no parameter of a watch; those are {', '.join(_PARAMETERS)}")
            given.setdefault(known, []).append(value)
        for name, values in given.items():
            if len(values) > 1 and name != "services":
                raise bad_request(f"{name}: given {len(values)} times, once is allowed")
        if "since" not in given:
            raise bad_request('since: required; the last revision seen, or "now"')
        services = None
        if "services" in given:
            services = read_services(name for value in given["services"] for name in value.split(","))
        dialect = read_naming(given.get("naming", [None])[0], request.spoken)
        asked = Asked(read_since(given["since"][0]), services)
        options = self._serving.options.read(request, names_revision=True)
        return Poll(asked, self._wait_ms(given.get("wait", [None])[0]), dialect, options)

    def _wait_ms(self, text: str | None) -> int:
        most = self._serving.settings.watch_wait_ms_max
        if text is None:
            return min(WAIT_MS, most)
        if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= most:
            return int(text)
        raise bad_request(f"wait: milliseconds from 0 to {most} are allowed, not {shown(text)}")


async def _next(subscription: Subscription, request: Request, wait_ms: int) -> Batch | Behind:
    """What the subscription gives within ``wait_ms``. Raises ``ClientGone`` when nobody waits for it any more."""
    got = await subscription.next(wait_s=0)
    if isinstance(got, Behind) or got.changes or wait_ms == 0:
        return got
    waiting = asyncio.ensure_future(subscription.next(wait_ms / 1000))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientGone
        return waiting.result()
    finally:
        waiting.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
