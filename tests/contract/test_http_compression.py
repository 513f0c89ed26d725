"""Compressed answers: ``java-http.md`` 1.3."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

from artemis.api.compression import KEPT_BODY_BYTES_MAX, Compressor, accepts_gzip
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster

SERVICE = "/artemis/api/discovery/service.json?serviceId=svc1"


def api_with(instances: int) -> Api:
    api = Api(LoopbackCluster()["n1"])
    items = [camel_instance(instance_id=f"i{number}") for number in range(instances)]
    api.post("/artemis/api/registry/register.json", {"instances": items})
    return api


def raw(answer: httpx.Response) -> int:
    return int(answer.headers["content-length"])


@pytest.mark.parametrize("accept", ["gzip", "gzip,deflate", "deflate, GZIP;q=0.5", "*", "x-gzip"])
def test_long_answers_are_compressed_for_those_who_ask(accept: str) -> None:
    api = api_with(5)
    plain = api.get(SERVICE, accept_encoding="identity")
    packed = api.get(SERVICE, accept_encoding=accept)
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert raw(packed) < raw(plain) / 2
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("accept", ["deflate", "gzip;q=0", "gzip; q=0.0, *", "identity, *;q=0", ""])
def test_others_get_them_as_they_are(accept: str) -> None:
    assert "content-encoding" not in api_with(5).get(SERVICE, accept_encoding=accept).headers
    assert not accepts_gzip(accept.encode())


def test_short_answers_are_not_worth_it() -> None:
    assert "content-encoding" not in api_with(1).get(SERVICE, accept_encoding="gzip").headers


def test_the_headers_tell_the_length_that_is_sent() -> None:
    api = api_with(5)
    plain = api.get(SERVICE, accept_encoding="identity").content
    assert raw(api.get(SERVICE, accept_encoding="gzip")) == len(asyncio.run(Compressor().compressed(plain)))


def test_what_was_compressed_is_kept_within_its_bound() -> None:
    bodies = [b"%d" % number * 1000 for number in range(100, 120)]
    compressor = Compressor(bytes_max=10_000)
    first = asyncio.run(compressor.compressed(bodies[0]))
    assert asyncio.run(compressor.compressed(bytes(bytearray(bodies[0])))) is first
    for body in bodies:
        assert gzip.decompress(asyncio.run(compressor.compressed(body))) == body
        assert compressor.size_bytes <= 10_000
    assert asyncio.run(compressor.compressed(bodies[0])) is not first


def test_a_large_answer_is_compressed_in_turns() -> None:
    body = b"".join(b"%d," % number for number in range(60_000))
    turns = 0

    async def run() -> bytes:
        nonlocal turns
        packing = asyncio.ensure_future(compressor.compressed(body))
        while not packing.done():
            await asyncio.sleep(0)
            turns += 1
        return await packing

    compressor = Compressor()
    assert gzip.decompress(asyncio.run(run())) == body
    assert turns > len(body) // KEPT_BODY_BYTES_MAX
    assert compressor.size_bytes == 0
