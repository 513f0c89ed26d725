"""The asyncio shell: httpx, and one task for heartbeats. The loop's single thread takes the place of a lock."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

import httpx

from artemis.client.actions import Abandoned, Answer, Done, Event, Fail, Failure, Send, Wait, Waited
from artemis.client.call import Call
from artemis.client.core import DEFAULT_TTL_MS, Core, tell
from artemis.client.departure import Departure
from artemis.client.errors import ClientClosed, Refused, closed_during_call
from artemis.client.exchange import LIMITS, TRANSPORT_ERRORS, failure_of, timeout_of, too_slow
from artemis.client.leases import Batch, Lease
from artemis.client.policy import RetryPolicy
from artemis.client.registration import RegistrationView
from artemis.client.results import Consistency, Service, Services
from artemis.client.sync import CLOSE_STEP_S
from artemis.client.watch_events import WatchEvent
from artemis.client.watching import WAIT_S, Heard, Watching
from artemis.client.wire import Expected
from artemis.errors import ArtemisError, InvalidInput, Unavailable
from artemis.model import Instance, Member

logger = logging.getLogger("artemis.client")

T = TypeVar("T")


async def wait_for_event(event: asyncio.Event, timeout_s: float | None) -> None:
    """Return when ``event`` is set or the seconds have passed."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncRuntime:
    """Time and chance, to be replaced in tests."""

    clock: Callable[[], float] = time.monotonic
    wait: Callable[[asyncio.Event, float | None], Awaitable[object]] = wait_for_event
    new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex
    seed: int | None = None


class AsyncRegistration(RegistrationView):
    def __init__(self, lease: Lease, client: AsyncArtemisClient) -> None:
        super().__init__(lease)
        self._client = client

    async def unregister(self) -> None:
        """As ``Registration.unregister``."""
        await self._client._unregister(self._lease)


