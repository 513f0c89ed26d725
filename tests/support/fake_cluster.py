"""A registry cluster in one object, behind ``httpx.MockTransport``: what a client may meet, without a network.

All nodes share one linearizable state. A request id is answered with its first outcome, as the registry promises.
``plan(node, trouble, …)`` makes the next requests to a node go wrong, ``down`` all of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Literal

import httpx

Trouble = Literal[
    "refused",  # no connection
    "lost-request",  # connected, but nothing was applied and no answer came
    "lost-answer",  # applied, and no answer came
    "slow",  # applied, and the answer came after the client's patience
    "unavailable",  # service-unavailable, not applied
    "unavailable-unknown",  # service-unavailable, may still be applied
    "http-503",
    "garbage",  # HTTP 200 from something that is no node
    "raises",  # a transport that breaks its own contract
]
Key = tuple[str, str]
Json = dict[str, Any]

NODES = ("http://n1.test:1", "http://n2.test:2", "http://n3.test:3")
SUCCESS = {"status": "success", "errorCode": "success", "message": ""}


class FakeCluster:
    def __init__(self) -> None:
        self.revision = 0
        self.instances: dict[Key, Json] = {}
        self.changes: list[Json] = []
        """As a watch tells them; ``oldest`` is where they begin."""
        self.oldest = 0
        self.applied: list[tuple[str, Key]] = []
        """Every change that was applied: (operation, key)."""
        self.requests: list[httpx.Request] = []
        self.refusals: dict[str, Json] = {}
        """service id -> failed instance, for registrations."""
        self.extra_headers: dict[str, str] = {}
        self.on_request: Callable[[httpx.Request], None] = lambda request: None
        self._plans: dict[str, deque[Trouble]] = defaultdict(deque)
        self._down: dict[str, Trouble] = {}
        self._outcomes: dict[str, Json] = {}
        self._lock = threading.RLock()

    def plan(self, node: str, *troubles: Trouble) -> None:
        self._plans[node].extend(troubles)

    def down(self, trouble: Trouble = "refused", *nodes: str) -> None:
        self._down.update(dict.fromkeys(nodes or NODES, trouble))

    def up(self) -> None:
        self._down.clear()

    def wipe(self) -> None:
        """All data is lost; revisions start again."""
        with self._lock:
            self.instances.clear()
            self._outcomes.clear()
            self.changes.clear()
            self.revision = 0

    def sent(self, file_name: str) -> list[httpx.Request]:
        with self._lock:
            return [request for request in self.requests if request.url.path.rsplit("/", 1)[-1] == file_name]

    def bodies(self, file_name: str) -> list[Json]:
        return [json.loads(request.content) for request in self.sent(file_name)]

    def handle(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(request)
            self.on_request(request)
            node = f"{request.url.scheme}://{request.url.netloc.decode()}"
            trouble = self._plans[node].popleft() if self._plans[node] else self._down.get(node)
            if trouble is not None:
                return self._go_wrong(trouble, request)
            return self._answer(request, node)

    async def handle_async(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return self.handle(request)

    def _go_wrong(self, trouble: Trouble, request: httpx.Request) -> httpx.Response:
        match trouble:
            case "refused":
                raise httpx.ConnectError("Connection refused", request=request)
            case "lost-request":
                raise httpx.ReadError("Connection reset by peer", request=request)
            case "lost-answer":
                self._answer(request, "")
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
            case "slow":
                self._answer(request, "")
                raise httpx.ReadTimeout("timed out", request=request)
            case "unavailable" | "unavailable-unknown":
                outcome = "not-applied" if trouble == "unavailable" else "unknown"
                status = {"status": "fail", "errorCode": "service-unavailable", "message": "no leader"}
                return httpx.Response(200, json={"responseStatus": status}, headers={"x-artemis-outcome": outcome})
            case "http-503":
                return httpx.Response(503, text="upstream connect error")
            case "garbage":
                return httpx.Response(200, text="<html>please log in</html>")
            case "raises":
                raise KeyError("a transport with a bug")

    def _answer(self, request: httpx.Request, node: str) -> httpx.Response:
        if request.method == "GET":
            found = self._watch(request.url.params)
            return httpx.Response(200, json=found, headers={"x-artemis-revision": str(self.revision)})
        body = json.loads(request.content)
        request_id = request.headers.get("x-artemis-request-id")
        outcome = self._outcomes.get(request_id) if request_id else None
        if outcome is None:
            outcome = self._apply(request.url.path.rsplit("/", 1)[-1].removesuffix(".json"), body)
            if request_id:
                self._outcomes[request_id] = outcome
        headers = {
            "x-artemis-revision": str(self.revision),
            "x-artemis-node": node.removeprefix("http://").partition(".")[0],
            "x-artemis-consistency": request.headers.get("x-artemis-consistency", "linearizable"),
            "x-artemis-apply-lag-ms": "0",
        }
        return httpx.Response(200, json=outcome, headers={**headers, **self.extra_headers})

    def _apply(self, operation: str, body: Json) -> Json:
        match operation:
            case "register":
                return _registry_answer(filter(None, map(self._register, body["instances"])))
            case "heartbeat":
                return _registry_answer(_unknown(i) for i in body["instances"] if _key(i) not in self.instances)
            case "unregister":
                for instance in body["instances"]:
                    self._unregister(_key(instance))
                return _registry_answer(())
            case "lookup":
                asked = [config["serviceId"] for config in body["discoveryConfigs"]]
                return {"responseStatus": SUCCESS, "services": [self._service(service_id) for service_id in asked]}
            case "services":
                names = dict.fromkeys(service_id for service_id, _ in self.instances)
                return {"responseStatus": SUCCESS, "services": [self._service(name) for name in names], "version": 1}
            case "up-registry-nodes":
                zone = {"regionId": "lab", "zoneId": "zone1", "metadata": None}
                nodes = [{"url": url, "zone": zone} for url in NODES]
                return {"responseStatus": SUCCESS, "nodes": nodes}
            case _:
                raise AssertionError(f"no such operation: {operation}")

    def _register(self, instance: Json) -> Json | None:
        refusal = self.refusals.get(instance["serviceId"])
        if refusal is not None:
            return {"instance": instance, **refusal}
        self.revision += 1
        self.instances[_key(instance)] = instance
        self.applied.append(("register", _key(instance)))
        self._changed("new", instance)
        return None

    def _unregister(self, key: Key) -> None:
        instance = self.instances.pop(key, None)
        if instance is not None:
            self.revision += 1
            self._changed("delete", instance)
            self.applied.append(("unregister", key))

    def _changed(self, kind: str, instance: Json) -> None:
        shown = {name: value for name, value in instance.items() if name != "leaseTtlMs"}
        change = {"revision": self.revision, "changeType": kind, "changeTime": 1_000, "instance": shown}
        self.changes.append(change)

    def _watch(self, params: httpx.QueryParams) -> Json:
        """At once, whatever ``wait`` says."""
        since, services = int(params["since"]), params.get("services")
        if since < self.oldest:
            status = {"status": "fail", "errorCode": "data-not-found", "message": "too old"}
            return {"responseStatus": status, "changes": None, "compacted": True, "oldest": self.oldest}
        found = [
            change
            for change in self.changes
            if change["revision"] > since and (not services or change["instance"]["serviceId"] in services.split(","))
        ]
        return {"responseStatus": SUCCESS, "changes": found, "revision": self.revision}

    def _service(self, service_id: str) -> Json:
        found = [
            {name: value for name, value in instance.items() if name != "leaseTtlMs"}
            for (service, _), instance in self.instances.items()
            if service == service_id
        ]
        return {"serviceId": service_id, "instances": found or None, "metadata": None, "routeRules": None}


def _key(instance: Json) -> Key:
    return instance["serviceId"], instance["instanceId"]


def _registry_answer(failed: Any) -> Json:
    listed = list(failed)
    if not listed:
        return {"failedInstances": None, "responseStatus": SUCCESS}
    status = {"status": "partial_fail", "errorCode": "partial_fail", "message": ""}
    return {"failedInstances": listed, "responseStatus": status}


def _unknown(instance: Json) -> Json:
    name = f"{instance.get('regionId')}/{instance['serviceId']}/{instance['instanceId']}".lower()
    message = f"{name}: Instance is not exising! Need re-register."
    return {"instance": instance, "errorCode": "data-not-found", "errorMessage": message}
