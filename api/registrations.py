"""From what was sent to what is proposed: checks per instance, keys, TTL, and the name of a write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from artemis.api.dialects import Kind
from artemis.api.dialects.shapes import SentInstance, SentKey
from artemis.api.dialects.snake import PORT_MAX
from artemis.api.faults import shown
from artemis.api.serving import is_blank
from artemis.api.settings import HttpSettings
from artemis.commands import RequestId
from artemis.model import Instance, InstanceKey, identity

TTL_METADATA = "lease_ttl_ms"
JAVA_REGISTRY_METADATA = "java_registry"
FINGERPRINT_BYTES = 8

_canonical_encoder = msgspec.msgpack.Encoder(order="deterministic")


def to_instance(sent: SentInstance) -> Instance:
    """``sent`` has its ids: it has passed ``rule_broken``, or only its content matters."""
    return Instance(
        service_id=sent.service_id or "",
        instance_id=sent.instance_id or "",
        region_id=sent.region_id,
        zone_id=sent.zone_id,
        group_id=sent.group_id,
        machine_name=sent.machine_name,
        ip=sent.ip,
        port=sent.port,
        protocol=sent.protocol,
        url=sent.url,
        health_check_url=sent.health_check_url,
        status=sent.status,
        metadata=sent.metadata,
    )


def key_of_sent(sent: SentInstance | SentKey) -> InstanceKey:
    """As ``artemis.model.key_of``."""
    return identity(sent.region_id, sent.service_id, sent.instance_id)


def rule_broken(sent: SentInstance, *, strict: bool) -> str | None:
    """The first rule of every operation that ``sent`` breaks, in the order and words of ``java-http.md`` 4.2.

    Camel-case clients are told of a blank url, which the earlier snake_case server took. ``strict`` decoders hold a
    port in 16 bits, and that server refused others.
    """
    service_id, instance_id = sent.service_id, sent.instance_id
    if not service_id or service_id.isspace():
        return "Exception: instance.serviceId is blank"
    if not instance_id or instance_id.isspace():
        return "Exception: instance.instanceId is blank"
    if strict:
        if not 0 <= sent.port <= PORT_MAX:
            return f"Exception: instance.port: 0 to {PORT_MAX} is allowed, not {sent.port}"
    elif is_blank(sent.url):
        return "Exception: instance.url is blank"
    return None


def is_legacy(metadata: Mapping[str, str | None] | None) -> bool:
    """The mark of an instance that the earlier servers kept in a store of its own (``java-http.md`` 5.2)."""
    return metadata is not None and not is_blank(metadata.get(JAVA_REGISTRY_METADATA))


class LeaseTtl:
    """The TTL of a registration: its own field, its metadata, the mark of a legacy instance, or the default."""

    def __init__(self, settings: HttpSettings) -> None:
        self._min = settings.ttl_ms_min
        self._max = settings.ttl_ms_max
        self._java_registry = settings.java_registry_ttl_ms
        self._default = settings.default_ttl_ms
        self._strict = settings.snake_ttl_ms

    def of(self, sent: SentInstance, *, strict: bool) -> int | str:
        """Milliseconds, or the text of the fault."""
        if sent.lease_ttl_ms is not None:
            return self._checked("lease_ttl_ms" if strict else "leaseTtlMs", sent.lease_ttl_ms, sent.lease_ttl_ms)
        metadata = sent.metadata
        if metadata:
            text = metadata.get(TTL_METADATA)
            if text is not None:
                return self._checked(f"metadata.{TTL_METADATA}", _number(text), text)
            if is_legacy(metadata):
                return self._java_registry
        return self._strict if strict else self._default

    def _checked(self, field: str, ttl_ms: int | None, sent: object) -> int | str:
        if ttl_ms is not None and self._min <= ttl_ms <= self._max:
            return ttl_ms
        return f"instance.{field}: {self._min} to {self._max} milliseconds are allowed, not {shown(sent)}"


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 19 else None


def name_write(
    request_id: str | None,
    kind: Kind,
    instances: Sequence[SentInstance | None],
    keys: Sequence[SentKey],
    expected_revision: int | None = None,
) -> RequestId | None:
    """The request id with a fingerprint of what was sent.

    Over the request itself, not over what this node made of it: a retry may reach a node with other settings, or be
    spelled in the other dialect, and still is the same request.
    """
    if request_id is None:
        return None
    content: tuple[object, ...] = (
        kind,
        [(to_instance(sent), sent.lease_ttl_ms) for sent in instances if sent is not None],
        [key_of_sent(key) for key in keys],
    )
    expected = [(sent.expected_revision, sent.expected_epoch) for sent in (*instances, *keys) if sent is not None]
    if expected_revision is not None or any(each != (None, None) for each in expected):
        content = (*content, expected_revision, expected)
    digest = blake2b(_canonical_encoder.encode(content), digest_size=FINGERPRINT_BYTES).digest()
    return RequestId(request_id, digest)
