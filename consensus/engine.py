"""One node's consensus without IO: messages, timers, disk completions in; messages, disk jobs, outcomes out.

Everything runs on one thread. ``step`` is the heart: it lets the core look at elections and commitment, puts waiting
proposals into the log, starts read rounds and starts a sync; it runs once per event-loop turn in which something
happened, however many messages that were. Group commit, shared read rounds and one fsync for many entries follow from
that, not from timers.

The engine holds the parts, says in which order they get their turn, and is the host that each of them asks for the
others: ``core`` (the log), ``proposing`` and ``reading`` (this node's open requests), ``leadership``, ``applying``,
``snapshots``, ``digests``, ``admission``, ``disk`` and the ``gate`` before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

from artemis.commands import Command, RequestId
from artemis.consensus import inbox, seams
from artemis.consensus.admission import Admission, refuse_other_members
from artemis.consensus.alarm import Alarm
from artemis.consensus.applying import Applying
from artemis.consensus.core import RaftCore
from artemis.consensus.digests import StateDigests
from artemis.consensus.diskwatch import DiskWatch
from artemis.consensus.freshness import Freshness
from artemis.consensus.gate import DurableGate
from artemis.consensus.journal import Journal
from artemis.consensus.leadership import Leadership
from artemis.consensus.ports import Clock, World
from artemis.consensus.proposals import Resolve
from artemis.consensus.proposing import Proposing
from artemis.consensus.reading import Reading
from artemis.consensus.reads import Done
from artemis.consensus.snapshots import SnapshotStore
from artemis.consensus.snapshotting import Snapshotting
from artemis.consensus.standing import Standing
from artemis.consensus.status import NodeStatus, Role
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import Message
from artemis.errors import Unavailable
from artemis.registry import Registry

P = ParamSpec("P")

log = logging.getLogger("artemis.consensus")


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
        self.closed = False
        self._step_scheduled = False
        self.alarm = Alarm(world.scheduler, timing.timer_ms / 1000, self._tick)
        self.now: Clock = world.clock
        seams.activate(world.clock, world.rng)
        self.journal = Journal.open(world.disk, node_id=node_id, cluster=cluster, wall_ms=world.wall_ms, rng=world.rng)
        refuse_other_members(self.journal, members)
        store = SnapshotStore.open(world.disk, cluster)
        self.registry = Registry()
        self.links_up: dict[str, int] = {}
        """Link generation per connected peer."""
        self._generation = 0
        self._seen: tuple[int, str | None] = (0, None)
        self.gate = DurableGate(self)
        self.standing = Standing(self)
        self.applying = Applying(self, world.clock())
        self.leadership = Leadership(len(members), timing, bounds)
        self.reading = Reading(self, bounds.waiting_reads, world.rng.getrandbits(51))
        self.proposing = Proposing(self, timing, bounds)
        age = Freshness(len(members) // 2, world.rng.getrandbits(51), world.clock())
        self.core = RaftCore(node_id, members, self.journal, self, timing, bounds, age)
        self.digests = StateDigests(self, self.core.peers(), bounds.reread_records_per_second)
        self.snapshots = Snapshotting(self, store, world.snapshot_queue, bounds)
        self.snapshots.recover()
        self.admission = Admission(self, rejoin=rejoin)
        self.disk = DiskWatch(self, world.disk_queue, timing.election_timeout_ms_min / 1000)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._world.links.start(self)
        if not self.core.peers():
            self.core.elections.campaign_now()
        # The first barrier that passes proves that this node has applied all that a current leader knows.
        self.reading.barriers.join(float("inf"), self.standing.on_caught_up)
        self._tick()

    def close(self) -> None:
        """Stop taking part. Open proposals and reads are answered; what left this node may still happen."""
        self.closed = True
        self.standing.changed()
        self.alarm.stop()
        self._answer_all("this node is stopping")
        self._world.links.close()
        self.journal.close()

    def fail(self, reason: str) -> None:
        """Stop for good: going on could be wrong. The process is expected to end."""
        if self.failed is not None:
            return
        self.failed = reason
        self.standing.changed()
        log.critical("this node stops: %s", reason)
        self._answer_all(reason)
        self._world.links.close()
        self._on_fatal(reason)

    def _answer_all(self, reason: str) -> None:
        """No open proposal or read gets more than this."""
        self.proposing.session.fail_all(reason)
        self.reading.fail_all(reason)

    # -- what callers ask --------------------------------------------------------------------------------------------

    def propose(self, command: Command, request: RequestId | None, timeout_ms: int, resolve: Resolve) -> None:
        """Order ``command``; ``resolve`` gets this node's own outcome, or an error. Raises when it is not taken."""
        self._refuse_if_stopped()
        now = self.now()
        deadline = now + timeout_ms / 1000
        self.proposing.propose(command, request, timeout_ms, deadline, resolve)
        self.alarm.sooner(now, deadline)
        self.wake()

    def barrier(self, timeout_ms: int, done: Done) -> None:
        """``done(None)`` once the applied state holds every write acknowledged anywhere before this call."""
        self._refuse_if_stopped()
        now = self.now()
        deadline = now + timeout_ms / 1000
        self.reading.barriers.join(deadline, done)
        self.alarm.sooner(now, deadline)
        self.wake()

    def applied(self, revision: int, timeout_ms: int, done: Done) -> None:
        """``done(None)`` once the applied revision is at least ``revision``."""
        self._refuse_if_stopped()
        if self.registry.revision >= revision:
            done(None)
        else:
            now = self.now()
            deadline = now + timeout_ms / 1000
            self.reading.revisions.join(revision, deadline, done)
            self.alarm.sooner(now, deadline)

    def on_applied(self, listener: Callable[[int], None]) -> None:
        """``listener`` gets the index up to which everything is applied, whenever that grows. Must not raise."""
        self.applying.listen(listener)

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
        self.alarm.sooner(now, now + timeout_ms / 1000)
        self.wake()

    def status(self) -> NodeStatus:
        return self.standing.status()

    def _refuse_if_stopped(self) -> None:
        if self.failed is not None:
            raise Unavailable(f"this node has stopped: {self.failed}", definite=True)
        if self.closed:
            raise Unavailable("this node is stopping", definite=True)
        differs = self.digests.reason()
        if differs is not None:
            raise Unavailable(f"this node is quarantined: {differs}", definite=True)

    # -- the turn ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something happened: step once at the end of this turn."""
        if not self._step_scheduled and not self.closed and self.failed is None:
            self._step_scheduled = True
            self._world.scheduler.call_soon(self._step)

    def _tick(self) -> None:
        """The timer: deadlines, and a step also when nothing happened."""
        if self.closed or self.failed is not None:
            return
        now = self.now()
        if self._drains(now):
            self.alarm.set(now, self.alarm.drain_until)
            return
        self.proposing.session.expire(now)
        self.reading.expire(now)
        self.standing.look(now)
        if self.digests.quarantined is None:
            self.snapshots.tick()
        self.admission.tick()
        self.wake()

    def _drains(self, now: float) -> bool:
        return self.alarm.drains(now)

    def _step(self) -> None:
        self._step_scheduled = False
        if self.closed or self.failed is not None:
            return
        self._guarded(self._advance)
        if not self.alarm.is_set and self.failed is None:
            now = self.now()
            self.alarm.set(now, self._due_at(now))

    def _due_at(self, now: float) -> float:
        """When something has to be looked at here although nothing happened."""
        if not self.admission.done:
            return self.admission.due_at
        return min(
            self.core.due_at(now),
            self.leadership.due_at(clock_needed=self.registry.clock_needed),
            self.proposing.session.due_at,
            self.reading.due_at(),
            self.disk.due_at,
        )

    @property
    def _settled(self) -> bool:
        """Nothing is open, and nothing has changed since the last step: another one would do nothing."""
        core, now = self.core, self.now()
        return (
            self.journal.in_step
            and not core.unfinished
            and not len(self.proposing.session)
            and self.reading.barriers.idle
            and self.leadership.idle
            and (core.term, core.leader_id) == self._seen
            and self.admission.done
            and now < core.due_at(now)  # an election is asked for, or its pre-vote was granted
        )

    def _advance(self) -> None:
        if self.admission.done:
            self._take_part()
        self.disk.sync()

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
            core.elections.step_down()
        if (core.term, core.leader_id) != self._seen:
            self._notice_leadership()
        if len(self.proposing.session):
            self.proposing.hand_over()
        if core.role == "leader":
            if core.leader_ready:
                self.leadership.begin(self.registry.clock_ms, self.applying.clock_moved_at, self.now())
            appended = self.leadership.advance(self)
            if appended or core.commit_index > self.leadership.announced_commit:
                self.leadership.announced_commit = core.commit_index
                core.replication.broadcast()
        self.reading.advance()

    def _notice_leadership(self) -> None:
        self._seen = term, leader = self.core.term, self.core.leader_id
        if leader is not None:
            log.info("term %d: leader is %s", term, leader)
        self.reading.barriers.restart()

    def on_synced(self) -> None:
        if self.closed or self.failed is not None:
            return
        self.gate.open()
        self._guarded(self.core.replication.on_synced)
        self.wake()

    def on_disk_failed(self) -> None:
        self.gate.drop()
        self.wake()

    def _guarded(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """The one boundary around the core: it runs on this engine's clock, and whatever it raises stops the node.

        The library would repeat an entry whose apply raised for ever, or apply it twice (hazards F1, F2); after an
        exception the state may be half changed, so there is nothing to go on with.
        """
        seams.activate(self._world.clock, self._world.rng)
        self.standing.changed()
        try:
            call(*args, **kwargs)
        except Exception as exc:  # process boundary, see above
            log.exception("the engine stops")
            self.fail(f"{type(exc).__name__}: {exc}")

    # -- LinkEvents --------------------------------------------------------------------------------------------------

    def on_connected(self, peer: str) -> None:
        self._generation += 1
        self.links_up[peer] = self._generation
        self._guarded(self.core.on_connected, peer)
        if peer == self.core.leader_id:
            self.reading.barriers.restart()
        self.wake()

    def on_disconnected(self, peer: str) -> None:
        self.links_up.pop(peer, None)
        self._guarded(self.core.on_disconnected, peer)
        self.snapshots.on_disconnected(peer)

    def on_message(self, peer: str, message: Message) -> None:
        if self.closed or self.failed is not None:
            return
        self._guarded(self.receive, peer, message)
        if not self._settled:
            self.wake()

    def receive(self, peer: str, message: Message) -> None:
        inbox.receive(self, peer, message)

    def on_quarantined(self, reason: str) -> None:
        """What this node computes is worth nothing: neither the outcomes of open proposals nor what reads would see."""
        self.standing.changed()
        self._answer_all(reason)
        self.wake()

    def replace_registry(self, registry: Registry, index: int) -> None:
        """A snapshot that ends at entry ``index`` takes the place of the applied state."""
        self.applying.replace(registry, index)

    def on_snapshot_installed(self, index: int) -> None:
        self.admission.on_snapshot_installed(index)

    # -- CoreHost ----------------------------------------------------------------------------------------------------

    def send(self, peer: str, message: Message) -> None:
        self._world.links.send(peer, message)

    def send_when_durable(self, peer: str, message: Message) -> None:
        self.gate.send(peer, message)

    def apply(self, index: int, payload: bytes) -> None:
        self.applying.apply(index, payload)

    def may_campaign(self) -> bool:
        return self.disk.well and self.digests.quarantined is None

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
