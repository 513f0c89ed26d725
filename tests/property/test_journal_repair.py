"""After a failing disk: what was repaired is all of memory, and survives a power cut."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from artemis.consensus.journal import Journal
from tests.simulation.disk import SimDisk

T = TypeVar("T")
Step = tuple[str, int]

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "truncate", "prefix", "term", "reset", "sync"]), st.integers(0, 9)),
    max_size=25,
)


class DirectQueue:
    """Runs each job at once, and tells at once."""

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        result: T | BaseException
        try:
            result = job()
        except OSError as exc:
            result = exc
        done(result)

    def close(self) -> None: ...


def take(journal: Journal, queue: DirectQueue, step: Step) -> None:
    kind, number = step
    match kind:
        case "add":
            journal.add(bytes([number]) * number, journal.last_index + 1, max(1, journal.getCurrentTerm()))
        case "truncate" if len(journal) > 1:
            journal.deleteEntriesFrom(1 + number % (len(journal) - 1))
        case "prefix" if len(journal) > 1:
            journal.deleteEntriesTo(number % len(journal))
        case "term":
            journal.setCurrentTerm(journal.getCurrentTerm() + 1, f"n{number}")
        case "reset":
            index, term = journal.last_index + number, max(1, journal.getCurrentTerm())
            journal.reset([(b"x", index, term), (b"y", index + 1, term)])
        case "sync":
            journal.begin_sync(queue, lambda _error: None)


def reopened(disk: SimDisk, rng: Random) -> Journal:
    disk.power_cut(rng)
    return Journal.open(disk, node_id="n1", cluster="c", rng=rng, wall_ms=0)


@settings(max_examples=100, deadline=None)
@given(before=STEPS, during=STEPS, fails=st.sampled_from(["sync", "write"]), seed=st.integers(0, 2**32))
def test_a_repaired_journal_is_all_of_memory(before: list[Step], during: list[Step], fails: str, seed: int) -> None:
    rng, queue, disk = Random(seed), DirectQueue(), SimDisk()
    journal = Journal.open(disk, node_id="n1", cluster="c", rng=rng, wall_ms=0, segment_bytes=400)
    journal.admit({"n1": journal.journal_id})
    journal.add(b"first", 1, 0)
    for step in before:
        take(journal, queue, step)
    journal.begin_sync(queue, lambda _error: None)
    disk.fail("sync" if fails == "sync" else "write", error=OSError(errno.EIO, "injected"), sticky=True)
    for step in [*during, ("add", 3), ("sync", 0)]:
        take(journal, queue, step)
    assert journal.failure is not None
    assert journal.synced_lsn < journal.lsn
    refused: list[Exception | None] = []
    journal.repair(queue, refused.append)
    assert refused[0] is not None
    disk.heal()
    repaired: list[Exception | None] = []
    journal.repair(queue, repaired.append)
    assert repaired == [None]
    assert (journal.synced_lsn, journal.synced_index) == (journal.lsn, journal.last_index)
    again = reopened(disk, rng)
    assert again[:] == journal[:]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (
        journal.getCurrentTerm(),
        journal.getVotedForNodeId(),
    )
    assert again.founders == journal.founders
    assert again.incarnation > journal.incarnation
