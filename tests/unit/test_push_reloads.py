"""In which order a session tells its client to look up again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from artemis.api.push.reloads import TOLD_AT_ONCE, Reloads
from artemis.api.push.sessions import Session
from tests.support.loopback import LoopbackCluster, LoopbackNode
from tests.support.replica import instance, register
from tests.support.sockets import until

SERVICES = [f"svc{number:03}" for number in range(50)]


class Slow:
    """A session whose client has caught up when ``may_go_on`` is set."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.may_go_on = asyncio.Event()

    async def send(self, text: bytes) -> None:
        self.told.append(text.decode())

    async def caught_up(self) -> None:
        await self.may_go_on.wait()
        self.may_go_on.clear()


async def registered(node: LoopbackNode) -> None:
    for one in SERVICES:
        await node.propose(register(instance(one, "i1")), timeout_ms=1_000)


def play(story: Callable[[Reloads, Slow], Awaitable[None]]) -> list[str]:
    async def run() -> list[str]:
        node = LoopbackCluster("n1")["n1"]
        await registered(node)
        reloads = Reloads(lambda: node.registry, lambda service_id, _cause: service_id.encode())
        slow = Slow()
        telling = asyncio.ensure_future(reloads.tell(cast(Session, slow)))
        async with asyncio.timeout(20):
            await story(reloads, slow)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        return slow.told

    return asyncio.run(run())


def test_what_changed_last_is_told_first_and_what_is_gone_before_it() -> None:
    async def story(reloads: Reloads, slow: Slow) -> None:
        for one in [*SERVICES, "gone"]:
            reloads.add(one, "subscribed")
        while len(slow.told) <= len(SERVICES):
            slow.may_go_on.set()
            await asyncio.sleep(0)

    assert play(story) == ["gone", *reversed(SERVICES)]


def test_the_next_few_wait_for_the_client_and_each_is_told_once() -> None:
    async def story(reloads: Reloads, slow: Slow) -> None:
        for one in SERVICES:
            reloads.add(one, "subscribed")
            reloads.add(one, "behind")
        for done in range(TOLD_AT_ONCE, len(SERVICES), TOLD_AT_ONCE):
            await until(lambda done=done: len(slow.told) >= done)  # type: ignore[misc]
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(slow.told) == done
            slow.may_go_on.set()
        await until(lambda: len(slow.told) == len(SERVICES))
        reloads.add(SERVICES[0], "behind")
        slow.may_go_on.set()
        await until(lambda: len(slow.told) == len(SERVICES) + 1)

    told = play(story)
    assert sorted(told[:-1]) == SERVICES
    assert told[-1] == SERVICES[0]
