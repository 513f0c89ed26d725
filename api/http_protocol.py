"""uvicorn's HTTP protocol, with an answer in one write.

uvicorn checks each header with two regular expressions and writes head and body separately: two system calls and ten
microseconds on answers whose head this application makes itself from constants. Under this protocol a request's scope
offers the extension ``artemis.answer``; an application that sees it may answer with one message of that type, which
holds ``status``, ``head`` (the bytes of its header lines, each ended by CRLF, with content-length) and ``body``.
Everything else goes uvicorn's way.

A node with too many connections refuses a request before the application sees it. uvicorn's own refusal would leave a
writer in doubt; this one says that nothing happened. Probes are answered also then: a platform that restarts a node
because it is busy sends its clients to the others, which are as busy.

The head of a request is bounded, and so is what a client may send after its last chunk. uvicorn bounds neither, and its
parser copies a header that arrives in parts once for each of them: a header of 100 MB stops the event loop for seconds.

uvicorn sets a timer after each answer and takes it back with the next request: a twentieth of the work of a look-up.
Here an answer notes until when the connection may be idle. Its one timer looks when that is and, if it is later, goes
on.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final, Literal, TypedDict, cast

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

ANSWER: Final = "artemis.answer"
_OFFER: Final[dict[str, dict[object, object]]] = {ANSWER: {}}

HEAD_BYTES_MAX: Final = 32 * 1024
"""Of the address and all headers of a request; the usual bound of web servers is 8 to 64 KiB."""
COPIED_BYTES_MAX: Final = 64 * 1024
"""A longer body is written by itself: copying the list of all services behind its head takes longer than a write."""

REFUSED_MAX: Final = 100
"""Connections beyond the bound that may be open, to be told so when they ask for something. Further ones are cut at
once: a client that opens connections and asks for nothing would take the files that the journal and the links need."""

ALWAYS_SERVED: Final = frozenset(("/livez", "/health", "/metrics"))
OVERLOADED: Final = b"this node has as many connections as it may"
_HEAD_TOO_LARGE: Final = b"the address and headers of a request may have %d bytes together" % HEAD_BYTES_MAX
_REFUSED_HEAD: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
    b"connection: close\r\nx-artemis-outcome: not-applied\r\n\r\n%b" % (len(_HEAD_TOO_LARGE), _HEAD_TOO_LARGE)
)


async def overloaded(_scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(OVERLOADED)),
        (b"connection", b"close"),
        (b"x-artemis-outcome", b"not-applied"),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.SERVICE_UNAVAILABLE, "headers": headers})
    await send({"type": "http.response.body", "body": OVERLOADED})


class WholeAnswer(TypedDict):
    type: Literal["artemis.answer"]
    status: int
    head: bytes
    body: bytes


class OneWriteCycle(RequestResponseCycle):
    """One request. Becomes this class before its first line of application code runs, so it has no ``__init__``."""

    async def send(self, message: ASGISendEvent | WholeAnswer) -> None:
        if message["type"] != ANSWER or self.response_started:
            await super().send(cast(ASGISendEvent, message))
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        body = message["body"]
        parts = [STATUS_LINE[message["status"]]]
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(message["head"])
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        apart = len(body) > COPIED_BYTES_MAX
        if not apart and self.scope["method"] != "HEAD":
            parts.append(body)
        self.transport.write(b"".join(parts))
        if apart and self.scope["method"] != "HEAD":
            self.transport.write(body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class OneWriteProtocol(HttpToolsProtocol):
    _unparsed = 0
    """Bytes since the parser last began a request or found a part of a body: those of a head, and a little more."""
    _idle_until: float | None = None
    """When to close, in the loop's time; None unless ``idle``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        bound = self.limit_concurrency
        if bound is not None and len(self.connections) > bound + REFUSED_MAX:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if len(data) > HEAD_BYTES_MAX:
            self._received_much(data)
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_BYTES_MAX:
            self._refuse_head()

    def _received_much(self, data: bytes) -> None:
        """In parts, so that a head that is too long is noticed before it is parsed."""
        for start in range(0, len(data), HEAD_BYTES_MAX):
            if self not in self.connections or self.transport.is_closing():
                return  # a WebSocket by now, or refused
            self.data_received(data[start : start + HEAD_BYTES_MAX])

    def _refuse_head(self) -> None:
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_REFUSED_HEAD)
        # Else the answer to an earlier request, or to this one, is on its way: nothing may come between its parts.
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unparsed = 0
        self.scope["extensions"] = _OFFER

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._unparsed = 0

    @property
    def idle(self) -> bool:
        """Between two requests, with no byte of the next one here."""
        return self._idle_until is not None

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self.timeout_keep_alive_task is None:
            self._look_after(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_until is None:
            return  # the end of the request that is under way sets the timer again
        left_s = self._idle_until - self.loop.time()
        if left_s > 0:
            self._look_after(left_s)
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def _look_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        # Bytes have come. The timer goes on: see at the top.
        self._idle_until = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.__class__ = OneWriteCycle
        if app is service_unavailable:
            app = cast(ASGI3Application, self.app) if cycle.scope["path"] in ALWAYS_SERVED else overloaded
        super()._start_asgi_task(cycle, app)
