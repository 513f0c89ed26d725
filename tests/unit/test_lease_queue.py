"""The queue of lease times against a sorted list, also while it is being cleared."""

from __future__ import annotations

import random

import pytest

from artemis.lease_queue import LeaseQueue


class Leases(set[int]):
    """Counts how often a lease is looked for."""

    looked = 0

    def __contains__(self, lease_id: object) -> bool:
        self.looked += 1
        return super().__contains__(lease_id)


def drained(queue: LeaseQueue, clock_ms: int = 2**80) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while (first := queue.first(clock_ms)) is not None:
        found.append(first)
        queue.pop()
    return found


def test_the_earliest_comes_first_and_then_the_smallest_lease_id() -> None:
    queue = LeaseQueue([(3, 50), (2**64 - 1, 50)])
    queue.push(50, 1)
    queue.push(-7, 4)
    queue.push(2**70, 0)
    assert queue.first(-8) is None
    assert drained(queue, 50) == [(-7, 4), (50, 1), (50, 3), (50, 2**64 - 1)]
    assert drained(queue) == [(2**70, 0)]
    assert queue.first(2**80) is None
    assert len(queue) == 0


def test_a_lease_that_is_postponed_waits_for_its_new_time() -> None:
    queue = LeaseQueue([(1, 10), (2, 20)])
    assert queue.first(10) == (10, 1)
    queue.postpone(30)
    assert queue.first(10) is None
    assert drained(queue) == [(20, 2), (30, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_clearing_keeps_every_lease_there_is_and_its_order(seed: int) -> None:
    rng = random.Random(seed)
    queue, leases = LeaseQueue(), dict[int, int]()
    longest, cleared = 0, False
    for number in range(8_000):
        leases[number] = time_ms = rng.randrange(1_000_000)
        queue.push(time_ms, number)
        if len(leases) > 300:
            del leases[number if rng.random() < 0.5 else next(iter(leases))]
            before = len(queue)
            queue.tidy(leases, len(leases))
            cleared = cleared or len(queue) < before
        if rng.random() < 0.3:
            # As the lease table does it: a time that comes up is dropped, or put off to the deadline of its lease.
            first = queue.first(rng.randrange(1_000_000))
            if first is not None and first[1] in leases:
                assert first[0] <= leases[first[1]]
                leases[first[1]] += rng.randrange(1_000)
                queue.postpone(leases[first[1]])
            elif first is not None:
                queue.pop()
        longest = max(longest, len(queue))
    assert cleared
    assert longest < 3 * 301 + 2_000
    found = [(time_ms, lease_id) for time_ms, lease_id in drained(queue) if lease_id in leases]
    assert found == sorted((time_ms, lease_id) for lease_id, time_ms in leases.items())


def test_a_lease_that_goes_pays_for_a_few_others_and_not_for_all() -> None:
    queue, leases = LeaseQueue(), Leases()
    for lease_id in range(10_000):
        queue.push(lease_id, lease_id)
    looked = []
    for _ in range(3_000):
        leases.looked = 0
        queue.tidy(leases, 0)
        looked.append(leases.looked)
    assert max(looked) == 4
    assert sum(looked) == 10_000
    assert len(queue) == 0
