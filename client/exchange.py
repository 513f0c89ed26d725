"""Between the core and httpx: one table from its exceptions to failures, and its time-outs. Both shells use it."""

from __future__ import annotations

import httpx

from artemis.client.actions import Failure, Send

# A connection that was never made carried no byte. Any other failure may have come after the request was read.
_NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError)

# No bound on connections: waiting for a free one would be time outside of the attempt's limits. The age limit is below
# the 5 s after which uvicorn closes an idle connection: a request sent at that moment would have an unknown outcome.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=4.0)


def failure_of(exc: Exception) -> Failure:
    text = str(exc)
    reason = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return Failure(reason, definite=isinstance(exc, _NOTHING_LEFT))


def too_slow(send: Send) -> Failure:
    return Failure(f"no complete answer within {send.timeouts.total_s:.3g} s", definite=False)


def timeout_of(send: Send) -> httpx.Timeout:
    limits = send.timeouts
    return httpx.Timeout(connect=limits.connect_s, read=limits.read_s, write=limits.read_s, pool=limits.connect_s)
