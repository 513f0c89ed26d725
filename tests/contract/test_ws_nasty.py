"""Whatever clients send as text, no session ends and the node's log stays clean."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from tests.support.http import camel_instance
from tests.support.loopback import LoopbackCluster
from tests.support.sockets import CHANGES, HEARTBEAT, play, serving

MESSAGES = 300
ATOMS: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63 - 1,
    1e308,
    "",
    " ",
    "\0",
    "svc1",
    "\N{PILE OF POO}" * 50,
    "x" * 20_000,
    [],
    {},
)
NAMES = (
    *("instances", "INSTANCES", "instanceKeys", "instance_keys", "serviceId", "service_id", "instanceId", "regionId"),
    *("url", "port", "metadata", "type", "discoveryData", "nobody-knows-this", ""),
)
RAW = (
    "",
    "{",
    "[" * 5_000,
    '{"a":' * 5_000,
    "nul",
    '"\\ud800"',
    '{"serviceId":"\\ud800"}',
    '{"instances":[{"serviceId":"\\udfff","instanceId":"i","url":"u"}]}',
    "NaN",
    "1" * 5_000,
    "\N{ZERO WIDTH NO-BREAK SPACE}{}",
    '{"type":"ping"} trailing',
)


def nasty(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value that often has names the readers know, and values they do not expect there."""
    shape = rng.random()
    if depth > 3 or shape < 0.3:
        return rng.choice(ATOMS)
    if shape < 0.5:
        return [nasty(rng, depth + 1) for _ in range(rng.randrange(4))]
    if shape < 0.6:
        return camel_instance(**{rng.choice(("port", "metadata", "url", "instance_id")): nasty(rng, depth + 1)})
    return {rng.choice(NAMES): nasty(rng, depth + 1) for _ in range(rng.randrange(5))}


def texts() -> list[str]:
    rng = random.Random(7)
    return [*RAW, *(orjson.dumps(nasty(rng)).decode() for _ in range(MESSAGES))]


@pytest.mark.parametrize("path", [HEARTBEAT, CHANGES, "/ws"])
def test_no_text_ends_a_session(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(path, bytes_max=None) as talk:
            for text in texts():
                await talk.connection.send(text)
                if path != CHANGES:  # which answers subscriptions only
                    await talk.hear()
            if path == HEARTBEAT:
                await talk.say({"instances": [camel_instance("svc1", "the-last")]})
                while "the-last" not in str((await talk.hear())["failedInstances"]):
                    pass
            elif path == CHANGES:
                await talk.say({"serviceId": "the-last"})
                while (await talk.hear())["instance"]["serviceId"] != "the-last":
                    pass
            else:
                assert await talk.ask({"type": "ping"}) == {"type": "pong"}

    play(story)
    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
