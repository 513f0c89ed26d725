"""/health, /livez, /readyz, /metrics: for those who run a node.

``/health`` and ``/livez`` say that the process answers; they do not look at the cluster, because restarting a node does
not bring a lost majority back. ``/readyz`` says whether the node should be given work.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from artemis.api.answers import CORS
from artemis.api.ports import ReplicatedRegistry
from artemis.consensus.freshness import UNKNOWN_MS
from artemis.consensus.status import NodeStatus

_CORS = {name.decode(): value.decode() for name, value in CORS}


def operation_routes(node: ReplicatedRegistry, registry: CollectorRegistry) -> list[Route]:
    async def health(_request: Request) -> Response:
        return PlainTextResponse("OK", headers=_CORS)

    async def readyz(request: Request) -> Response:
        status = node.status()
        ready = is_ready(status)
        verbose = request.query_params.get("verbose", "false").lower() not in ("false", "0")
        text = "".join(_report(status, ready)) if verbose else ("ok" if ready else "not ready")
        return PlainTextResponse(text, 200 if ready else 503, _CORS)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST, **_CORS})

    return [
        Route("/health", health),
        Route("/livez", health),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]


def is_ready(status: NodeStatus) -> bool:
    return status.ready and status.known_leader and not status.reasons


def _report(status: NodeStatus, ready: bool) -> list[str]:
    """One line per condition, as the checks of etcd and Kubernetes print them, then the reasons."""
    lines = [
        f"[{'+' if status.ready else '-'}]caught up since start\n",
        f"[{'+' if status.known_leader else '-'}]leader known ({_leader(status)}, term {status.term})\n",
        f"[{'-' if status.quarantined else '+'}]state compared with the others' {_compared(status)}\n",
        *(f"[-]{reason}\n" for reason in status.reasons),
        f"role {status.role}, applied {status.applied_index} of {status.commit_index} committed, {_age(status)}\n",
    ]
    return [*lines, "readyz check passed\n" if ready else "readyz check failed\n"]


def _leader(status: NodeStatus) -> str:
    if status.leader_id is None:
        return "none"
    return status.leader_id if status.known_leader else f"none; the last was {status.leader_id}"


def _compared(status: NodeStatus) -> str:
    found = f"(equal to a majority's at entry {status.verified_index})" if status.verified_index else "(not yet)"
    return f"{found}; {', '.join(status.differing)} differs from it" if status.differing else found


def _age(status: NodeStatus) -> str:
    if status.apply_lag_ms >= UNKNOWN_MS:
        return "of unknown age: no round trip with the leader yet"
    return f"at most {status.apply_lag_ms} ms old"
