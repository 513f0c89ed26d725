"""Planted bugs in the journal, snapshots, admission, and what a node does about a bad disk."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from artemis import snapshot
from artemis.consensus import engine, journal, records, recovery, segments
from artemis.consensus.admission import Admission
from artemis.consensus.core import RaftCore
from artemis.consensus.disk import FileDisk
from artemis.consensus.diskwatch import DiskWatch
from artemis.consensus.elections import Elections
from artemis.consensus.journal import Journal
from artemis.consensus.ports import Disk, DiskQueue
from artemis.consensus.records import Bad, Record, Start, Vote
from artemis.consensus.segments import SegmentWriter
from artemis.consensus.snapshots import SnapshotStore
from artemis.consensus.snapshotting import Snapshotting
from artemis.consensus.timing import Bounds
from artemis.consensus.wire import SnapshotChunk, SnapshotReply
from artemis.registry import FrozenState
from tests.simulation.disk import SimFile
from tests.simulation.mutant import Named, Seeds, faults, mutant

DAMAGE = "property/test_journal_damage.py::test_"
SNAPSHOTTING = "simulation/test_snapshotting.py::test_"
ADMISSION = "simulation/test_admission.py::test_"
OFTEN = Bounds(snapshot_log_entries=30, snapshot_trailing_entries=1, snapshot_chunk_bytes=512)

LOST = "refuses to start|had told others|lacks it|without the|on the disks of|stops itself"

# the journal


@mutant("D1", "segments.SegmentWriter.append", Seeds(faults("power-cut", "power-cut-all"), LOST))
def never_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimFile, "sync", lambda self: None)


@mutant(
    "D4", "journal.Journal.setCurrentTerm", Seeds(faults("kill"), "had told others of term|after voting for", known=10)
)
def do_not_write_votes(patch: pytest.MonkeyPatch) -> None:
    guarded = Journal._remember

    def forgetful(self: Journal, record: Record, low: int) -> None:
        if not isinstance(record, Vote):
            guarded(self, record, low)

    patch.setattr(Journal, "_remember", forgetful)


@mutant("D3", "recovery.recover", Named(DAMAGE + "what_is_written_after_a_cut_is_all_that_is_read_later"))
def leave_a_torn_end_where_it_is(patch: pytest.MonkeyPatch) -> None:
    guarded = recovery._Replay.segment

    def keeping(self: Any, number: int, cluster: str, node_id: str) -> None:
        guarded(self, number, cluster, node_id)
        self.newest_bytes = self._disk.read(segments.segment_name(number))

    patch.setattr(recovery._Replay, "segment", keeping)


@mutant(
    "D3",
    "recovery._Replay._cut_or_refuse",
    Named(DAMAGE + "every_flipped_bit_is_refused_or_cuts_only_what_no_mark_covers"),
)
def cut_a_damaged_middle(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "find_mark", lambda data, seed, offset: None)


@mutant("D3", "records.decode", Named("unit/test_records.py::test_no_flipped_bit_and_no_shorter_prefix_decodes"))
def believe_any_checksum(patch: pytest.MonkeyPatch) -> None:
    def trusting(data: bytes, seed: int, offset: int) -> tuple[int, bytes, int] | Bad:
        if offset + 9 > len(data):
            return Bad("the file ends inside a record")
        size, kind, _ = records._FRAME.unpack_from(data, offset)
        end = offset + 9 + size
        return (kind, data[offset + 9 : end], end) if end <= len(data) else Bad("the file ends inside a record")

    patch.setattr(records, "_unframe", trusting)


@mutant(
    "D3",
    "recovery.recover",
    Named(
        "unit/test_journal.py::test_what_a_failed_sync_left_in_memory_is_written_again_before_it_is_vouched_for",
        sees="DataDamaged",
    ),
)
def trust_what_reads_back_after_a_failed_sync(patch: pytest.MonkeyPatch) -> None:
    guarded = segments.write_aside

    def cutting(disk: Disk, name: str, data: bytes) -> None:
        if name in disk.names():
            disk.truncate(name, len(data))
        else:
            guarded(disk, name, data)

    patch.setattr(recovery, "write_aside", cutting)


@mutant(
    "D8",
    "diskwatch.DiskWatch.sync",
    Named("simulation/test_disk_faults.py::test_what_was_promised_before_the_fault_survives_a_power_cut_after_it"),
)
def sync_again_in_place(patch: pytest.MonkeyPatch) -> None:
    def retry(self: Any, queue: DiskQueue, done: Any) -> None:
        if self.syncing:
            return
        writer = self._writer
        self.syncing, self.failure, writer._failure = True, None, None
        batch, self._pending = self._pending, []
        queue.submit(partial(writer.append, batch), partial(self._synced, self.lsn, done))

    patch.setattr(Journal, "repair", retry)


@mutant(
    "D8",
    "engine.Engine._take_part",
    Named("simulation/test_disk_faults.py::test_a_leader_with_a_failing_disk_makes_way_and_comes_back"),
)
def lead_with_a_disk_that_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DiskWatch, "well", property(lambda self: True))


@mutant(
    "D6",
    "segments.SegmentWriter.append",
    Named("unit/test_journal.py::test_nothing_is_deleted_before_the_base_is_on_disk"),
)
def delete_segments_before_the_base_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    guarded = SegmentWriter.append

    def eager(self: Any, batch: list[Record]) -> Any:
        self._tracker.follow([record for record in batch if type(record) is not tuple])
        self.drop_dead_segments()
        return guarded(self, batch)

    patch.setattr(SegmentWriter, "append", eager)


@mutant(
    "D7, H", "journal.Journal.getRaftCommitIndex", Seeds(faults("kill", "isolate"), "on the disks of|another entry")
)
def start_with_everything_committed(patch: pytest.MonkeyPatch) -> None:
    guarded = RaftCore.restore

    def trusting(self: Any, index: int) -> None:
        guarded(self, max(index, self._journal.last_index))

    patch.setattr(Journal, "getRaftCommitIndex", lambda self: self.last_index or 1)


@mutant("N6", "disk.FileDisk.lock", Named("unit/test_disk.py::test_the_lock_keeps_others_out_until_it_is_released"))
def let_two_processes_share_a_directory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FileDisk, "lock", lambda self: None)
    patch.setattr(FileDisk, "unlock", lambda self: None)


# snapshots


@mutant(
    "D6",
    "snapshotting.Snapshotting._taken",
    Seeds(faults("kill-in-disk-job", "snapshot", bounds=OFTEN, every=0.2), "refuses to start", known=2),
)
def drop_the_log_before_its_snapshot_is_written(patch: pytest.MonkeyPatch) -> None:
    guarded = Snapshotting.take

    def eager(self: Snapshotting) -> None:
        guarded(self)
        keep_from = self._host.core.applied_index - 1
        if self._store.writing and keep_from > self._host.journal.first_index:
            self._host.core.drop_prefix(keep_from)

    patch.setattr(Snapshotting, "take", eager)


@mutant("D6", "snapshotting.Snapshotting.recover", Seeds(faults("kill", "snapshot", bounds=OFTEN), LOST))
def drop_the_log_behind_the_snapshot_at_start(patch: pytest.MonkeyPatch) -> None:
    guarded = Snapshotting.recover

    def resetting(self: Snapshotting) -> None:
        guarded(self)
        header = self._store.latest
        if header is not None:
            self._host.journal.reset([header.previous, header.last])

    patch.setattr(Snapshotting, "recover", resetting)


@mutant(
    "E",
    "snapshots.SnapshotStore._publish",
    Named(
        "unit/test_snapshots.py::test_a_crash_at_every_disk_operation_leaves_the_old_or_the_new_one_whole",
        sees="LookupError: there is no snapshot",
    ),
)
def rename_a_snapshot_without_syncing_its_directory(patch: pytest.MonkeyPatch) -> None:
    def publish(self: SnapshotStore, temporary: str, header: Any) -> bool:
        self._disk.rename(temporary, f"snapshot-{header.index:020d}-{header.term:020d}.bin")
        self._newest_index = header.index
        return True

    patch.setattr(SnapshotStore, "_publish", publish)


@mutant(
    "E4",
    "snapshotting.Snapshotting._has",
    Named(SNAPSHOTTING + "an_older_snapshot_over_a_newer_state_is_answered_and_not_installed"),
)
def install_an_older_snapshot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Snapshotting, "_has", lambda self, index, term: False)


@mutant(
    "E",
    "snapshotting.Snapshotting._install",
    Named(SNAPSHOTTING + "a_crash_at_any_disk_operation_of_an_install_is_survived"),
)
def acknowledge_a_snapshot_before_it_is_installed(patch: pytest.MonkeyPatch) -> None:
    guarded = Snapshotting.on_chunk

    def hasty(self: Snapshotting, peer: str, chunk: SnapshotChunk) -> None:
        if chunk.offset + len(chunk.data) >= chunk.total:
            self._host.send(peer, SnapshotReply(self._host.core.term, chunk.index, chunk.total))
        guarded(self, peer, chunk)

    patch.setattr(Snapshotting, "on_chunk", hasty)


@mutant("P2", "snapshot.encode", Named("unit/test_snapshot.py::test_every_part_comes_back"))
def leave_the_sessions_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    guarded = snapshot.encode

    def partial_state(frozen: FrozenState) -> Any:
        return guarded(frozen._replace(sessions={}))

    patch.setattr(snapshot, "encode", partial_state)


# who takes part


@mutant(
    "J4",
    "admission.Admission.done",
    Named(ADMISSION + "a_rejoining_member_helps_nobody_who_lacks_what_it_acknowledged"),
)
def let_a_wiped_member_take_part(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Admission, "done", property(lambda self: True))


@mutant("J4", "admission.Admission.on_reply", Named(ADMISSION + "a_member_whose_data_is_gone_does_not_start"))
def rejoin_without_the_operators_word(patch: pytest.MonkeyPatch) -> None:
    guarded = Admission.__init__
    patch.setattr(Admission, "__init__", lambda self, host, rejoin: guarded(self, host, rejoin=True))


@mutant(
    "J4",
    "admission.Admission._rejoin_if_complete",
    Named(ADMISSION + "a_rejoining_member_hears_of_all_before_it_has_a_vote"),
)
def rejoin_before_all_were_heard(patch: pytest.MonkeyPatch) -> None:
    def at_once(self: Any) -> None:
        if self._has_state:
            self._host.journal.admit({**self._founders, self._host.node_id: self._host.journal.journal_id})

    patch.setattr(Admission, "_rejoin_if_complete", at_once)


@mutant(
    "J4",
    "elections.Elections.adopt_term",
    Named("simulation/test_worst_moments.py::test_a_rejoined_member_has_no_vote_left_in_the_term_it_took_over"),
)
def rejoin_with_a_free_vote(patch: pytest.MonkeyPatch) -> None:
    def adopt(self: Elections, term: int, leader: str) -> None:
        if term > self.term:
            self._raft.enter_term(term, None)

    patch.setattr(Elections, "adopt_term", adopt)


@mutant(
    "P2",
    "journal._start_above",
    Named("unit/test_journal.py::test_starts_on_a_disk_and_on_the_one_that_replaced_it_have_other_numbers"),
)
def number_starts_without_chance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journal, "_start_above", lambda number, drawn: Start(number + 1))


@mutant("I", "admission.refuse_other_members", Named(ADMISSION + "data_of_another_set_of_members_is_refused"))
def take_data_of_another_set_of_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "refuse_other_members", lambda journal, members: None)
