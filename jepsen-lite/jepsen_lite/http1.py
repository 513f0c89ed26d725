"""One HTTP/1.1 connection that knows whether the first byte of a request left.

Ordinary clients hide it: a refused connection and a reset after the request was sent arrive as one kind of error, and
the first proves that nothing happened while the second proves nothing. Here they are two exceptions.

Not done: pipelining, redirects, TLS, proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

HEAD_BYTES_MAX = 64 * 1024


class NotSent(Exception):
    """No byte of the request left this process: the server cannot have acted on it."""


class Lost(Exception):
    """The request left, in part or whole, and no complete answer came back: the server may have acted on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete response. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """The parsed body. Raises ``ValueError`` when it is not JSON."""
        parsed: object = orjson.loads(self.body)
        return parsed


class Connection:
    """A keep-alive connection to ``host:port``, opened on the first request and again after a failure.

    One request at a time; a caller that wants concurrency opens several.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout_s: float
    ) -> Answer:
        """Send and wait for the whole answer. Raises ``NotSent`` or ``Lost``, also when ``timeout_s`` has passed."""
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await self._open()
                sent = True  # from here on bytes may have left, whatever the next line raises
                writer.write(self._encode(method, path, body, headers or {}))
                await writer.drain()
                answer, keep_alive = await _read_answer(reader)
        except (TimeoutError, OSError, EOFError, ValueError) as exc:
            self.close()
            reason = f"{type(exc).__name__}: {exc}"
            raise (Lost(reason) if sent else NotSent(reason)) from exc
        except asyncio.CancelledError:
            self.close()
            raise
        if not keep_alive:
            self.close()
        return answer

    def idle_closed(self) -> bool:
        """No connection is open, or the server has closed it since the last answer."""
        return self._streams is None or self._streams[0].at_eof()

    def close(self) -> None:
        """Drop the connection. The next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def aclose(self) -> None:
        """Drop the connection and wait until its socket is released."""
        if self._streams is not None:
            writer = self._streams[1]
            self.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.idle_closed():
            # A request written now would be lost for sure, and count as sent.
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port, limit=HEAD_BYTES_MAX)
        return self._streams

    def _encode(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The answer and whether the connection may be used again (RFC 9112 sections 4, 6.3 and 9.3)."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as exc:
        raise ValueError(f"head of the answer is longer than {HEAD_BYTES_MAX} bytes") from exc
    status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    version, status, *_ = status_line.split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP/1 answer: {status_line!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    keep_alive = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif int(status) in (204, 304):
        body = b""
    else:
        body, keep_alive = await reader.read(), False
    return Answer(status=int(status), headers=headers, body=body), keep_alive


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailer fields are not used
    return b"".join(parts)
