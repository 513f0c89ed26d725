"""One node's consensus without IO: messages, timers, disk completions in; messages, disk jobs, outcomes out.

Everything runs on one thread. ``step`` is the heart: it lets the core look at elections and commitment, puts waiting
proposals into the log, starts read rounds and starts a sync; it runs once per event-loop turn in which something
happened, however many messages that were. Group commit, shared read rounds and one fsync for many entries follow from
that, not from timers.

What leaves the node and promises something (an acknowledgement, a vote, a candidacy) waits until the journal that it
promises is on disk: ``send_when_durable``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import ParamSpec

from artemis.commands import Command, RequestId, decode_entry
from artemis.consensus import inbox, seams
from artemis.consensus.admission import Admission, refuse_other_members
from artemis.consensus.alarm import Alarm
from artemis.consensus.core import RaftCore
from artemis.consensus.digests import StateDigests
from artemis.consensus.diskwatch import DiskWatch
from artemis.consensus.freshness import UNKNOWN_MS, UNKNOWN_US, Freshness
from artemis.consensus.health import ApplyWatch
from artemis.consensus.journal import Journal
from artemis.consensus.leadership import Leadership
from artemis.consensus.ports import Clock, World
from artemis.consensus.proposals import Resolve, Session
from artemis.consensus.reads import ASK_AGAIN_SECONDS, Done, ReadBarriers, RevisionWaiters
from artemis.consensus.snapshots import SnapshotStore
from artemis.consensus.snapshotting import Snapshotting
from artemis.consensus.status import NodeStatus, PeerStatus, Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import Forward, Message, ReadIndexRequest, ReadProbe
from artemis.errors import Unavailable
from artemis.outcomes import Refused
from artemis.registry import Registry

P = ParamSpec("P")

log = logging.getLogger("artemis.consensus")

BEHIND_SECONDS = 5
"""A node whose state may be older is not ready: it hears a leader and yet lags in the log, or hears none."""


class Engine:
    """A member of the cluster. Construct, then ``start``; ``close`` once."""

    def __init__(
        self,
        *,
        node_id: str,
        members: tuple[str, ...],
        cluster: str,
        world: World,
        timing: Timing,
        bounds: Bounds,
        on_fatal: Callable[[str], None],
        rejoin: bool = False,
    ) -> None:
        """Recover from ``world.disk``. Raises ``DataDamaged`` or ``OSError`` with a message for the operator."""
        timing.validate()
        bounds.validate()
        self.node_id = node_id
        self.cluster = cluster
        self._world = world
        self._timing = timing
        self._bounds = bounds
        self._on_fatal = on_fatal
        self.failed: str | None = None
        self._closed = False
        self._step_scheduled = False
        self._alarm = Alarm(world.scheduler, timing.timer_ms / 1000, self._tick)
        self.now: Clock = world.clock
        seams.activate(world.clock, world.rng)
        self.journal = Journal.open(world.disk, node_id=node_id, cluster=cluster, wall_ms=world.wall_ms, rng=world.rng)
        refuse_other_members(self.journal, members)
        store = SnapshotStore.open(world.disk, cluster)
        self.registry = Registry()
        self._gated: deque[tuple[int, str, Message]] = deque()
        self._links_up: dict[str, int] = {}  # link generation per connected peer
        self._generation = 0
        self._seen: tuple[int, str | None] = (0, None)
        self._caught_up = False
        self._status: NodeStatus | None = None
        self._status_at = float("-inf")
        self._clock_moved_at = world.clock()
        """When this node, since it started, first applied the lease clock's present value."""
        self.leadership = Leadership(len(members), timing, bounds)
        self.reads = ReadBarriers(bounds.waiting_reads, world.rng.getrandbits(51))
        self.session = Session(node_id, self.journal.incarnation, bounds)
        self._start_lsn = self.journal.lsn
        self._revision_waiters = RevisionWaiters(bounds.waiting_reads)
        self._listeners: list[Callable[[int], None]] = []
        age = Freshness(len(members) // 2, world.rng.getrandbits(51), world.clock())
        self.core = RaftCore(node_id, members, self.journal, self, timing, bounds, age)
        self.digests = StateDigests(self, self.core.peers(), bounds.reread_records_per_second)
        self._applying = ApplyWatch()
        self.snapshots = Snapshotting(self, store, world.snapshot_queue, bounds)
        self.snapshots.recover()
        self.admission = Admission(self, rejoin=rejoin)
        self._disk = DiskWatch(self, world.disk_queue, timing.election_timeout_ms_min / 1000)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._world.links.start(self)
        if not self.core.peers():
            self.core.campaign_now()
        # The first barrier that passes proves that this node has applied all that a current leader knows.
        self.reads.join(float("inf"), self._on_caught_up)
        self._tick()

    def close(self) -> None:
        """Stop taking part. Open proposals and reads are answered; what left this node may still happen."""
        self._closed = True
        self._status = None
        self._alarm.stop()
        self.session.fail_all("this node is stopping")
        self.reads.fail_all("this node is stopping")
        self._revision_waiters.fail_all("this node is stopping")
        self._world.links.close()
        self.journal.close()

    def fail(self, reason: str) -> None:
        """Stop for good: going on could be wrong. The process is expected to end."""
        if self.failed is not None:
            return
        self.failed = reason
        self._status = None
        log.critical("this node stops: %s", reason)
        self.session.fail_all(reason)
        self.reads.fail_all(reason)
        self._revision_waiters.fail_all(reason)
        self._world.links.close()
        self._on_fatal(reason)

    # -- what callers ask --------------------------------------------------------------------------------------------

    def propose(self, command: Command, request: RequestId | None, timeout_ms: int, resolve: Resolve) -> None:
        """Order ``command``; ``resolve`` gets this node's own outcome, or an error. Raises when it is not taken."""
        self._refuse_if_stopped()
        # The budget counts on the lease clock as applied here, which may be behind by a few steps.
        expires_at_ms = self.registry.clock_ms + timeout_ms + self._timing.lease_step_ms * 3
        now = self.now()
        deadline = now + timeout_ms / 1000
        self.session.propose(command, request, expires_at_ms, deadline, resolve)
        self._alarm.sooner(now, deadline)
        self.wake()

    def barrier(self, timeout_ms: int, done: Done) -> None:
        """``done(None)`` once the applied state holds every write acknowledged anywhere before this call."""
        self._refuse_if_stopped()
        now = self.now()
        deadline = now + timeout_ms / 1000
        self.reads.join(deadline, done)
        self._alarm.sooner(now, deadline)
        self.wake()

    def applied(self, revision: int, timeout_ms: int, done: Done) -> None:
        """``done(None)`` once the applied revision is at least ``revision``."""
        self._refuse_if_stopped()
        if self.registry.revision >= revision:
            done(None)
        else:
            now = self.now()
            deadline = now + timeout_ms / 1000
            self._revision_waiters.join(revision, deadline, done)
            self._alarm.sooner(now, deadline)

    def on_applied(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)

    def take_snapshot(self) -> None:
        """Take one now, whatever has accumulated; not of a state that is known to be wrong."""
        if self.digests.quarantined is None:
            self.snapshots.take()

    def resign(self, timeout_ms: int, done: Callable[[], None]) -> None:
        """If this node leads, hand its leadership to a follower that has everything. ``done`` is called when it does
        not lead any more, or when the time is up; writes wait meanwhile and go to the next leader."""
        if self.core.role != "leader" or not self.core.peers() or self.failed is not None:
            done()
            return
        now = self.now()
        self.leadership.resign(now + timeout_ms / 1000, done)
        self._alarm.sooner(now, now + timeout_ms / 1000)
        self.wake()

    def status(self) -> NodeStatus:
        """This moment's, or one made less than a millisecond ago with nothing in between: every answer carries it."""
        now = self.now()
        if self._status is None or now - self._status_at >= 0.001:
            self._status, self._status_at = self._make_status(), now
        return self._status

    def _make_status(self) -> NodeStatus:
        core = self.core
        return NodeStatus(
            node_id=self.node_id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            known_leader=core.leader_id is not None and core.hears_leader,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            last_log_index=self.journal.last_index,
            first_log_index=self.journal.first_index,
            snapshot_index=self.snapshots.index,
            apply_lag_ms=min(UNKNOWN_MS, -(-core.age_us() // 1000)),  # rounded up: it is a bound
            ready=self._caught_up
            and self.failed is None
            and not self._closed
            and self._disk.well
            and self.digests.reason() is None,
            reasons=tuple(self._reasons()),
            peers=tuple(
                PeerStatus(peer, peer in self._links_up, core.match_index(peer) if core.role == "leader" else None)
                for peer in core.peers()
            ),
            quarantined=self.digests.reason() is not None,
            verified_index=self.digests.verified_index,
            differing=tuple(sorted(self.digests.differing)),
            lease_clock_age_ms=int((self.now() - self._clock_moved_at) * 1000),
        )

    def _reasons(self) -> Iterator[str]:
        if self.failed is not None:
            yield f"stopped: {self.failed}"
        now = self.now()
        for reason in (
            self._disk.reason(),
            self.admission.reason(),
            self.digests.reason(),
            self._applying.reason(now),
            self._alarm.stalls.reason(now),
        ):
            if reason is not None:
                yield reason
        if not self._caught_up:
            yield "has not yet applied what a current leader says is committed"
        if self.core.leader_id is None or not self.core.hears_leader:
            yield "no leader"
        age_us = self.core.age_us()
        if age_us > BEHIND_SECONDS * 1_000_000:
            age = "of unknown age" if age_us >= UNKNOWN_US else f"up to {age_us // 1000} ms old"
            yield f"its state is {age}"

    def _refuse_if_stopped(self) -> None:
        if self.failed is not None:
            raise Unavailable(f"this node has stopped: {self.failed}", definite=True)
        if self._closed:
            raise Unavailable("this node is stopping", definite=True)
        differs = self.digests.reason()
        if differs is not None:
            raise Unavailable(f"this node is quarantined: {differs}", definite=True)

    # -- the turn ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something happened: step once at the end of this turn."""
        if not self._step_scheduled and not self._closed and self.failed is None:
            self._step_scheduled = True
            self._world.scheduler.call_soon(self._step)

    def _tick(self) -> None:
        """The timer: deadlines, and a step also when nothing happened."""
        if self._closed or self.failed is not None:
            return
        now = self.now()
        if self._drains(now):
            self._alarm.set(now, self._alarm.drain_until)
            return
        self.session.expire(now)
        self.reads.expire(now)
        self._revision_waiters.expire(now)
        self._applying.look(now, self.core.commit_index, self.core.applied_index)
        if self.digests.quarantined is None:
            self.snapshots.tick()
        self.admission.tick()
        self.wake()

    def _drains(self, now: float) -> bool:
        return self._alarm.drains(now)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._closed or self.failed is not None:
            return
        self._guarded(self._advance)
        if not self._alarm.is_set and self.failed is None:
            now = self.now()
            self._alarm.set(now, self._due_at(now))

    def _due_at(self, now: float) -> float:
        """When something has to be looked at here although nothing happened."""
        if not self.admission.done:
            return self.admission.due_at
        return min(
            self.core.due_at(now),
            self.leadership.due_at(clock_needed=self.registry.clock_needed),
            self.session.due_at,
            self.reads.due_at(),
            self._revision_waiters.due_at(),
            self._disk.due_at,
        )

    @property
    def _settled(self) -> bool:
        """Nothing is open, and nothing has changed since the last step: another one would do nothing."""
        core, now = self.core, self.now()
        return (
            self.journal.in_step
            and not core.unfinished
            and not len(self.session)
            and self.reads.idle
            and self.leadership.idle
            and (core.term, core.leader_id) == self._seen
            and self.admission.done
            and now < core.due_at(now)  # an election is asked for, or its pre-vote was granted
        )

    def _advance(self) -> None:
        if self.admission.done:
            self._take_part()
        self._disk.sync()

    def _take_part(self) -> None:
        core = self.core
        # A lone node is its own majority, so its core would commit what is not on disk yet: let it look only when
        # everything is.
        drained = not self._drains(self.now())
        if drained if core.peers() else self.journal.synced_lsn == self.journal.lsn:
            applied = core.applied_index
            core.tick()
            if core.behind and core.applied_index > applied:
                self.wake()  # for the next slice, behind what has arrived meanwhile
        if core.role == "leader" and not self.may_campaign():
            core.step_down()
        if (core.term, core.leader_id) != self._seen:
            self._notice_leadership()
        if len(self.session):
            self._hand_over()
        if core.role == "leader":
            if core.leader_ready:
                self.leadership.begin(self.registry.clock_ms, self._clock_moved_at, self.now())
            appended = self.leadership.advance(self)
            if appended or core.commit_index > self.leadership.announced_commit:
                self.leadership.announced_commit = core.commit_index
                core.broadcast()
        if not (self.reads.idle and self.leadership.confirmations.idle):
            self._start_reads()
            self.reads.release(core.applied_index)

    def _notice_leadership(self) -> None:
        self._seen = term, leader = self.core.term, self.core.leader_id
        if leader is not None:
            log.info("term %d: leader is %s", term, leader)
        self.reads.restart()

    def _hand_over(self) -> None:
        """Give the leader what waits here."""
        leader = self.core.leader_id
        if leader is None or self.journal.synced_lsn < self._start_lsn:
            return  # the incarnation must be on disk before anything is proposed under it, else a restart re-uses it
        if not self.core.hears_leader:
            return  # a link to it may still look alive; what is kept here can be refused as not applied
        if leader == self.node_id:
            batch = self.session.hand_over((self.core.term, leader, 0))
            self.leadership.orderer.take(self.node_id, self.session.incarnation, batch)
        elif leader in self._links_up:
            batch = self.session.hand_over((self.core.term, leader, self._links_up[leader]))
            while batch:
                # Small enough that a frame never exceeds its bound, whatever has piled up.
                part: list[tuple[int, bytes]] = []
                size = 0
                while batch and (not part or size + len(batch[0][1]) <= self._bounds.command_bytes_max):
                    part.append(batch.pop(0))
                    size += len(part[-1][1])
                self.send(leader, Forward(self.core.term, self.session.incarnation, tuple(part)))

    def _start_reads(self) -> None:
        core, now, leader = self.core, self.now(), self.core.leader_id
        if core.leader_ready:
            confirmations = self.leadership.confirmations
            number = self.reads.start(now)
            if number is not None:
                confirmations.ask(lambda index, number=number: self.reads.on_index(number, index))  # type: ignore[misc]
            probes = confirmations.ask_again(now)
            probe = confirmations.start(core.commit_index, now)
            if probe is not None:
                self._alarm.sooner(now, now + ASK_AGAIN_SECONDS)
            for asked in probes if probe is None else (*probes, probe):
                for peer in core.peers():
                    self.send(peer, ReadProbe(core.term, asked))
        elif core.role == "follower" and leader in self._links_up:
            rounds = self.reads.ask_again(now)
            number = self.reads.start(now)
            if number is not None:
                self._alarm.sooner(now, now + ASK_AGAIN_SECONDS)
            for asked in rounds if number is None else (*rounds, number):
                self.send(leader, ReadIndexRequest(core.term, asked))

    def on_synced(self) -> None:
        if self._closed or self.failed is not None:
            return
        synced = self.journal.synced_lsn
        while self._gated and self._gated[0][0] <= synced:
            _lsn, peer, message = self._gated.popleft()
            self.send(peer, message)
        self._guarded(self.core.on_synced)
        self.wake()

    def on_disk_failed(self) -> None:
        """What waited to be promised is void; the leader will ask again."""
        self._gated.clear()
        self.wake()

    def _guarded(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """The one boundary around the core: it runs on this engine's clock, and whatever it raises stops the node.

        The library would repeat an entry whose apply raised for ever, or apply it twice (hazards F1, F2); after an
        exception the state may be half changed, so there is nothing to go on with.
        """
        seams.activate(self._world.clock, self._world.rng)
        self._status = None
        try:
            call(*args, **kwargs)
        except Exception as exc:  # process boundary, see above
            log.exception("the engine stops")
            self.fail(f"{type(exc).__name__}: {exc}")

    # -- LinkEvents --------------------------------------------------------------------------------------------------

    def on_connected(self, peer: str) -> None:
        self._generation += 1
        self._links_up[peer] = self._generation
        self._guarded(self.core.on_connected, peer)
        if peer == self.core.leader_id:
            self.reads.restart()
        self.wake()

    def on_disconnected(self, peer: str) -> None:
        self._links_up.pop(peer, None)
        self._guarded(self.core.on_disconnected, peer)
        self.snapshots.on_disconnected(peer)

    def on_message(self, peer: str, message: Message) -> None:
        if self._closed or self.failed is not None:
            return
        self._guarded(self.receive, peer, message)
        if not self._settled:
            self.wake()

    def receive(self, peer: str, message: Message) -> None:
        inbox.receive(self, peer, message)

    def on_quarantined(self, reason: str) -> None:
        """What this node computes is worth nothing: neither the outcomes of open proposals nor what reads would see."""
        self._status = None
        self.session.fail_all(reason)
        self.reads.fail_all(reason)
        self._revision_waiters.fail_all(reason)
        self.wake()

    def on_snapshot_installed(self, index: int) -> None:
        self.admission.on_snapshot_installed(index)

    # -- CoreHost ----------------------------------------------------------------------------------------------------

    def send(self, peer: str, message: Message) -> None:
        self._world.links.send(peer, message)

    def send_when_durable(self, peer: str, message: Message) -> None:
        if self.journal.synced_lsn == self.journal.lsn:
            self.send(peer, message)
        elif self._disk.failure is None:
            self._gated.append((self.journal.lsn, peer, message))

    def apply(self, index: int, payload: bytes) -> None:
        now = self.now()
        if payload:
            entry = decode_entry(payload)
            clock_ms = self.registry.clock_ms
            outcomes = self.registry.apply(index, entry)
            if self.registry.clock_ms != clock_ms:
                self._clock_moved_at = now
            session = self.session
            for proposal, outcome in zip(entry.proposals, outcomes, strict=True):
                if (
                    outcome is not None
                    and proposal.origin == self.node_id
                    and proposal.incarnation == session.incarnation
                ):
                    session.resolve(proposal.seq, outcome)
                    if isinstance(outcome, Refused) and outcome.reason == "superseded":
                        self._renew_session()
        self.digests.on_applied(index)
        self.leadership.on_applied(index, now)
        self._revision_waiters.release(self.registry.revision)
        for listener in self._listeners:
            listener(index)

    def may_campaign(self) -> bool:
        return self._disk.well and self.digests.quarantined is None

    def needs_snapshot(self, peer: str) -> None:
        self.snapshots.feed(peer)

    def feeding_snapshot(self, peer: str) -> bool:
        return self.snapshots.feeding(peer)

    def on_role(self, role: Role) -> None:
        """Leadership begins or ends: what belonged to the last one is void."""
        log.info("term %d: this node is now %s", self.core.term, role)
        self.leadership.end()
        self.leadership = Leadership(len(self.core.peers()) + 1, self._timing, self._bounds)
        self.snapshots.stop_feeding()

    # -- applied state -----------------------------------------------------------------------------------------------

    def replace_registry(self, registry: Registry, index: int) -> None:
        """A snapshot takes the place of the applied state."""
        registry.lease_stats = self.registry.lease_stats
        self.registry = registry
        self.digests.on_replaced()
        self._clock_moved_at = self.now()
        session = registry.session(self.node_id)
        if session is not None and session.incarnation == self.session.incarnation:
            self.session.resolve_skipped(session.seq)
        elif session is not None and session.incarnation > self.session.incarnation:
            self._renew_session()
        self._revision_waiters.release(self.registry.revision)
        for listener in self._listeners:
            listener(index)

    def _renew_session(self) -> None:
        """The log knows a later start of this member than this one: its data was replaced, and its wall clock is behind
        the one that numbered the earlier starts. Every write of this node would be refused for ever."""
        applied = self.registry.session(self.node_id)
        self.session.fail_all("this member's session was replaced")
        self.journal.number_start(self.journal.incarnation + 1 if applied is None else applied.incarnation + 1)
        self.session = Session(self.node_id, self.journal.incarnation, self._bounds)
        self._start_lsn = self.journal.lsn

    def _on_caught_up(self, error: Exception | None) -> None:
        self._caught_up = error is None
