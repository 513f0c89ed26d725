"""The judge of watchers: a stream that is right passes, and each way of being wrong is found."""

from __future__ import annotations

import pytest

from jepsen_lite.replay import Change, Key, Read, Report, Reset, Stream, Told, check

A: Key = ("s", "a")
B: Key = ("s", "b")
OTHER: Key = ("t", "c")
NEW_A = Change(1, "new", A, "1")
NEW_C = Change(2, "new", OTHER, "1")
CHANGE_A = Change(3, "change", A, "2")
DELETE_A = Change(4, "delete", A, "2")
ALL = (NEW_A, NEW_C, CHANGE_A, DELETE_A)
READS = [
    Read(0, {}, "n1"),
    Read(2, {A: "1", OTHER: "1"}, "n1"),
    Read(3, {A: "2", OTHER: "1"}, "n2"),
    Read(4, {OTHER: "1"}, "n3"),
]


def stream(*items: Told | Reset, services: frozenset[str] | None = None) -> Stream:
    return Stream("w", services, [Reset(0, {}), *items])


def told(revision: int, *changes: Change) -> Told:
    return Told(revision, changes, "n1")


def report(*streams: Stream, reads: list[Read] | None = None) -> Report:
    return check(streams, READS if reads is None else reads)


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 3, 4), (2, 4), (3, 4)])
def test_a_whole_stream_is_held_against_every_read_however_it_is_cut(cuts: tuple[int, ...]) -> None:
    items, start = [], 0
    for cut in cuts:
        items.append(told(cut, *ALL[start:cut]))
        start = cut
    found = report(stream(*items))
    assert (found.faults, found.compared, found.changes) == ([], 4, 4)
    assert found.at_told == 1 + sum(cut in (2, 3, 4) for cut in cuts)


def test_a_watcher_of_one_service_is_held_against_its_part() -> None:
    found = report(stream(told(4, *ALL)), stream(told(1, NEW_A), told(2), told(4, CHANGE_A, DELETE_A), services=ONLY))
    assert (found.faults, found.bookmarks) == ([], 1)


ONLY = frozenset(("s",))


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ((told(4, NEW_A, NEW_C, DELETE_A),), "without revisions [3]"),
        ((told(1, NEW_A), told(4, NEW_A, NEW_C, CHANGE_A, DELETE_A)), "told [1, 2, 3, 4] between 1 and 4"),
        ((told(4, NEW_A, CHANGE_A, NEW_C, DELETE_A),), "told [1, 3, 2, 4]"),
        ((told(2, NEW_A, NEW_C), told(1)), "told revision 1 after 2"),
        ((told(2, NEW_A, NEW_C, CHANGE_A),), "told [1, 2, 3] between 0 and 2"),
        ((told(1), told(4, NEW_C, CHANGE_A, DELETE_A)), "without revisions [1]"),
        ((told(1, Change(1, "change", A, "1")),), "what was not there"),
        ((told(2, NEW_A, Change(2, "new", A, "1")),), "what was there"),
        ((told(4, NEW_A, NEW_C, Change(3, "change", A, "9"), DELETE_A),), "what n2 read at revision 3: [('s', 'a')]"),
    ],
)
def test_what_is_missing_doubled_out_of_order_or_wrong_is_found(items: tuple[Told, ...], words: str) -> None:
    assert any(words in fault for fault in report(stream(*items)).faults), report(stream(*items)).faults


def test_two_watchers_that_are_told_different_things_are_found() -> None:
    faults = report(stream(told(1, NEW_A)), stream(told(1, Change(1, "new", B, "1"))), reads=[]).faults
    assert len(faults) == 1
    assert "another watcher" in faults[0]


def test_a_change_kept_from_the_watcher_of_a_service_is_found() -> None:
    kept = stream(told(1, NEW_A), told(4), services=ONLY)
    assert any("without revisions [3, 4]" in fault for fault in report(stream(told(4, *ALL)), kept, reads=[]).faults)


def test_a_change_of_another_service_is_none_of_its_business() -> None:
    nosy = stream(told(4, *ALL), services=ONLY)
    assert any("with [2], which are not for it" in fault for fault in report(nosy, reads=[]).faults)


def test_a_new_start_is_compared_from_there_on() -> None:
    found = report(stream(Reset(3, {A: "2", OTHER: "1"}), told(4, DELETE_A)))
    assert (found.faults, found.compared) == ([], 3)
    assert report(stream(Reset(3, {A: "2"}), told(4, DELETE_A))).faults


def test_half_of_a_request_at_the_end_of_a_batch_is_found() -> None:
    one, other = Change(1, "new", ("s", "x-twin-a"), "1"), Change(2, "new", ("s", "x-twin-b"), "1")
    assert not report(stream(told(2, one, other)), reads=[]).faults
    assert report(stream(told(1, one), told(2, other)), reads=[]).faults
