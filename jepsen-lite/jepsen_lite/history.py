"""The history: what the harness did and saw, one JSON object per line.

All times are nanoseconds of one monotonic clock since the start of the run. An operation is an ``invoke`` and its
completion (``ok``, ``fail`` or ``info``) with the same ``op``. A process has at most one open operation; after ``info``
its id is never used again, so that an operation of unknown outcome stays visibly open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from jepsen_lite.registry import Consistency, Evidence

EventType = Literal["invoke", "ok", "fail", "info"]
Detail = str | int | float | list[str]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Operations of the workload are by numbered processes; ``nemesis`` and ``harness`` have their names."""

    index: int
    time: int
    process: int | str
    type: EventType
    f: str
    """``add`` or ``read``; ``kill``, ``restart``, ``pause``, ``resume``, … of the nemesis; ``start`` and ``end``."""
    value: str | list[str] | dict[str, Detail] | None = None
    """The element added; the elements read, in the order of the answer and with repetitions; details of a fault."""
    op: int | None = None
    node: str | None = None
    consistency: Consistency | None = None
    final: bool = False
    """A read after the last fault was healed and every node caught up."""
    rev: int | None = None
    term: int | None = None
    leader: str | None = None
    served_by: str | None = None
    evidence: Evidence | None = None
    error: str | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation with its completion; without one its outcome is unknown for ever."""

    invoke: Event
    completion: Event | None

    @property
    def ok(self) -> Event | None:
        """The completion if it is ``ok``."""
        return self.completion if self.completion is not None and self.completion.type == "ok" else None


class Recorder:
    """Writes events to ``path`` as they happen. A context manager; ``clock`` gives nanoseconds."""

    def __init__(self, path: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._file = path.open("wb")
        self._clock = clock
        self._start = clock()
        self._index = 0
        self._ops = 0

    def next_op(self) -> int:
        self._ops += 1
        return self._ops

    def record(self, event: Event) -> Event:
        """Number and stamp the event (its own ``index`` and ``time`` are replaced), and write it."""
        stamped = msgspec.structs.replace(event, index=self._index, time=self._clock() - self._start)
        self._index += 1
        self._file.write(_encoder.encode(stamped) + b"\n")
        return stamped

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def load(path: Path) -> list[Event]:
    """Read a history. Raises ``ValueError`` that names the line when one is not an event."""
    events = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                events.append(_decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise ValueError(f"{path}:{number}: {exc}") from exc
    return events


def pair(events: Iterable[Event]) -> tuple[list[Operation], list[str]]:
    """Operations in order of invocation, and everything that makes the history unusable, one sentence each."""
    invokes: dict[int, Event] = {}
    completions: dict[int, Event] = {}
    open_ops: dict[int | str, Event] = {}
    retired: set[int | str] = set()
    faults: list[str] = []
    last_time = -1
    for position, event in enumerate(events):
        if event.index != position or event.time < last_time:
            faults.append(f"event {position}: index {event.index} or time {event.time} out of order")
        last_time = event.time
        if not isinstance(event.process, int):
            continue
        if event.op is None:
            faults.append(f"event {event.index}: no op number")
        elif event.type == "invoke":
            if event.process in open_ops or event.process in retired:
                faults.append(f"event {event.index}: process {event.process} has an operation that never completed")
            open_ops[event.process] = event
            invokes[event.op] = event
        else:
            started = open_ops.pop(event.process, None)
            if started is None or started.op != event.op:
                faults.append(f"event {event.index}: completes operation {event.op}, which is not open")
            if event.type == "info":
                retired.add(event.process)
            completions[event.op] = event
    return [Operation(invoke, completions.get(op)) for op, invoke in invokes.items()], faults
