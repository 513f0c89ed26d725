"""Checks in linear time that the order the servers themselves give explains everything the clients saw.

Every answer names the revision of the state it came from, and the nodes can show their applied logs. Together that is
an order of all operations on all keys; what is left to do is to check it:

- **disagreement**: two nodes have applied different entries at one index.
- **lost**: an acknowledged write is not in the log. **done-after-all**: one that failed for certain is.
- **wrong-answer**: replayed through the specification, a write answers something else than what its client was told.
- **out-of-order**: of two operations, one of which ended before the other began, the second has the earlier place.
- **stale-read**, **from-the-future**: the same for a read, which lacks or has what it must or cannot.
- **wrong-content**: a read shows something else than the state of its revision. **torn**: its revision lies inside an
  entry, so it shows a part of what had to appear together.
- **below-minimum**: a session read is older than what its client asked for.

If nothing of this is found, then writes in log order, with each read behind the last write of its revision, are a
linearization of the whole history; indeterminate writes that are not in the log did not happen. The logs are trusted to
be what the nodes applied, so the searches, which trust nothing, are run as well.

Intervals are closed: what begins when something else ends is concurrent with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from artemis.commands import Command, Proposal, RequestId, decode_entry
from artemis.errors import DataDamaged
from artemis.outcomes import Outcome
from jepsen_lite.linearizability.operations import Verdict
from jepsen_lite.linearizability.spec import Specification

ANOMALIES_MAX = 100

_encode = msgspec.msgpack.Encoder().encode


class Applied(msgspec.Struct, frozen=True, gc=False):
    """One entry of a node's applied log. An empty payload is an entry of the consensus itself."""

    index: int
    term: int
    payload: bytes


class Write(NamedTuple):
    """One write as its client saw it, retries included: ``call`` is that of the first attempt."""

    process: int | str
    command: Command
    request: RequestId | None
    outcome: Outcome | int | None
    """The answer, or the revision in it when no more was kept; None if it failed for certain or is indeterminate."""
    call: float
    ret: float | None
    """None: indeterminate."""

    def __str__(self) -> str:
        name = self.request.id if self.request is not None else "no request id"
        end = "?" if self.ret is None else f"{self.ret:g}"
        return f"{self.process}: {type(self.command).__name__} ({name}) [{self.call:g} .. {end}] -> {self.outcome}"


class Read(NamedTuple):
    """One answered read of one service."""

    process: int | str
    service_id: str
    seen: frozenset[str]
    """Instance ids."""
    revision: int
    linearizable: bool
    call: float
    ret: float
    min_revision: int = 0

    def __str__(self) -> str:
        level = "linearizable" if self.linearizable else "stale"
        at = f"at revision {self.revision} [{self.call:g} .. {self.ret:g}]"
        return f"{self.process}: {level} read of {self.service_id} {at}"


class Anomaly(NamedTuple):
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """``unknown``: the logs do not reach back to the beginning, or have a gap."""

    verdict: Verdict
    anomalies: tuple[Anomaly, ...] = ()
    """At most ``ANOMALIES_MAX``."""
    stats: Mapping[str, int] = field(default_factory=dict)


def check(
    logs: Mapping[str, Sequence[Applied]],
    writes: Sequence[Write],
    reads: Sequence[Read],
    *,
    first_index: int = 1,
    requests_max: int = 100_000,
    request_window_ms: int = 600_000,
) -> Certificate:
    """Judge a history by the nodes' applied logs, in any order each; ``first_index`` is where a new cluster begins."""
    log, anomalies = _merged(logs)
    missing = _first_missing(log, first_index)
    if anomalies or missing is not None:
        unusable: Verdict = "invalid" if anomalies else "unknown"
        found = anomalies or [Anomaly("no-log", f"no node can show entry {missing}")]
        return Certificate(unusable, tuple(found[:ANOMALIES_MAX]))
    replay = _Replay(writes, reads, Specification(requests_max, request_window_ms))
    for record in log:
        replay.apply(record)
    anomalies = [*replay.anomalies, *replay.at_end(), *_real_time(replay.placed(), reads)]
    anomalies += (
        Anomaly("below-minimum", f"{read}, but {read.min_revision} was asked for")
        for read in reads
        if read.revision < read.min_revision
    )
    stats = {"entries": len(log), "writes": len(writes), "reads": len(reads), "revision": replay.spec.revision}
    return Certificate("invalid" if anomalies else "valid", tuple(anomalies[:ANOMALIES_MAX]), stats)


