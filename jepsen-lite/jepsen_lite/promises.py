"""Was it on disk before it was promised? The verdict on one node's trace, a pure function of its system calls.

What a node tells another about its log or its vote must be on its disk when the first byte of it leaves, that is when
the ``write`` on the socket begins: the ``fdatasync`` that covers it has returned 0 by then.

- ``AppendReply(success)``: every entry below ``next_index``, and the term. A record that rewrites one of those entries
  later in the same term shows a reply that came before even the write.
- ``VoteGranted``: the vote for the one it is sent to. ``VoteRequest``: the vote for the node itself.
- ``AppendEntries``: its ``commit_index``, because the leader counts itself only with what it has on disk.

The journal's records and the links' frames are decoded here a second time, from their description (``records``,
``frames`` and ``wire`` in ``consensus``): a mistake in the node's own code must not hide itself. Only links without a
secret can be read. What was on disk when the trace began is believed.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from jepsen_lite.strace import Call, TraceError

_RECORD = struct.Struct("<IBI")
_INDEX = struct.Struct("<Q")
_ENTRY, _TRUNCATE, _VOTE, _RESET = 2, 3, 4, 6
_FRAME = struct.Struct(">II")
_APPEND_ENTRIES, _APPEND_REPLY, _VOTE_REQUEST, _VOTE_GRANTED = 1, 2, 3, 4
_SYNCS = ("fsync", "fdatasync")
_JOURNAL = re.compile(r"/journal-\d+\.log$")
_CONNECTION = re.compile(r"^TCP(?:v6)?:\[.*->.*:(\d+)\]$")
_HELLO: Final = b"ARTMLINK"
_PROOF_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Record:
    """What the audit needs of a journal record: the lowest index it changes, or a term and vote."""

    index: int | None = None
    last: int | None = None
    """The last index of the log behind it."""
    vote: tuple[int, str | None] | None = None


@dataclass(frozen=True, slots=True)
class _Disk:
    """What is written, and which part of it is synced. Immutable: a send keeps the one it began with."""

    last: int | None = None
    """The last entry on disk. None: the trace has not told yet."""
    term: int | None = None
    votes: frozenset[tuple[int, str | None]] = frozenset()
    pending: tuple[_Record, ...] = ()
    """Written and not synced, in order."""

    def synced(self, count: int) -> _Disk:
        disk = self
        for record in self.pending[:count]:
            if record.vote is not None:
                disk = replace(disk, term=record.vote[0], votes=disk.votes | {record.vote})
            else:
                disk = replace(disk, last=record.last)
        return replace(disk, pending=self.pending[count:])


@dataclass(slots=True)
class Findings:
    """``audited``: promises of each kind that could be judged. ``broken``: those that came too early."""

    audited: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


class Audit:
    """Feed it a node's calls in order; ``findings`` grows. ``peers``: Raft port -> node id of the others.

    ``syncs=False`` treats every sync as if it had failed: an audit that then finds nothing has seen nothing.
    Raises ``TraceError`` on bytes that are neither records nor frames.
    """

    def __init__(self, node: str, peers: Mapping[int, str], *, syncs: bool = True) -> None:
        self.findings = Findings()
        self._node = node
        self._peers = peers
        self._syncs = syncs
        self._disk = _Disk()
        self._written_term: int | None = None
        self._base_term: int | None = None
        self._begun: dict[int, tuple[_Disk, int]] = {}
        """Per thread, of a send: the disk and the number of records written when it began."""
        self._covered: dict[int, int] = {}
        """Per thread, of a sync: how many pending records it covers."""
        self._touched: list[tuple[int, int | None]] = []
        """(lowest index, term) of each record that changed the log, in order."""
        self._claimed: dict[int, int] = {}
        """Per term, the highest entry acknowledged."""
        self._streams: dict[str, bytearray] = {}

    def feed(self, calls: Iterable[Call]) -> Findings:
        for call in calls:
            if _JOURNAL.search(call.target):
                self._on_journal(call)
            elif (peer := self._peer_of(call.target)) is not None and call.name not in _SYNCS:
                if call.moment == "begin":
                    self._begun[call.thread] = (self._disk, len(self._touched))
                elif call.result > 0:
                    self._on_sent(call, peer, *self._begun.pop(call.thread))
        return self.findings

    def _peer_of(self, target: str) -> str | None:
        found = _CONNECTION.match(target)
        return self._peers.get(int(found[1])) if found is not None else None

    # The disk.

    def _on_journal(self, call: Call) -> None:
        if call.name in _SYNCS:
            if call.moment == "begin":
                self._covered[call.thread] = len(self._disk.pending)
            elif call.result == 0 and self._syncs:
                self._disk = self._disk.synced(self._covered.pop(call.thread))
        elif call.moment == "end" and call.result > 0:
            stream = self._streams.setdefault(call.target, bytearray())
            stream += call.data[: call.result]
            for record in _records(stream):
                self._on_record(record)

    def _on_record(self, record: _Record) -> None:
        if record.vote is not None:
            self._written_term = record.vote[0]
            if self._base_term is None:
                self._base_term = record.vote[0] - 1
        elif record.index is not None:
            if self._disk.last is None:
                self._disk = replace(self._disk, last=record.index - 1)
            self._touched.append((record.index, self._written_term))
            for term, last in self._claimed.items():
                if record.index <= last and term == self._term_or(term):
                    self._broken(f"entry {record.index} was written after it was acknowledged in term {term}")
        self._disk = replace(self._disk, pending=(*self._disk.pending, record))

    def _term_or(self, term: int) -> int:
        return term if self._written_term is None else self._written_term

    # The promises.

    def _on_sent(self, call: Call, peer: str, disk: _Disk, written: int) -> None:
        stream = self._streams.setdefault(call.target, bytearray())
        stream += call.data[: call.result]
        for message in _frames(stream):
            match message:
                case [int(kind), int(term), *rest] if kind in (
                    _APPEND_ENTRIES,
                    _APPEND_REPLY,
                    _VOTE_REQUEST,
                    _VOTE_GRANTED,
                ):
                    self._judge(kind, term, rest, peer, disk, written)

    def _judge(self, kind: int, term: int, rest: list[object], peer: str, disk: _Disk, written: int) -> None:
        if self._base_term is None:
            self._base_term = term - 1 if kind == _VOTE_REQUEST else term
        if kind in (_VOTE_GRANTED, _VOTE_REQUEST):
            self._judge_vote(kind, term, peer, disk)
            return
        if term > self._base_term and (disk.term is None or disk.term < term):
            self._broken(f"a message of term {term} left when the term on disk was {disk.term or self._base_term}")
        index = rest[0]
        if not isinstance(index, int):
            raise TraceError(f"no index in a message of kind {kind}")
        if kind == _APPEND_ENTRIES:
            self._judge_index("commit index", index, term, disk, written)
        elif rest[1] is True:
            self._judge_index("acknowledgement", index - 1, term, disk, written)
            self._claimed[term] = max(index - 1, self._claimed.get(term, 0))

    def _judge_vote(self, kind: int, term: int, peer: str, disk: _Disk) -> None:
        assert self._base_term is not None
        if term <= self._base_term:
            return
        name, voted_for = ("vote", peer) if kind == _VOTE_GRANTED else ("candidacy", self._node)
        self.findings.audited[name] += 1
        if (term, voted_for) not in disk.votes:
            self._broken(f"{name} of term {term} for {voted_for} left before it was on disk")

    def _judge_index(self, name: str, index: int, term: int, disk: _Disk, written: int) -> None:
        if disk.last is None:
            if self._disk.last is None:
                self._disk = replace(self._disk, last=index)
            return
        self.findings.audited[name] += 1
        if index > disk.last:
            self._broken(f"{name} of entry {index} left when the last entry on disk was {disk.last}")
            return
        if term != self._term_or(term):
            return  # late news of an earlier term: what is pending now was not part of it
        changed = [record.index for record in disk.pending if record.index is not None]
        changed += [touched for touched, of in self._touched[written:] if of in (None, term)]
        if any(one <= index for one in changed):
            self._broken(f"{name} of entry {index} left before entry {min(changed)} was synced")

    def _broken(self, text: str) -> None:
        self.findings.broken.append(f"{self._node}: {text}")


def _records(stream: bytearray) -> Iterable[_Record]:
    """Take the whole records out of a journal's bytes."""
    while len(stream) >= _RECORD.size:
        size, kind, _checksum = _RECORD.unpack_from(stream)
        if not 1 <= kind <= 9:
            raise TraceError(f"a journal record of kind {kind}")
        end = _RECORD.size + size
        if len(stream) < end:
            return
        payload = bytes(stream[_RECORD.size : end])
        del stream[:end]
        if kind == _ENTRY:
            index = _INDEX.unpack_from(payload)[0]
            yield _Record(index=index, last=index)
        elif kind == _TRUNCATE:
            index = _INDEX.unpack_from(payload)[0]
            yield _Record(index=index, last=index - 1)
        elif kind == _VOTE:
            term, voted_for = msgspec.msgpack.decode(payload, type=tuple[int, str | None])
            yield _Record(vote=(term, voted_for))
        elif kind == _RESET:
            entries = msgspec.msgpack.decode(payload, type=list[tuple[bytes, int, int]])
            yield _Record(index=0, last=entries[-1][1] if entries else 0)


def _frames(stream: bytearray) -> Iterable[object]:
    """Take the whole frames out of a connection's bytes. A trace that saw it begin starts with the handshake."""
    if stream.startswith(_HELLO):
        hello_bytes = len(_HELLO) + 4 + int.from_bytes(stream[10:12], "big")
        if len(stream) < hello_bytes + _PROOF_BYTES:
            return
        del stream[: hello_bytes + _PROOF_BYTES]
    while len(stream) >= _FRAME.size:
        size, _tag = _FRAME.unpack_from(stream)
        end = _FRAME.size + size
        if not 0 < size <= 8 * 1024 * 1024:
            raise TraceError(f"a frame of {size} bytes")
        if len(stream) < end:
            return
        payload = bytes(stream[_FRAME.size : end])
        del stream[:end]
        try:
            yield msgspec.msgpack.decode(payload)
        except (msgspec.DecodeError, ValueError) as exc:
            raise TraceError(f"a frame that is no message: {exc}") from exc
