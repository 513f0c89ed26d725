"""What Java clients read and write on their WebSockets: ``java-client-and-push.md`` 3, 8 and 9.

Their buffer takes 8 KiB. A longer message costs them the connection, and the same message again after they reconnect,
so answers are split and a change that is too long is told as a ``reload``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import orjson

from artemis.api.dialects import FailedInstance, FailedKey
from artemis.api.dialects.java import instance_fields
from artemis.api.dialects.reading import Document, parse
from artemis.api.faults import HttpFault
from artemis.api.heartbeats import Failures
from artemis.api.serving import JAVA, is_blank
from artemis.model import Change, canonical

T = TypeVar("T", FailedInstance, FailedKey)


def read_subscription(text: str) -> str | None:
    """The canonical id of the service that a DiscoveryConfig names; None if it names none, or is not one."""
    try:
        value = parse(text.encode())
        service_id = None if value is None else Document().fields(value, "").text("serviceid")
    except HttpFault:
        return None
    return None if service_id is None or is_blank(service_id) else canonical(service_id)


def change_message(change: Change, epoch_offset_ms: int, bytes_max: int) -> bytes | None:
    """One change as a message; None if it would be longer than ``bytes_max``.

    The service id is lower-case: the client keeps services under lower-cased ids and looks up the one that comes.
    A repeated registration is ``new`` as the first one is: the earlier servers never said ``change``.
    """
    service_id = canonical(change.instance.service_id)
    change_time_ms = change.clock_ms + epoch_offset_ms
    change_type = "delete" if change.type == "delete" else "new"
    fields = instance_fields(change.instance) | {"serviceId": service_id}
    text = _message(fields, change_type, change_time_ms, change.revision)
    return text if len(text) <= bytes_max else None


def reload_message(service_id: str, change_time_ms: int, revision: int) -> bytes:
    """ "Look this service up again". Clients read the service id and the type only; the rest is what servers sent."""
    instance: dict[str, object] = {
        "groupId": None,
        "healthCheckUrl": None,
        "instanceId": "reload",
        "ip": "0.0.0.0",
        "machineName": None,
        "metadata": None,
        "port": 0,
        "protocol": None,
        "regionId": None,
        "serviceId": service_id,
        "status": None,
        "url": "http://serviceId/reload",
        "zoneId": None,
    }
    return _message(instance, "reload", change_time_ms, revision)


def _message(instance: dict[str, object], change_type: str, change_time_ms: int, revision: int) -> bytes:
    """``version`` is ours: readers of this family skip names they do not know."""
    return orjson.dumps(
        {"changeTime": change_time_ms, "changeType": change_type, "instance": instance, "version": revision}
    )


def heartbeat_answers(failures: Failures, *, by_key: bool, bytes_max: int) -> Iterator[bytes]:
    """The answer to a heartbeat, split so that no message is longer than ``bytes_max``. Each is a whole answer.

    Only an instance that is longer than that by itself makes a longer message, and comes last: whoever registers such
    instances must have set a larger buffer, and without the echo would never get registered.
    """
    if not failures.any():
        yield JAVA.written("heartbeat", (), (), by_key=by_key)
        return

    def of_instances(some: Sequence[FailedInstance]) -> bytes:
        return JAVA.written("heartbeat", some, (), by_key=by_key)

    def of_keys(some: Sequence[FailedKey]) -> bytes:
        return JAVA.written("heartbeat", (), some, by_key=by_key)

    yield from _split(failures.instances, of_instances, bytes_max)
    yield from _split(failures.keys, of_keys, bytes_max)


def _split(items: Sequence[T], encode: Callable[[Sequence[T]], bytes], bytes_max: int) -> Iterator[bytes]:
    """``encode`` of as few parts of ``items`` as fit, each one that does not fit alone at the end."""
    if not items:
        return
    whole = encode(items)
    if len(whole) <= bytes_max:
        yield whole
        return
    alone = [len(encode((item,))) for item in items]
    # What two answers have in common is their envelope, and between two elements stands a comma.
    envelope = len(encode((items[0],))) + len(encode((items[-1],))) - len(encode((items[0], items[-1]))) + 1
    part: list[T] = []
    size = envelope
    for item, item_alone in zip(items, alone, strict=True):
        if item_alone > bytes_max:
            continue
        grown = size + item_alone - envelope + (1 if part else 0)
        if part and grown > bytes_max:
            yield encode(part)
            part, grown = [], item_alone
        part.append(item)
        size = grown
    if part:
        yield encode(part)
    for item, item_alone in zip(items, alone, strict=True):
        if item_alone > bytes_max:
            yield encode((item,))
