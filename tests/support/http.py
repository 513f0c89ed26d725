"""The application of one node, called in process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson

from artemis.api.app import create_app
from artemis.api.deployment import Deployment
from artemis.api.health import PeerHealth
from artemis.api.ports import ReplicatedRegistry
from artemis.api.settings import HttpSettings

NOW_MS = 1_700_000_000_000


class Api:
    """Sends requests to a node's application; each runs in an event loop of its own."""

    def __init__(
        self, node: ReplicatedRegistry, settings: HttpSettings | None = None, deployment: Deployment | None = None
    ) -> None:
        settings = settings or HttpSettings()
        self.peers = PeerHealth(settings)
        self.app = create_app(node, settings, now_ms=lambda: NOW_MS, deployment=deployment, peers=self.peers)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    ) -> httpx.Response:
        """``body`` is sent as JSON, ``content`` as it is."""
        sent = httpx.Headers(headers)
        if body is not None:
            content = orjson.dumps(body)
        if content is not None:
            sent.setdefault("content-type", "application/json")
        return asyncio.run(self.sending(method, path, content=content, headers=sent))

    async def sending(
        self, method: str, path: str, *, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://node.test") as client:
            return await client.request(method, path, content=content, headers=headers)

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        """Keyword arguments are headers: ``x_artemis_consistency="stale"``."""
        return self.send("POST", path, body=body, headers=spelled(headers))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.send("GET", path, headers=spelled(headers))


def spelled(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def camel_instance(service_id: str = "svc1", instance_id: str = "i1", **changed: Any) -> dict[str, Any]:
    """All 13 fields, in the order in which the earlier servers wrote them."""
    return {
        "groupId": "g1",
        "healthCheckUrl": "http://10.0.0.1:8090/health",
        "instanceId": instance_id,
        "ip": "10.0.0.1",
        "machineName": "host-a",
        "metadata": {"Weight": "5"},
        "port": 8090,
        "protocol": "http",
        "regionId": "lab",
        "serviceId": service_id,
        "status": "up",
        "url": "http://10.0.0.1:8090/svc",
        "zoneId": "zone1",
        **changed,
    }


def snake_instance(service_id: str = "test-service", instance_id: str = "i1", **changed: Any) -> dict[str, Any]:
    """The fields that the earlier snake_case server demanded."""
    return {
        "region_id": "local",
        "zone_id": "zone1",
        "service_id": service_id,
        "instance_id": instance_id,
        "ip": "192.168.1.100",
        "port": 8080,
        "url": "http://192.168.1.100:8080",
        "status": "up",
        **changed,
    }


def snake_key(instance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "region_id": instance["region_id"],
        "zone_id": instance["zone_id"],
        "service_id": instance["service_id"],
        "group_id": instance.get("group_id", ""),
        "instance_id": instance["instance_id"],
    }
