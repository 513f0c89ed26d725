"""The discovery client: a look-up, a subscription, and then what is pushed (7.3)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from tests.support.java_client.base import Client
from tests.support.java_client.http import NodeFailed, Rejected
from tests.support.java_client.observed import Observed
from tests.support.java_client.registry import identity
from tests.support.java_client.settings import JavaSettings

Json = dict[str, Any]


class Event(NamedTuple):
    """What a listener is told: the kind of change and the instances of the service after it."""

    change_type: str
    service_id: str
    instance_ids: tuple[str, ...]
    at: float


class DiscoveryClient(Client):
    nodes_path = "/cluster/up-discovery-nodes.json"
    session_path = "/discovery/instance-change"

    def __init__(
        self, domain_url: str, settings: JavaSettings, observed: Observed, choose: random.Random | None = None
    ) -> None:
        super().__init__(domain_url, settings, observed, choose)
        self._configs: dict[str, Json] = {}
        self._services: dict[str, list[Json]] = {}
        """By service id in lower case; pushes are matched with the id as it was pushed."""
        self._to_reload: set[str] = set()
        self._reloaded_at = time.monotonic()
        self.events: list[Event] = []

    async def start(self) -> None:
        await super().start()
        self.run(self._reloads())

    def ids(self, service_id: str) -> set[str]:
        """The instances in the cache."""
        return {str(one["instanceId"]) for one in self._services.get(service_id.lower(), ())}

    async def get_service(self, service_id: str) -> list[Json]:
        """From the cache; the first call for a service looks it up and subscribes to it. Never fails."""
        key = service_id.lower()
        if key not in self._services:
            config: Json = {"serviceId": service_id, "regionId": None, "zoneId": None, "discoveryData": None}
            self._services[key] = []
            self._configs[key] = config
            await self._reload([key], told=False)
            self.session.send(orjson.dumps(config))
        return list(self._services[key])

    def _opened(self) -> None:
        for config in self._configs.values():
            self.session.send(orjson.dumps(config))

    async def _reload(self, keys: Sequence[str], *, told: bool = True) -> None:
        settings = self.settings
        body = {
            "regionId": settings.region_id,
            "zoneId": settings.zone_id,
            "discoveryConfigs": [self._configs[key] for key in keys],
        }
        try:
            answer = await self.http.post("/discovery/lookup.json", body)
            if answer["responseStatus"].get("status") != "success":
                raise Rejected(str(answer["responseStatus"]))
        except (NodeFailed, Rejected) as exc:
            self.observed.count("look-up failed", exc)
            self._to_reload.update(keys)
            return
        self._reloaded_at = time.monotonic()
        self._to_reload.difference_update(keys)
        for service in answer["services"]:
            key = str(service["serviceId"]).lower()
            if key in self._services:
                self._services[key] = list(service["instances"] or ())
                if told:
                    self._tell("reload", key)

    async def _received(self, text: str) -> None:
        change = orjson.loads(text)
        instance = change["instance"]
        key = instance["serviceId"]
        if change["changeType"] == "reload":
            if key.lower() in self._services:
                await self._reload([key.lower()])
            return
        if key not in self._services:
            self.observed.count("push for nobody", key)
            return
        kept = [one for one in self._services[key] if identity(one) != identity(instance)]
        if change["changeType"] == "delete":
            if len(kept) == len(self._services[key]):
                return
            self._services[key] = kept
        else:
            self._services[key] = [*kept, instance]
        self._tell(change["changeType"], key)

    def _tell(self, change_type: str, key: str) -> None:
        ids = tuple(str(one["instanceId"]) for one in self._services[key])
        self.events.append(Event(change_type, key, ids, time.monotonic()))

    async def _reloads(self) -> None:
        """What failed or is empty each minute; everything a quarter of an hour after the last reload of anything."""
        while True:
            await asyncio.sleep(self.settings.reload_poll_s)
            if time.monotonic() - self._reloaded_at > self.settings.service_ttl_s:
                keys = list(self._configs)
            else:
                keys = [key for key in self._configs if key in self._to_reload or not self._services[key]]
            if keys:
                await self._reload(keys)
