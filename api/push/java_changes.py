"""Java's change pushes: ``java-client-and-push.md`` 7.3, 8 and 9.

Every node pushes what its own log says to its own sessions: each committed change once and in order, whoever caused it.
A client that subscribes is told to look the service up again, because it looked it up before, maybe on another node or
a connection ago; what changed between the two is in that look-up, and what changes after it is pushed.
"""

from __future__ import annotations

from starlette.websockets import WebSocket

from artemis.api.feed import Behind, Subscription
from artemis.api.push.java_messages import change_message, read_subscription, reload_message
from artemis.api.push.reloads import Cause, Reloads
from artemis.api.push.sessions import BEHIND, BINARY, SUBSCRIPTIONS, Session, SessionEnd
from artemis.api.push.settings import SERVICE_ID_CHARACTERS_MAX
from artemis.api.serving import Serving
from artemis.model import Change, canonical


class ChangeMessages:
    """Changes as messages, each made once for all sessions."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._reloads = serving.sessions.reloads
        self._bytes_max = serving.settings.push.message_bytes_max
        self._form = self._encode

    def of(self, change: Change) -> bytes:
        """Empty if it is too long for the client, who is to look up."""
        return self._serving.changes.one(self._form, change)

    def reload(self, service_id: str, cause: Cause) -> bytes:
        """``service_id`` is canonical."""
        self._reloads[cause] += 1
        return reload_message(service_id, self._serving.now_ms(), self._serving.node.registry.revision)

    def _encode(self, change: Change) -> bytes:
        return change_message(change, self._serving.epoch_offset_ms(), self._bytes_max) or b""


class ServiceChanges:
    """instance-change: each message subscribes to one more service; nothing is acknowledged."""

    def __init__(self, serving: Serving, messages: ChangeMessages) -> None:
        self._serving = serving
        self._settings = serving.settings.push
        self._messages = messages

    async def __call__(self, socket: WebSocket) -> None:
        reloads = Reloads(lambda: self._serving.node.registry, self._messages.reload)
        with self._serving.feed.subscribe(services=()) as subscription:
            await self._serving.sessions.serve(
                socket,
                "discovery",
                lambda session: (
                    self._read(session, subscription, reloads),
                    self._push(session, subscription, reloads),
                    reloads.tell(session),
                ),
            )

    async def _read(self, session: Session, subscription: Subscription, reloads: Reloads) -> None:
        while True:
            text = await session.receive()
            if text is None:
                raise SessionEnd(BINARY)
            service_id = read_subscription(text)
            if service_id is None or len(service_id) > SERVICE_ID_CHARACTERS_MAX:
                continue  # as for any message that is not understood; to remember the id could fill the memory
            known = subscription.services or frozenset()
            if service_id not in known:
                if len(known) >= self._settings.subscriptions_max:
                    raise SessionEnd(SUBSCRIPTIONS)
                subscription.add((service_id,))
            if self._settings.reload_on_subscribe:
                reloads.add(service_id, "subscribed")

    async def _push(self, session: Session, subscription: Subscription, reloads: Reloads) -> None:
        while True:
            found = await subscription.next()
            if isinstance(found, Behind):
                # Before the reloads: what changes while they are sent is pushed after them.
                subscription.seek(self._serving.feed.revision)
                for service_id in subscription.services or ():
                    reloads.add(service_id, "behind")
            else:
                for change in found.changes:
                    message = self._messages.of(change)
                    if message:
                        await session.send(message)
                    else:
                        reloads.add(canonical(change.instance.service_id), "too-large")


class AllChanges:
    """all-instance-change: every change of every service; what the client sends is ignored.

    A session that fell behind is closed: services whose last instance went meanwhile could not be named in a reload.
    """

    def __init__(self, serving: Serving, messages: ChangeMessages) -> None:
        self._serving = serving
        self._messages = messages

    async def __call__(self, socket: WebSocket) -> None:
        with self._serving.feed.subscribe() as subscription:
            await self._serving.sessions.serve(
                socket, "discoveries", lambda session: (self._read(session), self._push(session, subscription))
            )

    async def _read(self, session: Session) -> None:
        while await session.receive() is not None:
            pass
        raise SessionEnd(BINARY)

    async def _push(self, session: Session, subscription: Subscription) -> None:
        while True:
            found = await subscription.next()
            if isinstance(found, Behind):
                raise SessionEnd(BEHIND)
            for change in found.changes:
                message = self._messages.of(change)
                await session.send(message or self._messages.reload(canonical(change.instance.service_id), "too-large"))
