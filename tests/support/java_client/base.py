"""What both clients of one process have: an address list, HTTP, a WebSocket, and the threads that drive them."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine

from tests.support.java_client.addresses import AddressManager
from tests.support.java_client.http import ArtemisHttpClient, NodeFailed
from tests.support.java_client.observed import Observed
from tests.support.java_client.session import Session
from tests.support.java_client.settings import JavaSettings

FIRST_POLL_S = 0.02


class Client(ABC):
    """``start`` returns when the address list was asked for, as the Java constructor does."""

    nodes_path: str
    session_path: str

    def __init__(
        self, domain_url: str, settings: JavaSettings, observed: Observed, choose: random.Random | None = None
    ) -> None:
        choose = choose or random.Random()
        self.settings = settings
        self.observed = observed
        self.addresses = AddressManager(domain_url, settings.address_ttl_s, time.monotonic, choose)
        self.http = ArtemisHttpClient(settings, self.addresses, observed)
        self.session = Session(
            settings,
            self.session_path,
            self.addresses,
            observed,
            on_open=self._opened,
            on_text=self._received,
            choose=choose,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @abstractmethod
    def _opened(self) -> None:
        """The WebSocket is connected, again or for the first time."""

    @abstractmethod
    async def _received(self, text: str) -> None:
        """In the receiving thread: no pong is seen until this returns."""

    async def start(self) -> None:
        await self._ask_for_nodes()
        self.run(self._poll_addresses())
        self.run(self.session.run())

    def run(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def stop(self) -> None:
        """Leave without a word, as a process that ends. Raises what ended one of the client's threads."""
        self.session.stop()
        ended = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.http.pool.close()
        for task in ended:
            task.result()

    async def _poll_addresses(self) -> None:
        await asyncio.sleep(FIRST_POLL_S)
        while True:
            await self._ask_for_nodes()
            await asyncio.sleep(self.settings.address_poll_s)

    async def _ask_for_nodes(self) -> None:
        settings = self.settings
        try:
            answer = await self.http.pool.post(
                self.addresses.domain_url + settings.api_path + self.nodes_path,
                {"regionId": settings.region_id, "zoneId": settings.zone_id},
                connect_timeout_s=settings.address_connect_timeout_s,
                read_timeout_s=settings.address_read_timeout_s,
                failing_status=settings.failing_status,
            )
        except NodeFailed as exc:
            self.observed.count("address list failed", exc)
        else:
            self.addresses.heard(answer)
