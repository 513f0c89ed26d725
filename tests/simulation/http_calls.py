"""One HTTP request of a virtual client over a connection that may break, and what the client may conclude from it.

The outcome of an attempt: ``ok`` = it happened; ``fail`` = it did not and never will; ``info`` = unknown. In doubt it
is ``info``: a wrong ``fail`` would accuse the server of what the client made up.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Literal

import orjson

from tests.simulation.history import Outcome
from tests.simulation.http import Connection, Frontends

CODES_OF_REFUSAL = ("bad-request", "no-permission", "rate-limited", "request-id-reused")

OUTCOME = "x-artemis-outcome"

Failure = Literal["", "refused", "cut", "reset", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong with one request. ``silently``: no packet says so, the other end has to find out."""

    request_bytes: int | None = None
    """The client is gone when it has sent that many bytes."""
    gone_after: float | None = None
    """The client is gone that many seconds after its last byte."""
    answer_bytes: int | None = None
    """The connection breaks when that many bytes of the answer have arrived."""
    silently: bool = False


WELL = Trouble()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    chunked: bool = False
    zipped: bool = False
    close: bool = False
    """Ask the server to close the connection after its answer."""

    def encoded(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "host: artemis.test"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.close:
            lines.append("connection: close")
        content = b"" if self.body is None else orjson.dumps(self.body)
        if self.body is not None:
            lines.append("content-type: application/json")
            if self.zipped:
                content = gzip.compress(content, mtime=0)
                lines.append("content-encoding: gzip")
            lines.append("transfer-encoding: chunked" if self.chunked else f"content-length: {len(content)}")
            if self.chunked:
                half = len(content) // 2
                content = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (content[:half], content[half:]) if c)
                content += b"0\r\n\r\n"
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: dict[str, Any] | None
    """None: not JSON."""

    @property
    def code(self) -> str:
        """Of the answer as a whole; ``partial_fail`` is one too."""
        status = get(self.body or {}, "responseStatus") or {}
        return str(get(status, "status")) if get(status, "status") != "fail" else str(get(status, "errorCode"))

    @property
    def revision(self) -> int:
        return int(self.headers["x-artemis-revision"])

    @property
    def apply_lag_ms(self) -> int:
        return int(self.headers["x-artemis-apply-lag-ms"])


def get(document: Mapping[str, Any], camel: str) -> Any:
    """A field in whichever spelling the answer has."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in camel)
    return document[camel] if camel in document else document.get(snake)


class Exchange:
    """Sends ``request`` and calls ``done(exchange)`` once: with an answer, a failure, or when patience ends."""

    def __init__(
        self,
        frontends: Frontends,
        node: str,
        request: Request,
        *,
        patience: float,
        done: Callable[[Exchange], None],
        rng: Random,
        trouble: Trouble = WELL,
        kept: Connection | None = None,
    ) -> None:
        """``kept``: a connection to the node that is open, from an earlier exchange."""
        self.node = node
        self.request = request
        self.reply: Reply | None = None
        self.failure: Failure = ""
        self.begun = False
        """A byte of the request has left."""
        self.complete = False
        """All of them have."""
        self.written_at = 0.0
        """When the server wrote the answer, in the world's time."""
        self.called_at = frontends.world.now
        self.done_at = float("inf")
        self.connection: Connection
        self._world = frontends.world
        self._rng = rng
        self._trouble = trouble
        self._done = done
        self._received = b""
        self._finished = False
        self._patience = self._world.after(patience, partial(self._finish, "timeout"))
        if kept is not None and kept.alive:
            self.connection = kept
            self._begin()
        else:
            self.connection = Connection(frontends, node, rng, self._opened)

    @property
    def reusable(self) -> bool:
        return self.reply is not None and self.connection.alive and not self.request.close

    # sending

    def _opened(self, listening: bool) -> None:
        if self._finished:
            self.connection.close()
        elif listening:
            self._begin()
        else:
            self._finish("refused")

    def _begin(self) -> None:
        self.connection.data = self._on_data
        self.connection.ended = partial(self._finish, "reset")
        self._send(self._pieces(self.request.encoded()))

    def _pieces(self, data: bytes) -> deque[bytes]:
        """Most requests travel in one segment, some in several."""
        data = data[: self._trouble.request_bytes]
        inner = sorted(self._rng.randint(1, len(data)) for _ in range(self._rng.choice((0, 0, 1, 3))))
        ends = [*inner, len(data)]
        return deque(data[begin:end] for begin, end in zip([0, *inner], ends, strict=True) if end > begin)

    def _send(self, pieces: deque[bytes]) -> None:
        if self._finished:
            return
        self.begun = True
        self.connection.send(pieces.popleft())
        if pieces:
            pause = self._rng.random() * 0.2 if self._rng.random() < 0.3 else 0.0
            self._world.after(pause, partial(self._send, pieces))
        elif self._trouble.request_bytes is not None:
            self._finish("cut")
        else:
            self.complete = True
            if self._trouble.gone_after is not None:
                self._world.after(self._trouble.gone_after, partial(self._finish, "cut"))

    # receiving

    def _on_data(self, data: bytes, written_at: float) -> None:
        self.written_at = written_at
        self._received += data
        most = self._trouble.answer_bytes
        if most is not None and len(self._received) > most:
            if not self._trouble.silently:
                self._finish("reset")
            return
        self.reply = parsed(self._received)
        if self.reply is not None:
            self._finish("")

    def _finish(self, failure: Failure) -> None:
        if self._finished:
            return
        self._finished = True
        self.failure = failure
        self.done_at = self._world.now
        self._patience.cancel()
        self.connection.data = self.connection.ended = None
        if not self.reusable:
            self.connection.close(silently=self._trouble.silently)
        self._done(self)


def parsed(received: bytes) -> Reply | None:
    """None while it is not complete."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if len(body) < int(headers["content-length"]):
        return None
    document = orjson.loads(body) if headers.get("content-type") == "application/json" else None
    return Reply(int(status_line.split()[1]), headers, document)


def write_outcome(exchange: Exchange) -> Outcome:
    """Of one attempt of a register or unregister of valid instances."""
    reply = exchange.reply
    if reply is None:
        # What was never sent as a whole cannot be done.
        return "info" if exchange.complete else "fail"
    if reply.status == 200 and reply.code == "success":
        return "ok"
    if reply.headers.get(OUTCOME) == "not-applied":
        return "fail"
    refused = reply.status == 429 or 400 <= reply.status < 500
    return "fail" if refused or (reply.status == 200 and reply.code in CODES_OF_REFUSAL) else "info"
