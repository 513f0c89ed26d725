"""The Rust server's ``/ws``: ``java-client-and-push.md`` 10.2. Subscriptions end by request or with the connection.

A subscription is acknowledged with the revision from which its changes are complete, so a client that looks the service
up afterwards misses nothing. Service ids are compared without case and spelled as the client subscribed them.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from starlette.websockets import WebSocket

from artemis.api.feed import Batch, Behind, Subscription
from artemis.api.push.rust_messages import (
    PONG,
    acknowledgement,
    change_fragment,
    error,
    read_request,
    reload_fragment,
    service_change,
)
from artemis.api.push.sessions import Session
from artemis.api.push.settings import SERVICE_ID_CHARACTERS_MAX
from artemis.api.serving import Serving, is_blank
from artemis.model import Change, canonical

CHANGES_PER_MESSAGE = 100


class RustSocket:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._subscriptions_max = serving.settings.push.subscriptions_max
        self._form = self._encode

    async def __call__(self, socket: WebSocket) -> None:
        spelled: dict[str, str] = {}
        """Services of this session: canonical id -> as subscribed."""
        with self._serving.feed.subscribe(services=()) as subscription:
            await self._serving.sessions.serve(
                socket,
                "rust",
                lambda session: (
                    self._read(session, subscription, spelled),
                    self._push(session, subscription, spelled),
                ),
            )

    async def _read(self, session: Session, subscription: Subscription, spelled: dict[str, str]) -> None:
        while True:
            text = await session.receive()
            if text is not None:  # a binary message was ignored
                await session.send(self._answer(text, subscription, spelled))

    def _answer(self, text: str, subscription: Subscription, spelled: dict[str, str]) -> bytes:
        request = read_request(text)
        if isinstance(request, str):
            return error(request)
        if request.type == "ping":
            return PONG
        service_id = canonical(request.service_id)
        if request.type == "unsubscribe":
            spelled.pop(service_id, None)
            subscription.remove((service_id,))
            return acknowledgement("unsubscribed", request.service_id, subscription.revision)
        if is_blank(service_id):
            return error("service_id: not blank")
        if len(service_id) > SERVICE_ID_CHARACTERS_MAX:
            return error(f"service_id: at most {SERVICE_ID_CHARACTERS_MAX} characters are allowed here")
        if service_id not in spelled and len(spelled) >= self._subscriptions_max:
            return error(f"service_id: at most {self._subscriptions_max} services for one connection are allowed")
        spelled[service_id] = request.service_id
        subscription.add((service_id,))
        return acknowledgement("subscribed", request.service_id, subscription.revision)

    async def _push(self, session: Session, subscription: Subscription, spelled: dict[str, str]) -> None:
        while True:
            found = await subscription.next()
            if isinstance(found, Behind):
                await self._reload(session, subscription, spelled)
            else:
                await self._changes(session, found, spelled)

    async def _reload(self, session: Session, subscription: Subscription, spelled: dict[str, str]) -> None:
        # Before the reloads: what changes while they are sent is pushed after them.
        revision = self._serving.feed.revision
        subscription.seek(revision)
        for service_id, as_subscribed in sorted(spelled.items()):
            self._serving.sessions.reloads["behind"] += 1
            fragment = reload_fragment(service_id, self._serving.now_ms(), revision)
            await session.send(service_change(as_subscribed, (fragment,)))

    async def _changes(self, session: Session, batch: Batch, spelled: dict[str, str]) -> None:
        one = self._serving.changes.one
        of_service = ((canonical(change.instance.service_id), change) for change in batch.changes)
        for service_id, group in groupby(of_service, key=itemgetter(0)):
            changes = [change for _, change in group]
            for start in range(0, len(changes), CHANGES_PER_MESSAGE):
                as_subscribed = spelled.get(service_id)
                if as_subscribed is None:
                    break  # unsubscribed since the batch was taken
                part = changes[start : start + CHANGES_PER_MESSAGE]
                await session.send(service_change(as_subscribed, [one(self._form, change) for change in part]))

    def _encode(self, change: Change) -> bytes:
        return change_fragment(change, self._serving.epoch_offset_ms())
