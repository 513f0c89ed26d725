"""The ASGI application of one node.

Requests of the registry, discovery and cluster planes find their handler in one dictionary and run in the server's own
task, without middleware: routing must not cost more than the work. Everything else (operations, unknown paths) goes to
a Starlette application behind it.

An exception no handler foresaw is answered with HTTP 500 and raised again, so that the server logs it.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter

from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from artemis.api.answers import CORS, JSON, NOT_APPLIED, UNKNOWN, Heads, fault_body
from artemis.api.compression import COMPRESSED_BYTES_MIN, GZIP_HEADERS, Compressor, accepts_gzip
from artemis.api.deployment import Deployment
from artemis.api.endpoints import Endpoint, endpoints
from artemis.api.faults import ClientGone, Headers, HttpFault, WrongShape
from artemis.api.health import PeerHealth
from artemis.api.http_protocol import ANSWER
from artemis.api.metrics import HttpMetrics, NodeMetrics
from artemis.api.openapi.routes import OpenApi
from artemis.api.operations import operation_routes
from artemis.api.ports import ReplicatedRegistry
from artemis.api.push.endpoints import push_endpoints
from artemis.api.push.metrics import PushMetrics
from artemis.api.requests import Request
from artemis.api.serving import Serving
from artemis.api.settings import HttpSettings
from artemis.api.sockets import Sockets
from artemis.api.watch import Watches
from artemis.api.watch_endpoints import watch_polls, watch_sockets
from artemis.api.watch_metrics import WatchMetrics

WRITES = frozenset(
    f"{door}{write}" for write in ("register", "heartbeat", "unregister") for door in ("", "replication-")
)
PREFLIGHT_AGE_S = 3600


def create_app(
    node: ReplicatedRegistry,
    settings: HttpSettings,
    *,
    now_ms: Callable[[], int],
    metrics: CollectorRegistry | None = None,
    deployment: Deployment | None = None,
    peers: PeerHealth | None = None,
) -> ASGIApp:
    """The application for ``node``. ``now_ms``: wall clock, used only to date what is shown to people.

    ``metrics``: where to register; other parts of the process may add their own collectors to it. ``deployment``: what
    the status plane tells of the process. ``peers``: what the other members were heard to say.
    """
    serving = Serving(node, settings, now_ms, deployment=deployment, peers=peers)
    return Application(serving, metrics or CollectorRegistry())


class Application:
    """See ``create_app``."""

    def __init__(self, serving: Serving, registry: CollectorRegistry) -> None:
        self._now_ms = serving.now_ms
        self._heads = Heads(serving.node)
        self._feed = serving.feed
        self._metrics = HttpMetrics()
        self._compressor = Compressor()
        registry.register(self._metrics)
        registry.register(NodeMetrics(serving.node, lambda: serving.services.size_bytes))
        registry.register(PushMetrics(serving.sessions))
        ProcessCollector(registry=registry)
        watches = Watches(serving)
        self._endpoints = endpoints(serving) | watch_polls(serving, watches)
        self._sockets = Sockets(push_endpoints(serving) | watch_sockets(serving, watches), serving.settings.sockets_max)
        registry.register(WatchMetrics(serving.feed, watches, self._sockets))
        self._others = Starlette(
            routes=[*operation_routes(serving.node, registry), *OpenApi(self._endpoints, serving.settings).routes()],
            exception_handlers={HTTPException: self._on_http_exception},
        )
        self._others.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._serve_socket(scope, receive, send)
            return
        endpoint = self._endpoints.get(scope["path"])
        if scope["method"] == "OPTIONS":
            await _respond(send, HTTPStatus.OK, _preflight(scope), b"")
        elif endpoint is None:
            await self._others(scope, receive, send)
        else:
            await self._serve(endpoint, scope, receive, send)

    def drain(self) -> None:
        """The server is about to close: long polls are answered now, so that nobody waits for them."""
        self._feed.drain()

    async def _serve(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        outcome = "internal-error"
        try:
            handler = endpoint.handlers.get(scope["method"])
            if handler is None:
                if scope["method"] != "HEAD" or "GET" not in endpoint.handlers:
                    raise _wrong_method(scope["method"], endpoint)
                # The server leaves the body out: it has the scope as it was.
                scope, handler = {**scope, "method": "GET"}, endpoint.handlers["GET"]
            request = Request(scope, receive, endpoint.spoken)
            request.check_accept()
            limit = endpoint.limit
            admitted = limit is None or limit.admits(get_running_loop().time())
            answer = await (handler(request) if admitted else endpoint.refuse(request))
            outcome = answer.outcome
            if len(answer.body) >= COMPRESSED_BYTES_MIN and accepts_gzip(request.headers.get(b"accept-encoding", b"")):
                packed = await self._compressor.compressed(answer.body)
                answer = replace(answer, body=packed, headers=(*answer.headers, *GZIP_HEADERS))
            if ANSWER in scope.get("extensions", ()):
                head = self._heads.bytes_of(answer)
                await send({"type": ANSWER, "status": answer.http_status, "head": head, "body": answer.body})
            else:
                await send(
                    {"type": "http.response.start", "status": answer.http_status, "headers": self._heads.of(answer)}
                )
                await send({"type": "http.response.body", "body": answer.body})
        except HttpFault as raised:
            fault = raised
            if isinstance(raised, WrongShape) and endpoint.spoken.unhinted.strict:
                fault = raised.for_strict()
            outcome = f"http-{fault.status.value}"
            await self._respond_fault(endpoint, scope, send, fault, NOT_APPLIED)
        except ClientGone:
            outcome = "client-gone"
        except Exception:
            if outcome == "internal-error":
                unforeseen = HttpFault(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of this node; its log says more")
                await self._respond_fault(endpoint, scope, send, unforeseen, UNKNOWN)
            raise
        finally:
            self._metrics.observe(endpoint.operation, outcome, perf_counter() - started)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._others(scope, receive, send)
            return
        try:
            await self._sockets.serve(scope, receive, send)
        except HttpFault as fault:
            await self._refuse_socket(scope, send, fault)

    async def _refuse_socket(self, scope: Scope, send: Send, fault: HttpFault) -> None:
        """Answer the handshake with HTTP: ``fault`` came before the socket was accepted."""
        body = fault_body(fault, scope["path"], self._now_ms())
        headers = [*self._heads.of_fault(body, fault.headers), (b"connection", b"close")]
        start = {"type": "websocket.http.response.start", "status": fault.status.value, "headers": headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": body})

    async def _respond_fault(
        self, endpoint: Endpoint, scope: Scope, send: Send, fault: HttpFault, outcome: Headers
    ) -> None:
        body = fault_body(fault, scope["path"], self._now_ms())
        headers = fault.headers + outcome if endpoint.operation in WRITES else fault.headers
        await _respond(send, fault.status, self._heads.of_fault(body, headers), body)

    async def _on_http_exception(self, request: StarletteRequest, exc: Exception) -> Response:
        """404 and 405 of paths that are not in the table. Starlette calls it for ``HTTPException`` only."""
        status = HTTPStatus(exc.status_code) if isinstance(exc, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
        path = request.url.path
        message = f"{request.method} {path}: {status.phrase.lower()}"
        if status is HTTPStatus.NOT_FOUND:
            message = f"{path}: there is no such path; the API is under /artemis/api/ and /api/"
        headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
        if status is HTTPStatus.NOT_FOUND and self._sockets.at(path):
            status = HTTPStatus.UPGRADE_REQUIRED
            message = f"{path}: a WebSocket is here; ask with Upgrade: websocket"
            headers = {"upgrade": "websocket", "connection": "upgrade"}
        response = Response(fault_body(HttpFault(status, message), path, self._now_ms()), status.value, headers)
        response.raw_headers.extend(JSON)
        return response


def _wrong_method(method: str, endpoint: Endpoint) -> HttpFault:
    head = ("HEAD",) if "GET" in endpoint.handlers else ()
    allowed = ", ".join((*sorted((*endpoint.handlers, *head)), "OPTIONS"))
    return HttpFault(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"method: {allowed} are allowed here, not {method}",
        headers=[(b"allow", allowed.encode())],
    )


def _preflight(scope: Scope) -> Headers:
    """What a browser asks before a cross-origin request: all of it is allowed (``java-http.md`` 1.3)."""
    asked = dict(scope["headers"])
    headers = [*CORS, (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_S), (b"content-length", b"0")]
    for question, answer in (
        (b"access-control-request-method", b"access-control-allow-methods"),
        (b"access-control-request-headers", b"access-control-allow-headers"),
    ):
        if question in asked:
            headers.append((answer, asked[question]))
    return headers


async def _respond(send: Send, status: HTTPStatus, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
