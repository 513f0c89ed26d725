"""What a write costs does not grow with the registry. Counted, not timed: bytecodes executed and memory taken.

Bytecodes show loops in Python; memory shows copies and sorts that run in C, where no bytecode is seen.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType

import pytest

from artemis.commands import Renew
from artemis.model import key_of
from tests.support.replica import Replica, instance, register, renew_keys, unregister

SMALL, LARGE = 20, 6_000
"""Instances before the measured write. Neither is near a size at which a dict grows."""

Fill = Callable[[int], Replica]


def many_services(count: int) -> Replica:
    replica = Replica()
    replica.register(*(instance(f"s{number}") for number in range(count)))
    return replica


def one_service(count: int) -> Replica:
    replica = Replica()
    replica.register(*(instance("s0", f"i{number}") for number in range(count)))
    return replica


def write_new(replica: Replica) -> None:
    replica.propose(register(instance("s0", "new")))


def write_again(replica: Replica) -> None:
    replica.propose(register(instance("s0", "i1", port=9)))


def write_renewal(replica: Replica) -> None:
    replica.propose(Renew(lease_ids=(7,)))


def write_renewal_by_key(replica: Replica) -> None:
    replica.propose(renew_keys(key_of(instance("s0", "i1"))))


def write_removal(replica: Replica) -> None:
    replica.propose(unregister(instance("s0", "i1")))


def write_step(replica: Replica) -> None:
    replica.step(1)


WRITES = [write_new, write_again, write_renewal, write_renewal_by_key, write_removal, write_step]


def bytecodes(action: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()  # a collection runs the callbacks that others have set, hypothesis among them
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def memory_bytes(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fill", [many_services, one_service])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_costs_the_same_in_a_small_and_in_a_large_registry(
    write: Callable[[Replica], None], fill: Fill
) -> None:
    small, large = fill(SMALL), fill(LARGE)
    assert small.registry.instance_count * 100 < large.registry.instance_count
    executed = [bytecodes(lambda: write(replica)) for replica in (small, large)]  # noqa: B023
    assert executed[0] > 0
    assert executed[1] == executed[0]


@pytest.mark.parametrize("fill", [many_services, one_service])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_copies_nothing_that_grows(write: Callable[[Replica], None], fill: Fill) -> None:
    replica = fill(LARGE)
    taken = memory_bytes(lambda: write(replica))
    # A list of 6000 references is 48 kB; a write needs its entry, its record and a change.
    assert 0 < taken < 20_000


def test_a_freeze_of_the_services_copies_no_instance() -> None:
    registry = one_service(LARGE).registry
    assert memory_bytes(registry.frozen_services) < 1_000
    assert bytecodes(registry.frozen_services) < 100


@pytest.mark.parametrize("write", WRITES)
def test_a_write_after_a_freeze_copies_its_own_service_only(write: Callable[[Replica], None]) -> None:
    replica = many_services(LARGE)
    frozen = replica.registry.frozen_services()
    assert 0 < memory_bytes(lambda: write(replica)) < 20_000
    assert len(frozen) == LARGE


def test_the_counters_see_a_loop_and_a_copy() -> None:
    replica = many_services(LARGE)
    loop = bytecodes(lambda: [view.revision for view in replica.registry.services()])
    copy = memory_bytes(lambda: list(replica.registry.services()))
    assert loop > LARGE
    assert copy > 20_000
