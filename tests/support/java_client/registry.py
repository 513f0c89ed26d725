"""The registry client: it registers by heartbeats that fail (7.2)."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from typing import Any

import orjson

from tests.support.java_client.base import Client
from tests.support.java_client.http import SERVICE_DOWN, NodeFailed, Rejected
from tests.support.java_client.observed import Observed
from tests.support.java_client.settings import JavaSettings

Json = dict[str, Any]
REREGISTER = frozenset(("data-not-found", "unknown"))
_BLANK = ("", None)


class RegistryClient(Client):
    nodes_path = "/cluster/up-registry-nodes.json"
    session_path = "/registry/heartbeat"

    def __init__(
        self, domain_url: str, settings: JavaSettings, observed: Observed, choose: random.Random | None = None
    ) -> None:
        super().__init__(domain_url, settings, observed, choose)
        self._instances: dict[tuple[str, str, str], Json] = {}
        self._message = b""
        self._last_sent = -math.inf if settings.beats_at_start else time.monotonic()
        self._waiting: deque[float] = deque()
        self.last_renewed: float | None = None
        """When an answer last came in which all instances were renewed."""
        self.last_renewal_sent: float | None = None
        """When the heartbeat was sent that this answer belongs to."""

    @property
    def instances(self) -> list[Json]:
        return list(self._instances.values())

    async def start(self) -> None:
        await super().start()
        self.run(self._heartbeats())

    async def register(self, *instances: Json) -> None:
        """Ends what may be left of the instances on the servers, and beats for them from now on. Never fails."""
        for one in instances:
            if any(one.get(name) in _BLANK for name in ("serviceId", "instanceId", "url")):
                raise ValueError(f"instanceId, serviceId and url are required: {one}")
        await self._call("/registry/unregister.json", list(instances))
        self._instances.update({identity(one): one for one in instances})
        self._changed()

    async def unregister(self, *instances: Json) -> None:
        """A heartbeat between the two is answered ``data-not-found``, and registers again."""
        await self._call("/registry/unregister.json", list(instances))
        for one in instances:
            self._instances.pop(identity(one), None)
        self._changed()

    def _changed(self) -> None:
        self._message = orjson.dumps({"instances": self.instances})

    async def _call(self, path: str, instances: list[Json]) -> None:
        """Failures are logged by the Java client and otherwise forgotten: the next heartbeat repairs them."""
        try:
            answer = await self.http.post(path, {"instances": instances})
        except (NodeFailed, Rejected) as exc:
            self.observed.count("gave up", exc)
            return
        if answer["responseStatus"].get("status") != "success":
            self.observed.count("not a success", f"{path}: {answer['responseStatus']}")

    async def _heartbeats(self) -> None:
        """The check of each second; a heartbeat when the last is five seconds old."""
        clock = time.monotonic
        if not self.settings.beats_at_start:
            await asyncio.sleep(self.settings.heartbeat_s)
        while True:
            if clock() - self._last_sent >= self.settings.instance_ttl_s:
                self.observed.count("watchdog")
                self.session.mark_unavailable()
                await self.session.reconnect()
            now = clock()
            if now - self._last_sent >= self.settings.heartbeat_s and self.session.open:
                if self._instances:
                    self.session.send(self._message)
                    self._waiting.append(now)
                self._last_sent = now
            await asyncio.sleep(self.settings.check_s)

    def _opened(self) -> None:
        """The next heartbeat comes when it is due."""

    async def _received(self, text: str) -> None:
        """The answer to a heartbeat. It returns when what was lost has been registered again."""
        now = time.monotonic()
        sent_at = now
        if self._waiting:
            # Answers carry no id; after a reconnect the older questions are never answered.
            sent_at = self._waiting[-1]
            self.observed.heartbeats_s.append(now - sent_at)
            self._waiting.clear()
        try:
            answer = orjson.loads(text)
        except ValueError:
            self.observed.count("unreadable", text[:120])
            return
        status = answer.get("responseStatus") or {}
        failed = answer.get("failedInstances") or []
        if status.get("status") == "fail":
            self.observed.codes[str(status.get("errorCode"))] += 1
            if status.get("errorCode") in SERVICE_DOWN:
                self.session.mark_unavailable()
                await self.session.reconnect()
        elif not failed:
            self.last_renewed, self.last_renewal_sent = now, sent_at
        lost = [one["instance"] for one in failed if one.get("errorCode") in REREGISTER and one.get("instance")]
        for one in failed:
            self.observed.codes[str(one.get("errorCode"))] += 1
        if lost:
            self.observed.counts["registered over http"] += len(lost)
            await self._call("/registry/register.json", lost)


def identity(instance: Json) -> tuple[str, str, str]:
    return (
        str(instance.get("regionId")).lower(),
        str(instance.get("serviceId")).lower(),
        str(instance.get("instanceId")).lower(),
    )
