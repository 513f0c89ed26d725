"""The audit of promises against syncs, on traces made of the node's own records and frames: it accepts the right order
and finds each wrong one."""

from __future__ import annotations

import pytest

from artemis.consensus import records, wire
from artemis.consensus.frames import FrameWriter
from artemis.consensus.freshness import TimeProof
from artemis.consensus.records import Record, Reset, Truncate, Vote
from artemis.consensus.wire import AppendEntries, AppendReply, LogEntry, Message, VoteGranted, VoteRequest
from jepsen_lite.promises import Audit, Findings
from jepsen_lite.strace import TraceError, calls

JOURNAL = "/data/n1/journal-000000000001.log"
PEERS = {7002: "n2", 7003: "n3"}
LOOP, DISK = 100, 101
PROOF = TimeProof(0, 0, 0)


def hexed(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


class Trace:
    """Writes lines as strace prints them, in the order of the calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._frames = {port: FrameWriter(None) for port in PEERS}
        self._offset = 0

    def line(self, thread: int, text: str) -> None:
        self.lines.append(f"{thread}  {text}\n")

    def write(self, *batch: Record) -> None:
        data = records.encode(batch, 0, self._offset)
        self._offset += len(data)
        self.line(DISK, f'write(15<{hexed(JOURNAL.encode())}>, "{hexed(data)}", {len(data)}) = {len(data)}')

    def sync_begins(self) -> None:
        self.line(DISK, f"fdatasync(15<{hexed(JOURNAL.encode())}> <unfinished ...>")

    def sync_ends(self, result: str = "0") -> None:
        self.line(DISK, f"<... fdatasync resumed>) = {result}")

    def sync(self) -> None:
        self.line(DISK, f"fdatasync(15<{hexed(JOURNAL.encode())}>) = 0")

    def send(self, message: Message, port: int = 7002) -> None:
        data = self.frame(message, port)
        self.line(LOOP, f'write(18<{self.socket(port)}>, "{hexed(data)}", {len(data)}) = {len(data)}')

    def frame(self, message: Message, port: int = 7002) -> bytes:
        payload = wire.encode(message)
        return self._frames[port].head(payload) + payload

    @staticmethod
    def socket(port: int = 7002) -> str:
        return f"TCP:[127.0.0.1:33114->127.0.0.1:{port}]"

    def findings(self, *, syncs: bool = True) -> Findings:
        return Audit("n1", PEERS, syncs=syncs).feed(calls(self.lines))


def reply(last: int, term: int = 1) -> AppendReply:
    return AppendReply(term=term, next_index=last + 1, success=True, reset=False, proof=PROOF)


def entries(commit_index: int, term: int = 1) -> AppendEntries:
    return AppendEntries(
        term=term, commit_index=commit_index, prev_index=commit_index, prev_term=term, entries=(), proof=PROOF
    )


def entry(index: int, term: int = 1) -> LogEntry:
    return (b"command", index, term)


@pytest.fixture
def trace() -> Trace:
    """A follower of term 1 whose entries up to 10 are on disk, as it has just said."""
    made = Trace()
    made.send(reply(10))
    return made


def test_promises_behind_their_sync_are_accepted_and_counted(trace: Trace) -> None:
    trace.write(entry(11), entry(12))
    trace.sync()
    trace.send(reply(12))
    trace.write(Vote(2, None))
    trace.sync()
    trace.write(Vote(2, "n2"))
    trace.sync()
    trace.send(VoteGranted(term=2))
    trace.write(Truncate(12), entry(12, term=2))
    trace.sync()
    trace.send(reply(12, term=2))
    trace.write(Vote(3, "n1"))
    trace.sync()
    trace.send(VoteRequest(term=3, last_index=12, last_term=2, transfer=False), port=7003)
    trace.send(entries(12, term=3), port=7003)
    trace.write(Reset((entry(40, 3), entry(41, 3))))
    trace.sync()
    trace.send(reply(41, term=3))
    findings = trace.findings()
    assert findings.broken == []
    assert findings.audited == {"acknowledgement": 3, "vote": 1, "candidacy": 1, "commit index": 1}
    assert len(trace.findings(syncs=False).broken) >= 6


def test_entries_may_leave_before_they_are_on_disk_and_failures_promise_nothing(trace: Trace) -> None:
    trace.write(entry(11))
    trace.send(entries(10))
    trace.send(AppendReply(term=1, next_index=30, success=False, reset=True, proof=PROOF))
    assert trace.findings().broken == []


def test_an_acknowledgement_between_write_and_sync_is_found(trace: Trace) -> None:
    trace.write(entry(11))
    trace.sync_begins()
    trace.send(reply(11))
    trace.sync_ends()
    assert trace.findings().broken == ["n1: acknowledgement of entry 11 left when the last entry on disk was 10"]


def test_an_acknowledgement_before_the_write_is_found(trace: Trace) -> None:
    trace.send(reply(11))
    assert len(trace.findings().broken) == 1


def test_an_acknowledgement_after_a_failed_sync_is_found(trace: Trace) -> None:
    trace.write(entry(11))
    trace.sync_begins()
    trace.sync_ends("-1 EIO (Input/output error)")
    trace.send(reply(11))
    assert len(trace.findings().broken) == 1


def test_a_sync_covers_only_what_was_written_before_it_began(trace: Trace) -> None:
    trace.write(entry(11))
    trace.sync_begins()
    data = records.encode([entry(12)], 0, 0)
    trace.line(LOOP, f'pwrite64(15<{hexed(JOURNAL.encode())}>, "{hexed(data)}", {len(data)}, 99) = {len(data)}')
    trace.sync_ends()
    trace.send(reply(11))
    trace.send(reply(12))
    assert trace.findings().broken == ["n1: acknowledgement of entry 12 left when the last entry on disk was 11"]


def test_a_send_that_begins_before_the_sync_ends_is_found(trace: Trace) -> None:
    trace.write(entry(11))
    trace.sync_begins()
    data = trace.frame(reply(11))
    trace.line(LOOP, f'write(18<{trace.socket()}>, "{hexed(data)}", {len(data)} <unfinished ...>')
    trace.sync_ends()
    trace.line(LOOP, f"<... write resumed>) = {len(data)}")
    assert len(trace.findings().broken) == 1


def test_a_conflict_replaced_but_not_synced_is_not_covered_by_what_was_there(trace: Trace) -> None:
    """Entries 9 and 10 are on disk, but of the old leader: acknowledging the new ones needs a new sync."""
    trace.write(Vote(2, None))
    trace.sync()
    trace.write(Truncate(9), entry(9, 2), entry(10, 2))
    trace.send(reply(10, term=2))
    trace.sync()
    assert trace.findings().broken == ["n1: acknowledgement of entry 10 left before entry 9 was synced"]


def test_a_conflict_acknowledged_before_it_was_even_written_is_found(trace: Trace) -> None:
    trace.write(Vote(2, None))
    trace.sync()
    trace.send(reply(10, term=2))
    trace.write(Truncate(9), entry(9, 2), entry(10, 2))
    trace.sync()
    assert "n1: entry 9 was written after it was acknowledged in term 2" in trace.findings().broken


def test_votes_before_their_sync_are_found(trace: Trace) -> None:
    trace.write(Vote(2, "n2"))
    trace.send(VoteGranted(term=2))
    trace.sync()
    trace.send(VoteGranted(term=2), port=7003)
    trace.send(VoteRequest(term=3, last_index=10, last_term=1, transfer=False))
    assert trace.findings().broken == [
        "n1: vote of term 2 for n2 left before it was on disk",
        "n1: vote of term 2 for n3 left before it was on disk",
        "n1: candidacy of term 3 for n1 left before it was on disk",
    ]


def test_a_term_that_is_not_on_disk_is_found(trace: Trace) -> None:
    trace.send(reply(10, term=2))
    assert trace.findings().broken == ["n1: a message of term 2 left when the term on disk was 1"]


def test_a_commit_index_beyond_the_leaders_own_disk_is_found(trace: Trace) -> None:
    trace.write(entry(11))
    trace.send(entries(11))
    assert trace.findings().broken == ["n1: commit index of entry 11 left when the last entry on disk was 10"]


def test_frames_cut_by_short_writes_and_gathered_ones_are_read(trace: Trace) -> None:
    first, second = trace.frame(reply(10)), trace.frame(reply(11))
    whole = first + second
    parts = (
        f'{{iov_base="{hexed(first)}", iov_len={len(first)}}}, {{iov_base="{hexed(second)}", iov_len={len(second)}}}'
    )
    trace.line(LOOP, f"writev(18<{trace.socket()}>, [{parts}], 2) = {len(first) + 5}")
    rest = whole[len(first) + 5 :]
    trace.line(LOOP, f'sendto(18<{trace.socket()}>, "{hexed(rest)}", {len(rest)}, 0, NULL, 0) = {len(rest)}')
    findings = trace.findings()
    assert findings.audited["acknowledgement"] == 2
    assert len(findings.broken) == 1


def test_a_handshake_at_the_start_of_a_connection_is_passed_over() -> None:
    trace = Trace()
    hello = b"ARTMLINK" + b"\x00\x01" + b"\x00\x04" + b"body"
    for data in (hello, b"\x01" * 32, trace.frame(reply(10)), trace.frame(reply(11))):
        trace.line(LOOP, f'write(18<{trace.socket()}>, "{hexed(data)}", {len(data)}) = {len(data)}')
    assert len(trace.findings().broken) == 1


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x02tagg\xc1\xc1", b"\xff" * 16])
def test_bytes_that_are_no_frames_end_the_audit(trace: Trace, data: bytes) -> None:
    trace.line(LOOP, f'write(18<{trace.socket()}>, "{hexed(data)}", {len(data)}) = {len(data)}')
    with pytest.raises(TraceError):
        trace.findings()


def test_a_string_that_strace_has_shortened_ends_the_audit(trace: Trace) -> None:
    trace.line(LOOP, f'write(18<{trace.socket()}>, "{hexed(b"abc")}"..., 400) = 400')
    with pytest.raises(TraceError):
        trace.findings()


def test_other_files_connections_and_lines_are_not_looked_at(trace: Trace) -> None:
    trace.line(LOOP, f'write(9<{hexed(b"/data/n1/lock")}>, "{hexed(b"1")}", 1) = 1')
    trace.line(LOOP, f'write(21<TCP:[127.0.0.1:8080->127.0.0.1:5]>, "{hexed(b"HTTP/1.1")}", 8) = 8')
    trace.line(LOOP, "<... write resumed>) = 1")
    trace.line(DISK, "+++ exited with 0 +++")
    assert trace.findings().broken == []
