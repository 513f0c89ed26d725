"""The engine's numbers: what each means, its unit, and how it must relate to the others."""

from __future__ import annotations

from dataclasses import dataclass

from artemis.errors import InvalidInput
from artemis.leases import LEASE_STAMP_ERROR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times in milliseconds.

    A follower campaigns when it heard no leader for a random time between the two election timeouts. The spread keeps
    two followers from campaigning together; the lower bound must survive a few lost or late heartbeats.
    """

    heartbeat_ms: int = 100
    election_timeout_ms_min: int = 500
    election_timeout_ms_max: int = 1000
    timer_ms: int = 20
    """How often elections, deadlines and clock steps are looked at when no message arrives."""
    lease_step_ms: int = 150
    """While leases exist the lease clock moves at least this often, else expiry would wait for traffic. With
    ``timer_ms`` below the error of stamps, which is what a new leader may credit (``leaseclock``)."""

    def validate(self) -> None:
        if self.heartbeat_ms < 10:
            raise InvalidInput("heartbeat_ms", f"{self.heartbeat_ms} is below 10")
        if self.election_timeout_ms_min <= 3 * self.heartbeat_ms:
            raise InvalidInput(
                "election_timeout_ms_min",
                f"{self.election_timeout_ms_min} must be more than three heartbeats ({3 * self.heartbeat_ms})",
            )
        if self.election_timeout_ms_max <= self.election_timeout_ms_min:
            raise InvalidInput(
                "election_timeout_ms_max",
                f"{self.election_timeout_ms_max} must be more than election_timeout_ms_min"
                f" ({self.election_timeout_ms_min})",
            )
        if self.lease_step_ms + self.timer_ms >= LEASE_STAMP_ERROR_MS:
            raise InvalidInput(
                "lease_step_ms",
                f"{self.lease_step_ms} with timer_ms ({self.timer_ms}) must be below {LEASE_STAMP_ERROR_MS}",
            )


ENTRY_OVERHEAD_BYTES = 1024
"""What an entry has besides its proposals, and more."""

APPEND_BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Half a frame (``wire.FRAME_BYTES_MAX``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What may pile up, and where it ends."""

    entry_bytes: int = 256 * 1024
    """The leader closes an entry at this size (one larger proposal still fits alone)."""
    entry_proposals: int = 4096
    command_bytes_max: int = 1024 * 1024
    """Largest encoded proposal. With ``entry_bytes`` it keeps every entry below one append_entries batch (core)."""
    entries_in_flight: int = 2
    """Entries the leader has appended and not yet applied. Two keep the disk busy while the first is acknowledged;
    more would only make batches smaller."""
    pending_proposals: int = 20_000
    pending_bytes: int = 64 * 1024 * 1024
    """Unfinished proposals of one node's session; beyond them ``propose`` is refused."""
    waiting_reads: int = 50_000
    append_window_bytes: int = 8 * 1024 * 1024
    """Log bytes sent to a follower and not yet acknowledged. Below the transport's own bound, so that catching up
    never resets the link it catches up on."""
    snapshot_log_entries: int = 50_000
    snapshot_log_bytes: int = 16 * 1024 * 1024
    """A snapshot is taken when the log has grown beyond either, the bytes also beyond those of the last snapshot: so
    the log, which is held in memory and applied again at a start, is not longer than that, and a large state is not
    written over and over. 16 MiB are some 130,000 registrations, or a second of applying."""
    snapshot_trailing_entries: int = 5_000
    """Entries kept behind a snapshot, so that a follower that was away shortly needs no snapshot; in bytes at most a
    quarter of ``snapshot_log_bytes``."""
    apply_bytes: int = 128 * 1024
    """Log bytes applied in one turn (and one entry, whatever its size): some 1,000 registrations, 5 to 10 ms."""
    snapshot_chunk_bytes: int = 256 * 1024
    append_batch_bytes: int = 2 * 1024 * 1024
    """Log bytes in one append_entries, unless a single entry is larger. PySyncObj would cut an entry of this size into
    pickled pieces, so it lies above every entry (``command_bytes_max``, ``entry_bytes``), and below a frame."""
    reread_records_per_second: int = 10_000
    """How many records are read again to find damaged ones (``digests``): about 1.2 % of a core."""

    def validate(self) -> None:
        largest = max(self.entry_bytes, self.command_bytes_max) + ENTRY_OVERHEAD_BYTES
        if not largest < self.append_batch_bytes <= APPEND_BATCH_BYTES_MAX:
            raise InvalidInput(
                "append_batch_bytes",
                f"{self.append_batch_bytes} must be more than the largest entry ({largest})"
                f" and at most {APPEND_BATCH_BYTES_MAX}",
            )
