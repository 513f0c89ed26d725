"""What a follower may take from an append_entries: pure, so that it can be read beside the Raft paper (figure 2,
AppendEntries receiver steps 2 to 5).

The library deletes everything behind ``prev_index`` and adds the message's entries, also when they are the same
(hazard C). A re-sent batch that is shorter than the log then removes acknowledged entries: the leader sends 4..6 again
while 7 and 8 are acknowledged; the follower's log ends at 6; the leader dies; 7 and 8 are lost. So only what really
conflicts or is new is let through, and the answer says only what this message verified.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from artemis.consensus.wire import AppendEntries, LogEntry


class SafetyViolation(RuntimeError):
    """The protocol's promises do not hold between these nodes. Going on would lose or invent writes: the node stops."""


class Log(Protocol):
    @property
    def first_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    def term_at(self, index: int) -> int | None: ...


class Reply(NamedTuple):
    """The fields of ``wire.AppendReply`` besides the term."""

    next_index: int
    success: bool
    reset: bool


class Verdict(NamedTuple):
    reply: Reply
    commit_index: int
    """How far this message allows to commit: not beyond what it verified, the own tail may differ (hazard A)."""
    entries: tuple[LogEntry, ...] = ()
    """The new suffix; the log agrees with the leader's up to the entry before it."""


def check(message: AppendEntries, log: Log, commit_index: int) -> Verdict:
    """Raises ``SafetyViolation`` when the message contradicts what is committed here."""
    prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
    if any(entry[1] != prev_index + 1 + i for i, entry in enumerate(entries)):
        raise SafetyViolation(f"entries out of order after index {prev_index}")
    verified = prev_index + len(entries)
    if prev_index < log.first_index:
        # What lies below our first entry is committed, hence the same in the log of any leader of this term.
        skip = min(log.first_index - prev_index, len(entries))
        if prev_index + skip < log.first_index:
            return Verdict(Reply(log.first_index + 1, True, False), commit_index)
        prev_index, prev_term, entries = prev_index + skip, entries[skip - 1][2], entries[skip:]
    if prev_index > log.last_index:
        return Verdict(Reply(log.last_index + 1, False, True), commit_index)
    if log.term_at(prev_index) != prev_term:
        return Verdict(Reply(_first_of_conflict(log, prev_index, commit_index), False, True), commit_index)
    new = 0
    while new < len(entries) and log.term_at(entries[new][1]) == entries[new][2]:
        new += 1
    if new < len(entries) and entries[new][1] <= commit_index:
        raise SafetyViolation(f"the leader of term {message.term} would replace the committed entry {entries[new][1]}")
    return Verdict(Reply(verified + 1, True, False), min(message.commit_index, verified), entries[new:])


def _first_of_conflict(log: Log, index: int, commit_index: int) -> int:
    """Where the leader should try next: the first of our entries with the conflicting term, so that a long divergent
    tail is left behind in one step and not one entry per heartbeat (hazard N5)."""
    if index <= commit_index:
        raise SafetyViolation(f"the leader disagrees about the committed entry {index}")
    term = log.term_at(index)
    while index - 1 > commit_index and log.term_at(index - 1) == term:
        index -= 1
    return index
