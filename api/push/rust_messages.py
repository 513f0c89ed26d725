"""What clients of the Rust server read and write on ``/ws``: ``java-client-and-push.md`` 10.2, ``rust-http.md`` 4.

The Rust server declared ``service_change`` and never sent it, in camelCase now and in snake_case before. Decoders of
either skip names they do not know and need all of their own, so a change carries both spellings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import orjson

from artemis.api.dialects.reading import Document, parse
from artemis.api.dialects.snake import CAMEL_NAMES, SNAKE_NAMES, instance_fields
from artemis.api.faults import HttpFault, shown
from artemis.model import Change, Instance

RequestType = Literal["subscribe", "unsubscribe", "ping"]
TYPES: tuple[RequestType, ...] = ("subscribe", "unsubscribe", "ping")
PONG = b'{"type":"pong"}'


class Request(NamedTuple):
    type: RequestType
    service_id: str
    """As it was sent; empty for a ping."""


def read_request(text: str) -> Request | str:
    """The request, or what is wrong with it and what is allowed."""
    try:
        fields = Document().fields(parse(text.encode()), "")
        kind = fields.text("type")
        for known in TYPES:
            if kind == known:
                return Request(known, "" if known == "ping" else fields.required_text("serviceid", "service_id"))
    except HttpFault as fault:
        return fault.message
    return f"type: one of {', '.join(TYPES)} is allowed, not {'null' if kind is None else shown(kind)}"


def acknowledgement(kind: Literal["subscribed", "unsubscribed"], service_id: str, revision: int) -> bytes:
    """``version``: every change of the service with a greater one follows."""
    return orjson.dumps({"type": kind, "service_id": service_id, "version": revision})


def error(message: str) -> bytes:
    return orjson.dumps({"type": "error", "message": message})


def change_fragment(change: Change, epoch_offset_ms: int) -> bytes:
    change_type = "delete" if change.type == "delete" else "new"
    return _fragment(change.instance, change_type, change.clock_ms + epoch_offset_ms, change.revision)


def reload_fragment(service_id: str, now_ms: int, revision: int) -> bytes:
    instance = Instance(service_id=service_id, instance_id="reload", ip="0.0.0.0", url="http://serviceId/reload")
    return _fragment(instance, "reload", now_ms, revision)


def service_change(service_id: str, fragments: Sequence[bytes]) -> bytes:
    return b'{"type":"service_change","service_id":%b,"changes":[%b]}' % (
        orjson.dumps(service_id),
        b",".join(fragments),
    )


def _fragment(instance: Instance, change_type: str, epoch_ms: int, revision: int) -> bytes:
    time = rfc3339(epoch_ms)
    return orjson.dumps(
        {
            "instance": instance_fields(instance, SNAKE_NAMES) | instance_fields(instance, CAMEL_NAMES),
            "changeType": change_type,
            "change_type": change_type,
            "changeTime": time,
            "change_time": time,
            "version": revision,
        }
    )


def rfc3339(epoch_ms: int) -> str:
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
