"""Java's heartbeats over WebSocket: ``java-client-and-push.md`` 7.2 and 8.

The only way in which a Java client renews, and the only one in which it gets registered: it registers over HTTP what a
heartbeat's answer calls ``data-not-found``, as the answer echoes it. So an answer says that of an instance only if the
log has none, never because no leader could be asked; and whatever comes in, the session stays open.
"""

from __future__ import annotations

import asyncio

from starlette.websockets import WebSocket

from artemis.api.dialects import Code
from artemis.api.faults import HttpFault
from artemis.api.heartbeats import Heartbeats, Places, read_bounded, refusal
from artemis.api.push.java_messages import heartbeat_answers
from artemis.api.push.sessions import BINARY, Session, SessionEnd
from artemis.api.serving import JAVA, Serving
from artemis.errors import ArtemisError

WAITING_MAX = 4
"""Heartbeats of one session that wait while one is being answered. A client sends one every 5 s."""
HELD_CHARACTERS_MAX = 32 * 1024 * 1024
"""Of heartbeats being answered or waiting, over all sessions: while there is no leader none of them ends."""
NOTHING_SENT = "request.instances is null or empty."
LIMITED = "Request is rate limited."


class HeartbeatSocket:
    """Answers each message with one answer, or several if it would be too long for the client."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._settings = serving.settings.push
        self._items_max = serving.settings.items_max
        self._sessions = serving.sessions
        self._heartbeats = Heartbeats(serving, Places(serving))
        self._limit = serving.limits.of("heartbeat")
        self._held_characters = 0

    async def __call__(self, socket: WebSocket) -> None:
        waiting: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)
        try:
            await self._sessions.serve(
                socket, "registry", lambda session: (self._read(session, waiting), self._answer(session, waiting))
            )
        finally:
            while not waiting.empty():
                self._held_characters -= len(waiting.get_nowait())

    async def _read(self, session: Session, waiting: asyncio.Queue[str]) -> None:
        """Takes messages while answers wait for the log: pings among them are answered in time."""
        while True:
            text = await session.receive()
            if text is None:
                raise SessionEnd(BINARY)
            if waiting.full() or not self._is_admitted(len(text)):
                self._sessions.heartbeats["rate-limited"] += 1
                await session.send(JAVA.failed("heartbeat", "rate-limited", LIMITED))
            else:
                self._held_characters += len(text)
                waiting.put_nowait(text)

    def _is_admitted(self, characters: int) -> bool:
        """One limit of the rate for all heartbeats of this node, over HTTP too (``java-http.md`` 4.3)."""
        if self._held_characters + characters > HELD_CHARACTERS_MAX:
            return False
        return self._limit is None or self._limit.admits(asyncio.get_running_loop().time())

    async def _answer(self, session: Session, waiting: asyncio.Queue[str]) -> None:
        while True:
            text = await waiting.get()
            try:
                for number, answer in enumerate(await self._answers(text)):
                    if number:
                        # What is answered it registers in its receiving thread, and sees no pong before it is done.
                        await session.caught_up()
                    await session.send(answer)
            finally:
                self._held_characters -= len(text)

    async def _answers(self, text: str) -> list[bytes]:
        if text.strip() == "null":
            return self._failed("bad-request", "request is null")
        try:
            body = read_bounded(text.encode(), self._items_max)
        except HttpFault as fault:
            return self._failed("bad-request", fault.message)
        if not body.instances and not body.keys:
            return self._failed("bad-request", NOTHING_SENT)
        try:
            beat = await self._heartbeats.beat(body, JAVA, self._settings.heartbeat_timeout_ms)
        except ArtemisError as exc:
            return self._failed(*refusal(self._serving, exc))
        self._sessions.heartbeats["partial_fail" if beat.failures.any() else "success"] += 1
        bytes_max = self._settings.message_bytes_max
        return list(heartbeat_answers(beat.failures, by_key=bool(body.keys), bytes_max=bytes_max))

    def _failed(self, code: Code, message: str) -> list[bytes]:
        self._sessions.heartbeats[code] += 1
        # What was sent may be quoted in the message, and the reader's buffer is small.
        return [JAVA.failed("heartbeat", code, message[: self._settings.message_bytes_max // 8])]
