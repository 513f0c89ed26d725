"""The ring of last changes: complete, in order, or plainly compacted."""

from __future__ import annotations

import pytest

from artemis.changes import CHANGE_OVERHEAD_BYTES, ChangeRing
from artemis.model import Change, Compacted, encode_instance
from artemis.registry import StateLimits
from tests.support.replica import Replica, instance

SIZE = len(encode_instance(instance()))


def ring(count: int, count_max: int = 100, bytes_max: int = 1_000_000) -> ChangeRing:
    made = ChangeRing(count_max, bytes_max)
    for revision in range(1, count + 1):
        made.append(Change(revision, "change", instance(), 0), SIZE)
    return made


def revisions(made: ChangeRing, since: int) -> list[int]:
    found = made.since(since)
    assert not isinstance(found, Compacted)
    return [change.revision for change in found]


@pytest.mark.parametrize("since", range(11))
def test_every_later_change_once_and_in_order(since: int) -> None:
    assert revisions(ring(10), since) == list(range(since + 1, 11))


def test_a_full_ring_drops_the_oldest_and_says_from_where_it_is_complete() -> None:
    made = ring(25, count_max=10)
    assert (len(made), made.oldest) == (10, 15)
    assert made.since(14) == Compacted(15)
    assert revisions(made, 15) == list(range(16, 26))
    assert revisions(made, 24) == [25]


def test_bytes_bound_the_ring_too() -> None:
    each = SIZE + CHANGE_OVERHEAD_BYTES
    made = ring(10, bytes_max=3 * each)
    assert (len(made), made.oldest, made.size_bytes) == (3, 7, 3 * each)


def test_a_change_larger_than_the_ring_leaves_it_empty_and_compacted() -> None:
    made = ring(2, bytes_max=10)
    assert (len(made), made.oldest, made.size_bytes) == (0, 2, 0)
    assert made.since(1) == Compacted(2)
    assert revisions(made, 2) == []


def test_a_revision_not_reached_yet_has_no_changes_yet() -> None:
    assert revisions(ring(3), 3) == []
    assert revisions(ring(3), 1_000) == []
    assert revisions(ring(0), 5) == []


def test_what_was_answered_does_not_change_with_the_ring() -> None:
    made = ring(3)
    found = made.since(0)
    made.append(Change(4, "change", instance(), 0), SIZE)
    assert not isinstance(found, Compacted)
    assert len(found) == 3


def test_a_ring_made_of_another_ones_changes_is_trimmed_as_that_one() -> None:
    made = ring(25, bytes_max=7 * (SIZE + CHANGE_OVERHEAD_BYTES))
    again = ChangeRing(100, 7 * (SIZE + CHANGE_OVERHEAD_BYTES), made.oldest, made.copy())
    assert (again.oldest, again.size_bytes, again.copy()) == (made.oldest, made.size_bytes, made.copy())


def test_a_registry_gives_its_changes_with_instance_and_clock() -> None:
    replica = Replica(StateLimits(changes_max=2))
    replica.step(7)
    replica.register(*(instance(port=port) for port in range(3)))
    assert replica.registry.changes_since(0) == Compacted(1)
    assert replica.registry.changes_since(1) == [
        Change(2, "change", instance(port=1), 7),
        Change(3, "change", instance(port=2), 7),
    ]
