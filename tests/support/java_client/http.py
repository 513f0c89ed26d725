"""The HTTP side: pooled connections, gzip bodies in chunks, and what is retried where (2 and 4)."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from tests.support.java_client.addresses import AddressManager
from tests.support.java_client.observed import Observed
from tests.support.java_client.settings import JavaSettings

Json = dict[str, Any]

IDLE_S = 10.0
_CHUNK = 2_048
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""A chunk of its own: Java writes it before there is anything to compress."""
SERVICE_DOWN = frozenset(("internal-service-error", "service-unavailable"))
RERUNNABLE = frozenset(("rate-limited", "unknown"))


class NodeFailed(Exception):
    """No usable answer: no connection, no answer in time, a status of failure, or a body that cannot be read."""


class Rejected(Exception):
    """The last try was answered, with a status that asks for another."""


@dataclass(slots=True)
class _Idle:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float


class Pool:
    """Connections of one client process, reused for ten seconds."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Idle]] = {}

    async def post(
        self, url: str, body: Json, *, connect_timeout_s: float, read_timeout_s: float, failing_status: int
    ) -> Json:
        """Raises ``NodeFailed``."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        request = _request(host, port, parts.path, body)
        for attempt in (1, 2):
            reused = self._take(host, port)
            try:
                if reused is not None:
                    reader, writer = reused
                else:
                    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), connect_timeout_s)
            except (OSError, TimeoutError) as exc:
                raise NodeFailed(f"connect: {exc!r}") from exc
            try:
                writer.write(request)
                status, answer, keep = await asyncio.wait_for(_read(reader), read_timeout_s)
            except (OSError, EOFError, TimeoutError, ValueError, zlib.error) as exc:
                writer.close()
                if reused is not None and attempt == 1 and isinstance(exc, asyncio.IncompleteReadError | OSError):
                    continue  # the server had closed an idle connection: sent once more, as HttpClient does
                raise NodeFailed(f"read: {exc!r}") from exc
            except asyncio.CancelledError:
                writer.close()
                raise
            if keep:
                now = time.monotonic()
                self._idle.setdefault((host, port), []).append(_Idle(reader, writer, now))
            else:
                writer.close()
            return _decoded(status, answer, failing_status)
        raise NodeFailed("connection lost twice")

    def _take(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        idle = self._idle.get((host, port), [])
        now = time.monotonic()
        while idle:
            one = idle.pop()
            if now - one.since < IDLE_S and not one.reader.at_eof():
                return one.reader, one.writer
            one.writer.close()
        return None

    def close(self) -> None:
        for connections in self._idle.values():
            for one in connections:
                one.writer.close()
        self._idle.clear()


def _request(host: str, port: int, path: str, body: Json) -> bytes:
    plain = orjson.dumps(body)
    packer = zlib.compressobj(level=6, wbits=-15)
    end = zlib.crc32(plain).to_bytes(4, "little") + len(plain).to_bytes(4, "little")
    packed = packer.compress(plain) + packer.flush() + end
    chunks = [_GZIP_HEAD, *(packed[at : at + _CHUNK] for at in range(0, len(packed), _CHUNK))]
    head = (
        f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Content-Encoding: gzip\r\nHost: {host}:{port}\r\nConnection: Keep-Alive\r\n"
        "User-Agent: Apache-HttpClient/4.5.6 (Java/17.0.15)\r\nAccept-Encoding: gzip,deflate\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts: list[bytes] = []
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        parts.append(await reader.readexactly(int(headers.get("content-length", "0"))))
    body = b"".join(parts)
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return int(status_line.split(" ")[1]), body, headers.get("connection", "").lower() != "close"


def _decoded(status: int, body: bytes, failing_status: int) -> Json:
    if status >= failing_status:
        raise NodeFailed(f"HTTP {status} {body[:120]!r}")
    try:
        answer = orjson.loads(body)
    except ValueError as exc:
        raise NodeFailed(f"not JSON: {body[:120]!r}") from exc
    if not isinstance(answer, dict):
        raise NodeFailed(f"no object: {body[:120]!r}")
    return answer


class ArtemisHttpClient:
    """Calls that go on to another node, up to five times, a tenth of a second apart."""

    def __init__(self, settings: JavaSettings, addresses: AddressManager, observed: Observed) -> None:
        self._settings = settings
        self._addresses = addresses
        self._observed = observed
        self.pool = Pool()

    async def post(self, path: str, body: Json) -> Json:
        """An answer that is final for the Java client. Raises ``NodeFailed`` or ``Rejected`` of the last try."""
        settings = self._settings
        for attempt in range(1, settings.retry_times + 1):
            last = attempt == settings.retry_times
            context = self._addresses.get()
            try:
                answer = await self.pool.post(
                    context.url + settings.api_path + path,
                    body,
                    connect_timeout_s=settings.connect_timeout_s,
                    read_timeout_s=settings.read_timeout_s,
                    failing_status=settings.failing_status,
                )
                status = answer.get("responseStatus")
                if not isinstance(status, dict):
                    raise NodeFailed(f"no responseStatus in {answer}")
            except NodeFailed as exc:
                self._observed.count("http failed", f"{path} at {context.url}: {exc}")
                context.mark_unavailable()
                if last:
                    raise
            else:
                code = status.get("errorCode")
                if status.get("status") != "fail" or code not in SERVICE_DOWN | RERUNNABLE:
                    return answer
                self._observed.codes[str(code)] += 1
                if code in SERVICE_DOWN:
                    context.mark_unavailable()
                if last:
                    raise Rejected(f"{path} at {context.url}: {status}")
            await asyncio.sleep(settings.retry_interval_s)
        raise AssertionError("unreachable: the last try returns or raises")
