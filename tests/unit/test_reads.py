"""Read barriers (``artemis.consensus.reads``): a round serves only reads that waited before it began."""

from __future__ import annotations

import pytest

from artemis.consensus.reads import ASK_AGAIN_SECONDS, ROUNDS_AT_ONCE, Confirmations, ReadBarriers
from artemis.errors import ArtemisError, Unavailable


def test_a_majority_confirms_and_the_index_is_that_of_the_start() -> None:
    confirmations, got = Confirmations(5), list[int]()
    confirmations.ask(got.append)
    number = confirmations.start(10, now=0.0)
    assert number is not None
    confirmations.on_answer("n2", number)
    confirmations.on_answer("n2", number)
    assert got == [], "one member counts once"
    confirmations.on_answer("n3", number)
    assert got == [10]
    confirmations.on_answer("n4", number)
    assert got == [10]


def test_a_question_after_the_start_waits_for_the_next_round() -> None:
    confirmations, got = Confirmations(3), list[int]()
    confirmations.ask(got.append)
    first = confirmations.start(10, now=0.0)
    confirmations.ask(lambda index: got.append(index + 1000))
    assert first is not None
    confirmations.on_answer("n2", first)
    assert got == [10]
    second = confirmations.start(11, now=0.1)
    assert second is not None
    confirmations.on_answer("n2", second)
    assert got == [10, 1011]


def test_a_lone_member_confirms_itself() -> None:
    confirmations, got = Confirmations(1), list[int]()
    confirmations.ask(got.append)
    assert confirmations.start(3, now=0.0) is None
    assert got == [3]


def test_a_question_is_repeated_and_any_answer_to_it_counts() -> None:
    confirmations, got = Confirmations(3), list[int]()
    confirmations.ask(got.append)
    number = confirmations.start(1, now=0.0)
    assert number is not None
    assert confirmations.ask_again(ASK_AGAIN_SECONDS / 2) == []
    assert confirmations.ask_again(ASK_AGAIN_SECONDS) == [number]
    assert confirmations.ask_again(ASK_AGAIN_SECONDS) == [], "just asked"
    confirmations.on_answer("n2", number)
    assert got == [1]
    assert confirmations.ask_again(9.0) == [], "answered"


def test_a_read_question_is_repeated_until_the_leader_answers_it() -> None:
    reads, done = ReadBarriers(10, 0), list[ArtemisError | None]()
    reads.join(10.0, done.append)
    number = reads.start(0.0)
    assert number is not None
    assert reads.ask_again(ASK_AGAIN_SECONDS) == [number]
    reads.on_index(number, 7)
    assert reads.ask_again(1.0) == [], "it only waits for entry 7 now"
    reads.release(7)
    assert done == [None]


def test_an_answer_to_an_earlier_life_of_the_node_counts_for_nothing() -> None:
    earlier, reads, done = ReadBarriers(10, 1_000), ReadBarriers(10, 2_000), list[ArtemisError | None]()
    earlier.join(1.0, done.append)
    reads.join(1.0, done.append)
    asked_before = earlier.start(0.0)
    assert reads.start(0.0) is not None
    assert asked_before is not None
    reads.on_index(asked_before, 0)
    reads.release(100)
    assert done == []


def test_rounds_whose_reads_all_gave_up_make_room() -> None:
    reads, done = ReadBarriers(10, 0), list[ArtemisError | None]()
    for _ in range(ROUNDS_AT_ONCE):
        reads.join(1.0, done.append)
        assert reads.start(0.0) is not None
    reads.expire(1.0)
    assert len(done) == ROUNDS_AT_ONCE
    assert reads.ask_again(2.0) == []
    reads.join(3.0, done.append)
    assert reads.start(2.0) is not None


def test_reads_are_released_when_the_confirmed_index_is_applied() -> None:
    reads, done = ReadBarriers(10, 0), list[ArtemisError | None]()
    reads.join(1.0, done.append)
    number = reads.start(0.0)
    assert number is not None
    reads.release(99)
    assert done == [], "not confirmed yet"
    reads.on_index(number, 5)
    reads.release(4)
    assert done == []
    reads.release(5)
    assert done == [None]
    assert len(reads) == 0


def test_a_restart_needs_a_fresh_round_and_ignores_the_old_answer() -> None:
    reads, done = ReadBarriers(10, 0), list[ArtemisError | None]()
    reads.join(1.0, done.append)
    first = reads.start(0.0)
    reads.restart()
    assert first is not None
    reads.on_index(first, 0)
    reads.release(100)
    assert done == []
    second = reads.start(0.0)
    assert second is not None
    reads.on_index(second, 0)
    reads.release(0)
    assert done == [None]


def test_a_read_whose_time_is_up_is_refused_definitely() -> None:
    reads, done = ReadBarriers(10, 0), list[ArtemisError | None]()
    reads.join(1.0, done.append)
    reads.start(0.0)
    reads.join(2.0, done.append)
    reads.expire(1.0)
    (error,) = done
    assert isinstance(error, Unavailable)
    assert error.definite
    assert len(reads) == 1


def test_rounds_and_waiters_are_bounded() -> None:
    reads, done = ReadBarriers(1, 0), list[ArtemisError | None]()
    for _ in range(ROUNDS_AT_ONCE):
        reads.join(1.0, done.append)
        assert reads.start(0.0) is not None
    reads.join(1.0, done.append)
    assert reads.start(0.0) is None, "the next read waits for a round to end"
    with pytest.raises(Unavailable, match="too many reads"):
        reads.join(1.0, done.append)