class AsyncArtemisClient:
    """``ArtemisClient`` for asyncio: same arguments, same promises, awaited. It belongs to the event loop it is first
    used in, and so to one process: an event loop does not survive a fork."""

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        region_id: str | None = None,
        zone_id: str | None = None,
        default_ttl_ms: int = DEFAULT_TTL_MS,
        policy: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        runtime: AsyncRuntime | None = None,
    ) -> None:
        self._runtime = runtime or AsyncRuntime()
        self._core = Core(
            nodes,
            region_id=region_id,
            zone_id=zone_id,
            default_ttl_ms=default_ttl_ms,
            policy=policy or RetryPolicy(),
            rng=random.Random(self._runtime.seed),
            new_request_id=self._runtime.new_request_id,
        )
        self._http = httpx.AsyncClient(verify=verify, transport=transport, limits=LIMITS, trust_env=False)
        self._pid = os.getpid()
        self._closed = False
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._never = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._registering = 0
        self._none_registering = asyncio.Event()
        """Once the client is closed."""
        self._late: list[Lease] = []
        """Registered while the client was closing."""

    async def register(
        self,
        instance: Instance,
        ttl_ms: int | None = None,
        *,
        expected_revision: int | None = None,
        expected_epoch: int | None = None,
        on_lease_lost: Callable[[AsyncRegistration], None] | None = None,
        on_reregistered: Callable[[AsyncRegistration], None] | None = None,
    ) -> AsyncRegistration:
        """As ``ArtemisClient.register``. The callbacks are plain functions and run in the event loop."""
        self._check_usable()
        expected = Expected(expected_revision, expected_epoch)
        lease = self._core.new_lease(instance, ttl_ms, expected)
        registration = AsyncRegistration(lease, self)
        if on_lease_lost is not None:
            lease.on_lost = partial(on_lease_lost, registration)
        if on_reregistered is not None:
            lease.on_reregistered = partial(on_reregistered, registration)
        call = self._core.register(lease, expected)
        self._registering += 1
        try:
            lease.version = await self._drive(call)
            if self._closed:
                self._late.append(lease)
                raise closed_during_call()
        finally:
            self._registering -= 1
            if self._closed and not self._registering:
                self._none_registering.set()
        self._core.plan.add(lease, call.started_at)
        if self._task is None:
            self._task = asyncio.create_task(self._keep_leases(), name="artemis-client-heartbeats")
        self._wake.set()
        return registration

    async def lookup(
        self,
        service_id: str,
        consistency: Consistency = "linearizable",
        max_stale_ms: int | None = None,
        *,
        versions: bool = False,
    ) -> Service:
        """As ``ArtemisClient.lookup``."""
        self._check_usable()
        return await self._drive(self._core.lookup(service_id, consistency, max_stale_ms, versions=versions))

    async def services(self, consistency: Consistency = "linearizable", max_stale_ms: int | None = None) -> Services:
        """As ``ArtemisClient.services``."""
        self._check_usable()
        return await self._drive(self._core.services(consistency, max_stale_ms))

    def watch(
        self,
        services: str | Sequence[str] | None = None,
        *,
        since: int | None = None,
        wait_s: float = WAIT_S,
    ) -> AsyncIterator[WatchEvent]:
        """As ``ArtemisClient.watch``."""
        self._check_usable()
        return self._watch(self._core.watching(services, since, wait_s))

    async def _watch(self, watching: Watching) -> AsyncIterator[WatchEvent]:
        while not self._closed:
            self._check_usable()
            event: WatchEvent | None
            try:
                event = watching.answered(await self._poll(watching))
            except Unavailable as exc:
                event = watching.failed(exc)
            except InvalidInput as exc:
                watching.refused(exc)
                continue
            except ClientClosed:
                return
            if event is not None and not self._closed:
                yield event

    async def _poll(self, watching: Watching) -> Heard:
        if pause_s := watching.take_pause_s():
            await self._runtime.wait(self._stopping, pause_s)
            self._check_usable()
        return await self._drive(watching.next_call(), self._stopping)

    async def members(self) -> tuple[Member, ...]:
        """As ``ArtemisClient.members``."""
        self._check_usable()
        return await self._drive(self._core.members())

    async def close(self) -> None:
        """As ``ArtemisClient.close``."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        leases = self._core.plan.close_all()
        self._stopping.set()
        self._wake.set()
        try:
            deadline = self._runtime.clock() + CLOSE_STEP_S
            await self._end_task()
            if self._registering:
                # Ordered after the unregistration, the instance would be listed for a TTL although nobody owns it.
                await self._runtime.wait(self._none_registering, max(0.0, deadline - self._runtime.clock()))
            leases = (*leases, *self._late)
            await self._depart(self._core.departure(leases, self._runtime.clock() + CLOSE_STEP_S))
        finally:
            await self._http.aclose()

    async def _depart(self, departure: Departure) -> None:
        try:
            while (call := departure.next_call(self._runtime.clock())) is not None:
                try:
                    await self._drive(call)
                except Refused as exc:
                    departure.refused(exc)
                else:
                    departure.done()
        except ArtemisError as exc:
            logger.warning("closing without unregistering %d instances, their TTL ends them: %s", departure.left, exc)

    async def __aenter__(self) -> AsyncArtemisClient:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _unregister(self, lease: Lease) -> None:
        if self._core.plan.close(lease):
            await self._drive(self._core.unregister([lease]))

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise ClientClosed("the client belongs to the parent process; make a new one after the fork")
        if self._closed:
            raise ClientClosed("the client is closed")

    async def _drive(self, call: Call[T], interrupt: asyncio.Event | None = None) -> T:
        event: Event | None = None
        while True:
            action = call.step(event, self._runtime.clock())
            match action:
                case Send():
                    event = await self._exchange(action)
                case Wait():
                    await self._runtime.wait(interrupt or self._never, action.delay_s)
                    event = Abandoned("the client is closing") if interrupt and interrupt.is_set() else Waited()
                case Done():
                    return action.value
                case Fail():
                    raise action.error

    async def _exchange(self, send: Send) -> Answer | Failure:
        try:
            async with asyncio.timeout(send.timeouts.total_s):
                response = await self._http.request(
                    send.method, send.url, content=send.body, headers=send.headers, timeout=timeout_of(send)
                )
        except TimeoutError:
            return too_slow(send)
        except TRANSPORT_ERRORS as exc:
            return failure_of(exc)
        except RuntimeError as exc:  # httpx's way of saying that its client is closed
            if not self._http.is_closed:
                raise
            raise closed_during_call() from exc
        return Answer(status=response.status_code, headers=dict(response.headers), body=response.content)

    async def _keep_leases(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            notices, batch, delay_s = self._core.next_batch(self._runtime.clock())
            tell(notices)
            if batch is not None:
                await self._send_batch(batch)
            else:
                await self._runtime.wait(self._wake, delay_s)

    async def _send_batch(self, batch: Batch) -> None:
        call = self._core.lease_call(batch)
        try:
            failed = await self._drive(call, self._stopping)
        except ArtemisError as exc:
            logger.debug("heartbeat failed: %s", exc)
            self._core.plan.fail(batch, exc, self._runtime.clock())
        except Exception as exc:  # a transport given by the user may raise anything; no lease may end for it
            logger.exception("a heartbeat failed in an unforeseen way; it is repeated")
            self._core.plan.fail(batch, exc, self._runtime.clock())
        else:
            tell(self._core.lease_call_done(batch, call, failed, self._runtime.clock()))

    async def _end_task(self) -> None:
        """Let a request in flight finish rather than cancel it: a registration cut off now could be ordered after the
        unregistration that follows, and its instance would stay for a TTL."""
        if self._task is None or self._task is asyncio.current_task():
            return
        await asyncio.wait({self._task}, timeout=CLOSE_STEP_S)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_STEP_S)
