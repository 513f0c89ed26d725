"""Which ticks of an engine do nothing at all? They are most of them, and most of what a simulated second costs.

Every node looks at its deadlines fifty times a second, whether there is anything to look at or not. ``quiet`` tells
from the state that the tick which is due now would change nothing, send nothing and call nobody; it is left out, and
only the timer is set again. That it is right is not argued but tested: runs with and without it have the same trace
(``test_idle``). Whoever gives the tick something new to do will see that test fail.
"""

from __future__ import annotations

from artemis.consensus.engine import STALL_SECONDS, Engine


def quiet(engine: Engine) -> bool:
    now, core, journal, snapshots = engine.now(), engine.core, engine.journal, engine.snapshots
    if (
        len(engine.session)
        or len(engine.reads)
        or journal.syncing
        or journal._pending
        or engine._revision_waiters._waiting
        or engine._closed
        or engine.failed is not None
        or not engine.admission.done
        or not engine._disk.well
        or now < engine._drain_until
        or now - engine._ticked_at > STALL_SECONDS
        or snapshots._feeds
        or snapshots._wanted
    ):
        return False
    bounds = engine._bounds
    grown = core.applied_index - snapshots.index
    if grown >= bounds.snapshot_log_entries or journal.entry_bytes >= bounds.snapshot_log_bytes:
        return False
    if core.commit_index > core.applied_index or (core.term, core.leader_id) != engine._seen:
        return False
    if now - core._SyncObj__startTime > core._SyncObj__numOneSecondDumps or not core.peers():
        return False
    if core.role != "leader":
        return bool(now <= core._SyncObj__raftElectionDeadline)
    return _leader_is_quiet(engine, now)


def _leader_is_quiet(engine: Engine, now: float) -> bool:
    core, leadership = engine.core, engine.leadership
    confirmations, clock = leadership.confirmations, leadership._clock
    if now > core._SyncObj__newAppendEntriesTime or not core.leader_ready or clock is None:
        return False
    if len(leadership.orderer) or leadership.resigned is not None or confirmations._waiting or confirmations._rounds:
        return False
    if core.commit_index < engine.journal.last_index or core.commit_index > leadership.announced_commit:
        return False
    if engine.registry.lease_count and (now - clock._counted_to) * 1000 >= leadership._lease_step_ms:
        return False
    # Whether it still has a majority is asked at each tick too.
    deadline = now - engine._timing.election_timeout_ms_min / 1000
    heard = sum(1 for answered in core._SyncObj__lastResponseTime.values() if answered > deadline)
    return heard + 1 >= core._quorum
