"""The blocking shell: httpx, a lock around the core, and one daemon thread for heartbeats."""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
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
from artemis.client.watch_events import WatchEvent
from artemis.client.watching import WAIT_S, Heard, Watching
from artemis.client.wire import Expected
from artemis.errors import ArtemisError, InvalidInput, Unavailable
from artemis.model import Instance, Member

logger = logging.getLogger("artemis.client")

T = TypeVar("T")

CLOSE_STEP_S = 1.0
"""``close`` waits this long for the heartbeat thread and then as long for the unregistration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Time and chance, to be replaced in tests. ``wait`` returns when the event is set or the seconds have passed."""

    clock: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float | None], object] = threading.Event.wait
    new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex
    seed: int | None = None


class Registration(RegistrationView):
    def __init__(self, lease: Lease, client: ArtemisClient) -> None:
        super().__init__(lease)
        self._client = client

    def unregister(self) -> None:
        """Stop the heartbeats and take the instance out. Does nothing the second time.

        Raises ``Unavailable`` if no node confirmed it; the heartbeats are over all the same, so the instance goes when
        its TTL ends.
        """
        self._client._unregister(self._lease)


class ArtemisClient:
    """A client for one cluster. Safe to share between threads, and usable in a forked child: the child gets its own
    connections, and the registrations stay with the parent (a ``transport`` of your own is shared, so give none then).

    ``nodes``: addresses of some or all nodes. ``region_id`` and ``zone_id``: sent with look-ups, for registries that
    check them. ``default_ttl_ms``: for registrations that name no TTL. ``policy``: budgets of each call. ``verify``: as
    in httpx. Environment variables for proxies are ignored: behind a proxy a refused connection says nothing about the
    node. Raises ``InvalidInput``.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        region_id: str | None = None,
        zone_id: str | None = None,
        default_ttl_ms: int = DEFAULT_TTL_MS,
        policy: RetryPolicy | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime or Runtime()
        self._core = Core(
            nodes,
            region_id=region_id,
            zone_id=zone_id,
            default_ttl_ms=default_ttl_ms,
            policy=policy or RetryPolicy(),
            rng=random.Random(self._runtime.seed),
            new_request_id=self._runtime.new_request_id,
        )
        self._new_http = partial(httpx.Client, verify=verify, transport=transport, limits=LIMITS, trust_env=False)
        self._closed = False
        self._parents: list[httpx.Client] = []
        self._start_in_this_process()

    def _start_in_this_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._http = self._new_http()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._never = threading.Event()
        self._thread: threading.Thread | None = None
        self._thread_ended = False
        self._thread_closes_http = False
        self._registering = 0
        self._none_registering = threading.Event()
        """Once the client is closed."""
        self._late: list[Lease] = []
        """Registered while the client was closing."""

    def register(
        self,
        instance: Instance,
        ttl_ms: int | None = None,
        *,
        expected_revision: int | None = None,
        expected_epoch: int | None = None,
        on_lease_lost: Callable[[Registration], None] | None = None,
        on_reregistered: Callable[[Registration], None] | None = None,
    ) -> Registration:
        """Put ``instance`` into the registry and keep it there. Returns once it is in.

        ``expected_revision``, ``expected_epoch``: only if the instance that is registered now has them; 0: only if none
        is. Else ``ConditionFailed``, which names what is there. An instance registered on a condition is kept only as
        long as it is this registration: if it ends or another takes its place it is lost, and not registered again.

        The callbacks run on the heartbeat thread: keep them short. Raises ``InvalidInput``, ``Refused`` or
        ``Unavailable``; if that one is not definite the instance may appear, and goes when its TTL ends.
        """
        self._check_usable()
        expected = Expected(expected_revision, expected_epoch)
        lease = self._core.new_lease(instance, ttl_ms, expected)
        registration = Registration(lease, self)
        if on_lease_lost is not None:
            lease.on_lost = partial(on_lease_lost, registration)
        if on_reregistered is not None:
            lease.on_reregistered = partial(on_reregistered, registration)
        call = self._prepare(lambda: self._core.register(lease, expected))
        with self._lock:
            self._registering += 1
        try:
            lease.version = self._drive(call)
            with self._lock:
                if self._closed:
                    self._late.append(lease)
                    raise closed_during_call()
                self._core.plan.add(lease, call.started_at)
                self._ensure_thread()
        finally:
            with self._lock:
                self._registering -= 1
                if self._closed and not self._registering:
                    self._none_registering.set()
        self._wake.set()
        return registration

    def lookup(
        self,
        service_id: str,
        consistency: Consistency = "linearizable",
        max_stale_ms: int | None = None,
        *,
        versions: bool = False,
    ) -> Service:
        """The instances of a service, at the level asked.

        ``linearizable``: nothing acknowledged before the call is missing. ``session``: nothing this client has seen or
        written is missing. ``stale``: whatever the node has, but not older than ``max_stale_ms``. A service nobody
        registered has no instances. ``versions``: fill in ``Service.versions``. Raises ``InvalidInput``, ``Refused`` or
        ``Unavailable``.
        """
        return self._call(lambda: self._core.lookup(service_id, consistency, max_stale_ms, versions=versions))

    def services(self, consistency: Consistency = "linearizable", max_stale_ms: int | None = None) -> Services:
        """All services that have instances. Levels and errors as in ``lookup``."""
        return self._call(lambda: self._core.services(consistency, max_stale_ms))

    def watch(
        self,
        services: str | Sequence[str] | None = None,
        *,
        since: int | None = None,
        wait_s: float = WAIT_S,
    ) -> Iterator[WatchEvent]:
        """Every change of ``services`` (None: of all) after revision ``since``, once and in order, for ever.

        Without ``since`` the first event is the state of the services (``WatchState``). At least every ``wait_s``
        seconds there is an event; while no node answers, a ``WatchInterrupted`` at least every ``budget_s`` of the
        policy plus twice ``wait_s``. When changes were missed that no node keeps any more, a new ``WatchState`` says
        so. Ends when the client is closed; who waits in another thread then comes out after ``wait_s``. Raises
        ``InvalidInput`` and ``Refused``.
        """
        self._check_usable()
        return self._watch(self._prepare(lambda: self._core.watching(services, since, wait_s)))

    def _watch(self, watching: Watching) -> Iterator[WatchEvent]:
        while not self._closed:
            self._check_usable()
            event: WatchEvent | None
            try:
                event = watching.answered(self._poll(watching))
            except Unavailable as exc:
                event = watching.failed(exc)
            except InvalidInput as exc:
                watching.refused(exc)
                continue
            except ClientClosed:
                return
            if event is not None and not self._closed:
                yield event

    def _poll(self, watching: Watching) -> Heard:
        if pause_s := watching.take_pause_s():
            self._runtime.wait(self._stopping, pause_s)
        return self._drive(self._prepare(watching.next_call), self._stopping)

    def members(self) -> tuple[Member, ...]:
        """The nodes of the cluster that serve now."""
        return self._call(self._core.members)

    def close(self) -> None:
        """Stop the heartbeats, unregister what is registered, close the connections. Does nothing the second time.

        Takes about 2 s at most; what could not be unregistered in that time is logged and goes when its TTL ends.
        """
        self._adopt_in_child()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            leases = self._core.plan.close_all()
            thread = self._thread
        self._stopping.set()
        self._wake.set()
        deadline = self._runtime.clock() + CLOSE_STEP_S
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_STEP_S)
        with self._lock:
            waits = self._registering > 0
        if waits:
            # Ordered after the unregistration, the instance would be listed for a TTL although nobody owns it.
            self._runtime.wait(self._none_registering, max(0.0, deadline - self._runtime.clock()))
        with self._lock:
            leases = (*leases, *self._late)
        self._depart(self._core.departure(leases, self._runtime.clock() + CLOSE_STEP_S))
        self._release_http(thread)

    def _depart(self, departure: Departure) -> None:
        try:
            while True:
                with self._lock:
                    call = departure.next_call(self._runtime.clock())
                if call is None:
                    return
                try:
                    self._drive(call)
                except Refused as exc:
                    departure.refused(exc)
                else:
                    departure.done()
        except ArtemisError as exc:
            logger.warning("closing without unregistering %d instances, their TTL ends them: %s", departure.left, exc)

    def __enter__(self) -> ArtemisClient:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unregister(self, lease: Lease) -> None:
        self._adopt_in_child()
        with self._lock:
            if not self._core.plan.close(lease):
                return
            call = self._core.unregister([lease])
        self._drive(call)

    def _call(self, build: Callable[[], Call[T]]) -> T:
        self._check_usable()
        return self._drive(self._prepare(build))

    def _prepare(self, build: Callable[[], T]) -> T:
        with self._lock:
            return build()

    def _check_usable(self) -> None:
        self._adopt_in_child()
        if self._closed:
            raise ClientClosed("the client is closed")

    def _adopt_in_child(self) -> None:
        """After ``os.fork`` the lock may be held by a thread that does not exist here, and the sockets are shared with
        the parent: answers would go to either. So the child starts anew and never touches them."""
        if os.getpid() == self._pid:
            return
        # Kept, not closed: closing a TLS connection writes to the parent's socket.
        self._parents.append(self._http)
        self._core.forget_leases()
        self._start_in_this_process()

    def _drive(self, call: Call[T], interrupt: threading.Event | None = None) -> T:
        event: Event | None = None
        while True:
            with self._lock:
                action = call.step(event, self._runtime.clock())
            match action:
                case Send():
                    event = self._exchange(action)
                case Wait():
                    self._runtime.wait(interrupt or self._never, action.delay_s)
                    event = Abandoned("the client is closing") if interrupt and interrupt.is_set() else Waited()
                case Done():
                    return action.value
                case Fail():
                    raise action.error

    def _exchange(self, send: Send) -> Answer | Failure:
        clock = self._runtime.clock
        deadline = clock() + send.timeouts.total_s
        body = bytearray()
        try:
            with self._http.stream(
                send.method, send.url, content=send.body, headers=send.headers, timeout=timeout_of(send)
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    # The read time-out counts from byte to byte; a trickle would pass it for ever.
                    if clock() > deadline:
                        return too_slow(send)
                return Answer(status=response.status_code, headers=dict(response.headers), body=bytes(body))
        except TRANSPORT_ERRORS as exc:
            return failure_of(exc)
        except RuntimeError as exc:  # httpx's way of saying that its client is closed
            if not self._http.is_closed:
                raise
            raise closed_during_call() from exc

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_leases, name="artemis-client-heartbeats", daemon=True)
            self._thread.start()

    def _keep_leases(self) -> None:
        # A registration that outlasted ``close`` leaves an orphan; nobody but this thread would take it out.
        while not self._stopping.is_set() or self._core.plan.has_orphans:
            self._wake.clear()
            with self._lock:
                notices, batch, delay_s = self._core.next_batch(self._runtime.clock())
            tell(notices)
            if batch is not None:
                self._send_batch(batch)
            else:
                self._runtime.wait(self._wake, delay_s)
        with self._lock:
            self._thread_ended = True
            closes_http = self._thread_closes_http
        if closes_http:
            self._http.close()

    def _send_batch(self, batch: Batch) -> None:
        with self._lock:
            call = self._core.lease_call(batch)
        failure: Exception
        try:
            failed = self._drive(call, self._stopping)
        except ArtemisError as exc:
            logger.debug("heartbeat failed: %s", exc)
            failure = exc
        except Exception as exc:  # a transport given by the user may raise anything; no lease may end for it
            logger.exception("a heartbeat failed in an unforeseen way; it is repeated")
            failure = exc
        else:
            with self._lock:
                notices = self._core.lease_call_done(batch, call, failed, self._runtime.clock())
            tell(notices)
            return
        with self._lock:
            self._core.plan.fail(batch, failure, self._runtime.clock())

    def _release_http(self, thread: threading.Thread | None) -> None:
        """A thread that is still inside a request closes the connections itself when it comes out."""
        with self._lock:
            in_use = thread is not None and not self._thread_ended
            self._thread_closes_http = in_use
        if not in_use:
            self._http.close()
