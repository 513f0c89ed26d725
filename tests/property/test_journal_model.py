"""Whatever happens to a journal and its disk, reopening gives the state after some prefix of what was done: at least
all that was reported synced, never anything that was not done, in the order it was done."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from artemis.consensus.journal import Journal
from artemis.consensus.wire import LogEntry
from tests.simulation.disk import Crashed, SimDisk, StepQueue

State = tuple[tuple[LogEntry, ...], int, str | None]

SEEDS = st.integers(0, 2**32 - 1)
COMMANDS = st.lists(st.binary(max_size=120), min_size=1, max_size=6)


class JournalMachine(RuleBasedStateMachine):
    """The model is the list of states the journal had in memory, by lsn, since it was last opened."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.incarnation = 0

    @initialize(segment_bytes=st.sampled_from([200, 600, 1 << 20]))
    def begin(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.open()

    def open(self) -> None:
        self.journal = Journal.open(
            self.disk, node_id="n1", cluster="c1", rng=Random(7), wall_ms=100, segment_bytes=self.segment_bytes
        )
        assert self.journal.incarnation > self.incarnation
        self.incarnation = self.journal.incarnation
        self.queue = StepQueue()
        self.states: list[State] = [self.now()]
        assert self.journal.synced_index == self.journal.last_index

    def now(self) -> State:
        entries = tuple(self.journal[0 : len(self.journal)])
        return entries, self.journal.getCurrentTerm(), self.journal.getVotedForNodeId()

    def remember(self) -> None:
        """One record at a time, so that the lsn counts states."""
        assert self.journal.lsn == len(self.states)
        self.states.append(self.now())

    # What the engine does

    @rule(commands=COMMANDS)
    def add(self, commands: list[bytes]) -> None:
        for command in commands:
            index = self.journal.last_index + 1 if len(self.journal) else 1
            self.journal.add(command, index, max(self.journal.last_term, self.journal.getCurrentTerm()))
            self.remember()

    @precondition(lambda self: len(self.journal) > 1)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        self.journal.deleteEntriesFrom(data.draw(st.integers(1, len(self.journal) - 1)))
        self.remember()

    @precondition(lambda self: len(self.journal) > 1)
    @rule(data=st.data())
    def drop_prefix(self, data: st.DataObject) -> None:
        self.journal.deleteEntriesTo(data.draw(st.integers(1, len(self.journal) - 1)))
        self.remember()

    @rule(ahead=st.integers(-3, 20), commands=st.tuples(st.binary(max_size=30), st.binary(max_size=30)))
    def install_snapshot(self, ahead: int, commands: tuple[bytes, bytes]) -> None:
        index = max(1, self.journal.last_index + ahead)
        term = self.journal.getCurrentTerm()
        self.journal.reset([(commands[0], index, term), (commands[1], index + 1, term)])
        self.remember()

    @rule(steps=st.integers(0, 2), voted_for=st.sampled_from([None, "n1", "n2"]))
    def vote(self, steps: int, voted_for: str | None) -> None:
        if steps == 0 and (self.journal.getVotedForNodeId() is not None or voted_for is None):
            return
        self.journal.setCurrentTerm(self.journal.getCurrentTerm() + steps, voted_for)
        self.remember()

    @rule()
    def begin_sync(self) -> None:
        self.journal.begin_sync(self.queue, lambda _: None)

    @rule()
    def second_passes(self) -> None:
        self.journal.onOneSecondTimer()

    @rule()
    def disk_works(self) -> None:
        self.queue.step()

    # What happens to it

    @rule()
    def sync_fails(self) -> None:
        self.disk.fail("sync")
        self.journal.begin_sync(self.queue, lambda _: None)
        self.queue.run()
        self.disk.heal()

    @rule()
    def close_and_open(self) -> None:
        self.queue.close()
        synced = self.journal.failure is None
        self.journal.close()
        self.restart(at_least=len(self.states) - 1 if synced else self.journal.synced_lsn)

    @rule()
    def kill(self) -> None:
        self.disk.kill()
        self.restart(at_least=self.journal.synced_lsn)

    @rule(seed=SEEDS)
    def power_cut(self, seed: int) -> None:
        self.disk.power_cut(Random(seed))
        self.restart(at_least=self.journal.synced_lsn)

    @rule(steps=st.integers(1, 12), torn_bytes=st.integers(0, 200), seed=SEEDS | st.none())
    def crash_inside_a_job(self, steps: int, torn_bytes: int, seed: int | None) -> None:
        self.disk.crash_at(self.disk.steps + steps, torn_bytes)
        self.journal.begin_sync(self.queue, lambda _: None)
        with suppress(Crashed):
            self.queue.run()
        if seed is None:
            self.kill()
        else:
            self.power_cut(seed)

    def restart(self, at_least: int) -> None:
        before, states, synced_index = self.journal, self.states, self.journal.synced_index
        self.open()  # never refused: every one of these failures is one a journal must survive
        found = self.states[0]
        assert found in states[at_least:], f"lost or invented; {at_least} records were synced"
        for entry in before[0 : len(before)]:
            if entry[1] <= synced_index:
                assert self.journal.term_at(entry[1]) == entry[2]
                assert self.journal[entry[1] - self.journal.first_index] == entry

    @invariant()
    def counters_agree(self) -> None:
        if hasattr(self, "journal"):
            entries = self.journal[0 : len(self.journal)]
            assert self.journal.entry_bytes == sum(len(command) for command, _, _ in entries)
            assert self.journal.synced_lsn <= self.journal.lsn
            assert self.journal.synced_index <= self.journal.last_index


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
