"""Encoded services, so that an answer is put together from bytes that exist already.

An entry is right as long as its service has the revision it was made at: every change of a service gives it a new
revision, and a revision names the same content on every node and after every restart. So nothing is ever invalidated;
an entry is replaced when it is found to be of another revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from artemis.model import Record
from artemis.services import ServiceView

Encode = Callable[[str, Iterable[Record]], bytes]
"""(service id, records) -> fragment. Its identity names the form: keep one function object per form."""

ENTRY_OVERHEAD_BYTES = 300
"""What an entry costs beside its bytes: key, tuple and its share of the table."""
ENCODED_AT_ONCE = 2_000
"""Instances encoded before other work gets its turn: about 4 ms."""


class EncodedServices:
    """Fragments by form and service, at most ``bytes_max`` together; the one made first goes first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: dict[tuple[Encode, str], tuple[int, bytes]] = {}
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def one(self, encode: Encode, service: ServiceView) -> bytes:
        key = (encode, service.service_id)
        entry = self._entries.get(key)
        if entry is not None and entry[0] == service.revision:
            return entry[1]
        return self._make(key, service.revision, service.records)

    async def many(self, encode: Encode, services: Iterable[ServiceView]) -> list[bytes]:
        """The fragments of all ``services`` as they are now, in order, although making them takes several turns."""
        missing: list[tuple[int, tuple[Encode, str], int, tuple[Record, ...]]] = []
        fragments: list[bytes] = []
        for service in services:
            key = (encode, service.service_id)
            entry = self._entries.get(key)
            if entry is not None and entry[0] == service.revision:
                fragments.append(entry[1])
            else:
                # Views change with the next applied entry; the records taken here do not.
                missing.append((len(fragments), key, service.revision, service.records))
                fragments.append(b"")
        encoded = 0
        if len(fragments) >= ENCODED_AT_ONCE:
            await asyncio.sleep(0)
        for position, key, revision, records in missing:
            fragments[position] = self._make(key, revision, records)
            encoded += len(records) + 1
            if encoded >= ENCODED_AT_ONCE:
                encoded = 0
                await asyncio.sleep(0)
        return fragments

    def _make(self, key: tuple[Encode, str], revision: int, records: tuple[Record, ...]) -> bytes:
        encode, service_id = key
        fragment = encode(service_id, records)
        size = len(fragment) + ENTRY_OVERHEAD_BYTES
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self._bytes -= len(replaced[1]) + ENTRY_OVERHEAD_BYTES
        if size > self._bytes_max:
            return fragment
        self._entries[key] = (revision, fragment)
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._entries))
            self._bytes -= len(self._entries.pop(oldest)[1]) + ENTRY_OVERHEAD_BYTES
        return fragment