def _merged(logs: Mapping[str, Sequence[Applied]]) -> tuple[list[Applied], list[Anomaly]]:
    """All entries that any node shows, by index, and where nodes disagree."""
    known: dict[int, tuple[Applied, str]] = {}
    anomalies = []
    for node, log in logs.items():
        for record in log:
            first, other = known.setdefault(record.index, (record, node))
            if first is not record and first != record:
                detail = (
                    f"{node} applied an entry {record.index} of term {record.term}, {other} another of {first.term}"
                )
                anomalies.append(Anomaly("disagreement", detail))
    return [known[index][0] for index in sorted(known)], anomalies


def _first_missing(log: Sequence[Applied], first_index: int) -> int | None:
    for expected, record in enumerate(log, start=first_index):
        if record.index != expected:
            return expected
    return None if log else first_index


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a write came about: the number of writes executed before it, and the revisions before and after."""

    order: int
    before: int
    after: int


class _Replay:
    """The log through the specification, with the reads looked at when their revision is there."""

    def __init__(self, writes: Sequence[Write], reads: Sequence[Read], spec: Specification) -> None:
        self.spec = spec
        self.anomalies: list[Anomaly] = []
        self._writes = writes
        self._executed = 0
        self._by_request: dict[RequestId, tuple[Outcome, _Place]] = {}
        self._unnamed: dict[bytes, list[tuple[Outcome, _Place]]] = {
            _encode(write.command): [] for write in writes if write.request is None
        }
        """Without a request id a write is known by what it asks for."""
        self._waiting = sorted(reads, key=lambda read: read.revision, reverse=True)
        self._look()

    def apply(self, record: Applied) -> None:
        if not record.payload:
            return
        try:
            entry = decode_entry(record.payload)
        except DataDamaged as exc:
            self.anomalies.append(Anomaly("disagreement", f"entry {record.index} cannot be read: {exc}"))
            return
        self.spec.advance(entry.clock_ms)
        for proposal in entry.proposals:
            self._propose(proposal)
        self.spec.expire()
        self._look()

    def _propose(self, proposal: Proposal) -> None:
        before = self.spec.revision
        done = self.spec.propose(proposal)
        if done is None or not done.executed:
            return
        place = _Place(self._executed, before, self.spec.revision)
        self._executed += 1
        if proposal.request is not None:
            self._by_request.setdefault(proposal.request, (done.outcome, place))
        elif self._unnamed:
            executed = self._unnamed.get(_encode(proposal.command))
            if executed is not None:
                executed.append((done.outcome, place))

    def _look(self) -> None:
        """Compare every read of a revision reached by now with the state; a lower one was passed inside the entry."""
        waiting, revision = self._waiting, self.spec.revision
        contents: dict[str, frozenset[str]] = {}
        while waiting and waiting[-1].revision <= revision:
            read = waiting.pop()
            if read.revision < revision:
                self.anomalies.append(Anomaly("torn", f"{read}: no entry ends there"))
                continue
            expected = contents.get(read.service_id)
            if expected is None:
                expected = contents[read.service_id] = self.spec.instance_ids(read.service_id)
            if read.seen != expected:
                detail = f"{read} has {_some(read.seen - expected)} too many and lacks {_some(expected - read.seen)}"
                self.anomalies.append(Anomaly("wrong-content", detail))

    def at_end(self) -> Iterator[Anomaly]:
        for read in self._waiting:
            yield Anomaly("from-the-future", f"{read}: the log ends at revision {self.spec.revision}")
        unnamed: Counter[bytes] = Counter()
        for write in self._writes:
            if write.request is None:
                unnamed[_encode(write.command)] += write.outcome is not None or write.ret is None
                yield from self._judge(write, self._candidates(write))
            else:
                found = self._by_request.get(write.request)
                yield from self._judge(write, [] if found is None else [found])
        for command, executed in self._unnamed.items():
            if len(executed) > unnamed[command]:
                detail = f"{len(executed)} executions of a command that {unnamed[command]} writes can account for"
                yield Anomaly("done-after-all", detail)

    def placed(self) -> Iterator[tuple[Write, _Place]]:
        """Every write that happened with its place, where the place is certain."""
        for write in self._writes:
            if write.request is not None:
                found = self._by_request.get(write.request)
                if found is not None:
                    yield write, found[1]
                continue
            fitting = [place for outcome, place in self._candidates(write) if _is_told(write, outcome)]
            if len(fitting) == 1:
                yield write, fitting[0]

    def _candidates(self, write: Write) -> list[tuple[Outcome, _Place]]:
        return self._unnamed[_encode(write.command)]

    def _judge(self, write: Write, executed: Sequence[tuple[Outcome, _Place]]) -> Iterator[Anomaly]:
        if write.outcome is not None:
            if not executed:
                yield Anomaly("lost", f"{write} is not in the log")
            elif not any(_is_told(write, outcome) for outcome, _ in executed):
                yield Anomaly("wrong-answer", f"{write}, it should have been {executed[0][0]}")
        elif write.ret is not None and write.request is not None and executed:
            yield Anomaly("done-after-all", f"{write} failed for certain and is in the log")


def _is_told(write: Write, outcome: Outcome) -> bool:
    return write.outcome == (outcome.revision if isinstance(write.outcome, int) else outcome)


def _real_time(placed: Iterable[tuple[Write, _Place]], reads: Iterable[Read]) -> Iterator[Anomaly]:
    """What ended before something else began comes before it.

    A write comes after every ended write in the log, and the state it found is not older than any ended read. A read is
    not older than any ended read or write.
    """
    operations: list[Write | Read] = []
    places: list[_Place] = []
    for write, place in placed:
        operations.append(write)
        places.append(place)
    for read in reads:
        if read.linearizable:
            operations.append(read)
            places.append(_Place(-1, read.revision, read.revision))
    calls = [operation.call for operation in operations]
    ends = [_end(operation) for operation in operations]
    by_end = sorted(range(len(ends)), key=ends.__getitem__)
    latest_write = newest = -1
    highest_order = highest_revision = -1
    position = 0
    for at in sorted(range(len(calls)), key=calls.__getitem__):
        while position < len(ends) and ends[by_end[position]] < calls[at]:
            ended = by_end[position]
            position += 1
            if places[ended].order > highest_order:
                latest_write, highest_order = ended, places[ended].order
            if places[ended].after > highest_revision:
                newest, highest_revision = ended, places[ended].after
        operation, place = operations[at], places[at]
        if 0 <= place.order <= highest_order:
            other = operations[latest_write]
            yield Anomaly("out-of-order", f"{operation} began after {other} and comes before it in the log")
        elif place.before < highest_revision:
            kind = "stale-read" if isinstance(operation, Read) else "from-the-future"
            detail = f"{operation} found revision {place.before}, but before it began there was {operations[newest]}"
            yield Anomaly(kind, detail)


def _end(operation: Write | Read) -> float:
    """When it was known to have happened."""
    known = operation.ret is not None and (isinstance(operation, Read) or operation.outcome is not None)
    return operation.ret if known and operation.ret is not None else float("inf")


def _some(elements: frozenset[str], most: int = 5) -> str:
    shown = ", ".join(sorted(elements)[:most]) or "none"
    return shown if len(elements) <= most else f"{shown} and {len(elements) - most} more"
