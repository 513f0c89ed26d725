"""Order and exactly-once on the origin's and the leader's side (``artemis.consensus.proposals``)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from artemis.commands import Command, RequestId, Unregister, decode_entry, decode_proposal
from artemis.consensus.proposals import Orderer, Session
from artemis.consensus.timing import Bounds
from artemis.errors import ArtemisError, InvalidInput, Unavailable
from artemis.model import InstanceKey
from artemis.outcomes import Outcome, Unregistered

COMMAND: Command = Unregister((InstanceKey("r", "s", "i"),))
OUTCOME = Unregistered(7, (True,))
Results = list[Outcome | ArtemisError]


def session(bounds: Bounds | None = None) -> Session:
    return Session("n1", 5, bounds or Bounds())


def propose(target: Session, results: Results, deadline: float = 10.0, request: RequestId | None = None) -> None:
    sink: Callable[[Outcome | ArtemisError], None] = results.append
    target.propose(COMMAND, request, 1000, deadline, sink)


def sequence(batch: list[tuple[int, bytes]]) -> list[int]:
    return [seq for seq, _ in batch]


def test_a_new_target_gets_everything_unfinished_oldest_first() -> None:
    mine, results = session(), list[Outcome | ArtemisError]()
    for _ in range(3):
        propose(mine, results)
    assert sequence(mine.hand_over((1, "n2", 1))) == [1, 2, 3]
    assert mine.hand_over((1, "n2", 1)) == []
    propose(mine, results)
    assert sequence(mine.hand_over((1, "n2", 1))) == [4]
    mine.resolve(1, OUTCOME)
    assert sequence(mine.hand_over((1, "n2", 2))) == [2, 3, 4], "a new link"
    assert sequence(mine.hand_over((2, "n2", 2))) == [2, 3, 4], "a new term of the same leader"


def test_an_outcome_resolves_once_and_lower_open_numbers_are_definitely_void() -> None:
    mine, results = session(), list[Outcome | ArtemisError]()
    for _ in range(3):
        propose(mine, results)
    mine.resolve(2, OUTCOME)
    mine.resolve(2, OUTCOME)
    assert isinstance(results[0], Unavailable)
    assert results[0].definite
    assert results[1:] == [OUTCOME]
    assert len(mine) == 1


def test_what_never_left_is_definite_and_what_left_is_not() -> None:
    mine, results = session(), list[Outcome | ArtemisError]()
    propose(mine, results, deadline=1.0)
    mine.hand_over((1, "n2", 1))
    propose(mine, results, deadline=1.0)
    propose(mine, results, deadline=2.0)
    mine.expire(0.9)
    assert results == []
    mine.expire(1.0)
    assert [isinstance(r, Unavailable) and r.definite for r in results] == [False, True]
    assert sequence(mine.hand_over((1, "n3", 2))) == [3], "an abandoned proposal is not sent again"
    mine.expire(2.0)
    assert isinstance(results[2], Unavailable)
    assert not results[2].definite


def test_a_snapshot_past_open_proposals_leaves_their_outcome_unknown() -> None:
    mine, results = session(), list[Outcome | ArtemisError]()
    for _ in range(3):
        propose(mine, results)
    mine.hand_over((1, "n2", 1))
    mine.resolve_skipped(2)
    assert [isinstance(r, Unavailable) and r.definite for r in results] == [False, False]
    assert len(mine) == 1


def test_a_full_session_refuses_without_taking() -> None:
    mine, results = session(Bounds(pending_proposals=1)), list[Outcome | ArtemisError]()
    propose(mine, results)
    with pytest.raises(Unavailable, match="too many writes") as refused:
        propose(mine, results)
    assert refused.value.definite
    assert len(mine) == 1


def test_a_command_beyond_the_bound_is_refused_by_name() -> None:
    mine, results = session(Bounds(command_bytes_max=10)), list[Outcome | ArtemisError]()
    with pytest.raises(InvalidInput, match="at most 10"):
        propose(mine, results)
    propose_next = session()
    propose(propose_next, results)
    assert decode_proposal(propose_next.hand_over((1, "n1", 0))[0][1]).seq == 1


def test_the_orderer_drops_copies_and_keeps_order_per_origin() -> None:
    orderer = Orderer(Bounds())
    mine, results = session(), list[Outcome | ArtemisError]()
    for _ in range(3):
        propose(mine, results)
    batch = mine.hand_over((1, "n1", 0))
    orderer.take("n1", 5, batch[:2])
    orderer.take("n1", 5, batch)
    entry = decode_entry(orderer.next_entry(17))
    assert entry.clock_ms == 17
    assert [proposal.seq for proposal in entry.proposals] == [1, 2, 3]
    assert len(orderer) == 0


def test_entries_close_at_their_bounds_and_a_large_proposal_fits_alone() -> None:
    orderer = Orderer(Bounds(entry_bytes=100, entry_proposals=3))
    orderer.take("n1", 1, [(1, b"\x90" * 60), (2, b"\x90" * 60), (3, b"\x90" * 500)])
    sizes = []
    while len(orderer):
        sizes.append(len(orderer.next_entry(0)))
    assert [60 < size < 100 for size in sizes] == [True, True, False]
    assert sizes[2] > 500


def test_in_flight_counts_entries_until_they_are_applied() -> None:
    orderer = Orderer(Bounds())
    orderer.on_appended(5)
    orderer.on_appended(6)
    assert orderer.in_flight == 2
    orderer.on_applied(5)
    assert orderer.in_flight == 1
    orderer.on_applied(9)
    assert orderer.in_flight == 0
