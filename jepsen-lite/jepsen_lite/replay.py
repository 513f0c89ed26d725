"""What watchers were told, replayed and held against linearizable reads. Pure: no clock, no network.

Each change has a revision of its own, so a stream that began with a state at revision r gives the state at *every*
later revision it was told of. A read at any of those must be equal to it. Beside that a stream must be

- ordered and unique: revisions grow from change to change, and a bookmark never goes back;
- complete: a watcher of everything misses no revision, a watcher of some services no change that others were told;
- consistent: what happens fits the state (``new`` of what was not there), and one revision is one change everywhere;
- atomic: twins, registered in one request only, are there together or not at all at each revision a batch ends with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Key = tuple[str, str]
"""(service, instance id)."""
TWINS = ("-twin-a", "-twin-b")


@dataclass(frozen=True, slots=True)
class Change:
    revision: int
    type: str
    """``new``, ``change`` or ``delete``."""
    key: Key
    value: str


@dataclass(frozen=True, slots=True)
class Told:
    """Everything up to ``revision``; no changes: a bookmark."""

    revision: int
    changes: tuple[Change, ...]
    node: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The state was read, at the start or because the changes were not kept any more."""

    revision: int
    state: Mapping[Key, str]


@dataclass(frozen=True, slots=True)
class Read:
    """A linearizable read of everything."""

    revision: int
    state: Mapping[Key, str]
    node: str


@dataclass(slots=True)
class Stream:
    """What one watcher was told, over all the nodes it visited."""

    name: str
    services: frozenset[str] | None = None
    """None: of all."""
    items: list[Told | Reset] = field(default_factory=list)

    @property
    def revision(self) -> int:
        return self.items[-1].revision if self.items else 0

    def watches(self, key: Key) -> bool:
        return self.services is None or key[0] in self.services


@dataclass(slots=True)
class Report:
    faults: list[str] = field(default_factory=list)
    compared: int = 0
    """Reads held against a replayed state."""
    at_told: int = 0
    """Those whose revision is one at which a batch ended or a bookmark stood."""
    changes: int = 0
    bookmarks: int = 0
    resets: int = 0


def check(streams: Sequence[Stream], reads: Sequence[Read]) -> Report:
    report = Report()
    known: dict[int, Change] = {}
    for stream in streams:
        for item in stream.items:
            for change in item.changes if isinstance(item, Told) else ():
                other = known.setdefault(change.revision, change)
                if other != change:
                    report.faults.append(f"{stream.name} was told {change}, another watcher {other}")
    in_order = sorted(reads, key=lambda read: read.revision)
    for stream in streams:
        _Replay(stream, report).run(in_order, known)
    return report


class _Replay:
    """One stream against all reads."""

    def __init__(self, stream: Stream, report: Report) -> None:
        self._stream = stream
        self._report = report
        self._state: dict[Key, str] = {}
        self._revision = 0
        self._from: str | int = "the start"

    def run(self, reads: Sequence[Read], known: Mapping[int, Change]) -> None:
        told_at = {item.revision for item in self._stream.items}
        waiting = list(reversed(reads))
        for item in self._stream.items:
            if isinstance(item, Reset):
                self._reset(item)
                # What was before the new start cannot be told from this stream.
                while waiting and waiting[-1].revision < item.revision:
                    waiting.pop()
            else:
                self._order(item, known)
                for change in item.changes:
                    self._compare_below(change.revision, waiting, told_at)
                    self._apply(change, item)
                self._revision = max(self._revision, item.revision)
                self._twins(item)
            self._compare_below(self._revision + 1, waiting, told_at)

    def _fault(self, text: str) -> None:
        self._report.faults.append(f"{self._stream.name}: {text}")

    def _reset(self, item: Reset) -> None:
        if item.revision < self._revision:
            self._fault(f"a linearizable read of revision {item.revision} after {self._revision} was told")
        self._state = {key: value for key, value in item.state.items() if self._stream.watches(key)}
        self._revision = item.revision
        self._report.resets += 1

    def _order(self, item: Told, known: Mapping[int, Change]) -> None:
        """Ordered, unique, complete."""
        revisions = [change.revision for change in item.changes]
        if item.revision < self._revision:
            self._fault(f"{item.node} told revision {item.revision} after {self._revision}")
        if revisions != sorted(set(revisions)) or any(not self._revision < at <= item.revision for at in revisions):
            self._fault(f"{item.node} told {revisions} between {self._revision} and {item.revision}")
        span = range(self._revision + 1, item.revision + 1)
        wanted = [at for at in span if self._stream.services is None or self._concerns(known.get(at))]
        if revisions != wanted:
            missing, strange = sorted(set(wanted) - set(revisions)), sorted(set(revisions) - set(wanted))
            self._fault(
                f"{item.node} told what comes after {self._revision} up to {item.revision} without revisions"
                f" {missing[:5]} and with {strange[:5]}, which are not for it"
            )

    def _concerns(self, change: Change | None) -> bool:
        return change is not None and self._stream.watches(change.key)

    def _apply(self, change: Change, item: Told) -> None:
        there = change.key in self._state
        if there != (change.type in ("change", "delete")):
            self._fault(f"{item.node} told {change} of what was {'there' if there else 'not there'}")
        if change.type == "delete":
            self._state.pop(change.key, None)
        else:
            self._state[change.key] = change.value
        self._revision = max(self._revision, change.revision)
        self._report.changes += 1

    def _twins(self, item: Told) -> None:
        self._report.bookmarks += not item.changes
        for (service, instance), value in self._state.items():
            for one, other in (TWINS, TWINS[::-1]):
                if instance.endswith(one):
                    twin = (service, instance.removesuffix(one) + other)
                    if self._state.get(twin) != value:
                        self._fault(f"at revision {item.revision} {twin} is not what {instance} is")

    def _compare_below(self, revision: int, waiting: list[Read], told_at: set[int]) -> None:
        """Hold reads of revisions below this one against the state, which is theirs."""
        while waiting and waiting[-1].revision < revision:
            read = waiting.pop()
            self._report.compared += 1
            self._report.at_told += read.revision in told_at
            wanted = {key: value for key, value in read.state.items() if self._stream.watches(key)}
            if wanted != self._state:
                differing = sorted(dict(wanted.items() ^ self._state.items()))
                self._fault(f"differs from what {read.node} read at revision {read.revision}: {differing[:5]}")
