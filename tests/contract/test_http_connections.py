"""Several requests on one connection to a real server: ``java-client-and-push.md`` 2, ``java-http.md`` 1.3."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest

from artemis.api.settings import HttpSettings
from tests.support.http import camel_instance
from tests.support.loopback import LoopbackCluster
from tests.support.sockets import play, serving

REGISTER = "/artemis/api/registry/register.json"
SERVICES = "/artemis/api/discovery/services.json"
BODY_BYTES_MAX = 64 * 1024
LAST = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def post(body: bytes, *headers: str, path: str = REGISTER) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    if not any(line.startswith("transfer-encoding") for line in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def heads_and_rest(sent: Sequence[bytes]) -> list[bytes]:
    """What the server says to ``sent``, which is written as a whole before anything is read, split before each
    status line."""
    received = b""

    async def story() -> None:
        nonlocal received
        async with serving(LoopbackCluster()["n1"], HttpSettings(body_bytes_max=BODY_BYTES_MAX)) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            for part in sent:
                writer.write(part)
                await writer.drain()
            received = await reader.read()
            writer.close()

    play(story)
    return [b"HTTP/1.1 " + part for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("beyond", [1, 64 * BODY_BYTES_MAX])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_client_that_sends_too_much_is_told_and_its_connection_goes_on(beyond: int, in_chunks: bool) -> None:
    body = b" " * (BODY_BYTES_MAX + beyond)
    big = post(chunked(body, 50_000), "transfer-encoding: chunked") if in_chunks else post(body)
    refused, last = heads_and_rest([big, LAST])
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert b"body: at most 65536 bytes are allowed" in refused
    assert last.startswith(b"HTTP/1.1 200 ")


def test_requests_that_come_at_once_are_answered_in_order() -> None:
    body = orjson.dumps({"instances": [camel_instance()]})
    wrong_type = post(b"hello").replace(b"application/json", b"text/plain")
    sent = [post(body), post(chunked(b"{}", 1), "transfer-encoding: chunked"), wrong_type, post(b"{}", path=SERVICES)]
    registered, empty, refused, listed, last = heads_and_rest([b"".join([*sent, LAST])])
    assert registered.endswith(
        b'{"failedInstances":null,"responseStatus":{"errorCode":"success","message":"","status":"success"}}'
    )
    assert b'"errorCode":"bad-request"' in empty
    assert refused.startswith(b"HTTP/1.1 415 ")
    assert b'"serviceId":"svc1"' in listed
    assert last.endswith(b"\r\n\r\nOK")


def test_the_answer_to_head_has_no_body() -> None:
    head = f"HEAD {SERVICES} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    answer, fault, last = heads_and_rest([head, head.replace(b"services", b"service"), LAST])
    for one, status, length in ((answer, 200, 100), (fault, 400, 186)):
        assert one.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\ncontent-length: %d\r\n" % length in one
        assert one.endswith(b"\r\n\r\n")
    assert last.endswith(b"\r\n\r\nOK")
