"""What each search and each of its reductions must answer, on histories written by hand.

Times are small numbers; ``None`` as the return is an operation of unknown outcome. Where a reduction has a tempting
version that is wrong, there is a history that tells the two apart, and a test that the wrong version fails it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec
import pytest

from jepsen_lite.history import Event, pair
from jepsen_lite.linearizability import bfs, brute
from jepsen_lite.linearizability.append import Append
from jepsen_lite.linearizability.check import check, check_all
from jepsen_lite.linearizability.dfs import Search
from jepsen_lite.linearizability.instance_set import InstanceSet
from jepsen_lite.linearizability.model import Step, prepare
from jepsen_lite.linearizability.operations import Op, set_operations
from jepsen_lite.linearizability.register import Register

PLENTY = 100_000


def op(f: str, arg: Hashable, out: Hashable, call: float, ret: float | None, process: int = 0) -> Op:
    return Op(process, f, arg, out, call, ret)


def read(out: Hashable, call: float, ret: float) -> Op:
    return op("read", None, out, call, ret)


def write(value: int, call: float, ret: float | None) -> Op:
    return op("write", value, None, call, ret)


def cas(old: int, new: int, done: bool | None, call: float, ret: float | None) -> Op:
    return op("cas", (old, new), done, call, ret)


def add(elements: str, call: float, ret: float | None, new: str | None = None) -> Op:
    return op("add", tuple(elements), None if new is None else frozenset(new), call, ret)


def remove(elements: str, call: float, ret: float | None, there: str | None = None) -> Op:
    return op("remove", tuple(elements), None if there is None else frozenset(there), call, ret)


def holds(elements: str, call: float, ret: float) -> Op:
    return read(frozenset(elements), call, ret)


REGISTERS: dict[str, tuple[bool, list[Op]]] = {
    "nothing at all": (True, []),
    "a read of what was written": (True, [write(1, 0, 1), read(1, 2, 3)]),
    "a stale read": (False, [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]),
    "a read of what nobody wrote": (False, [read(1, 0, 1)]),
    "a read that goes back": (False, [write(1, 0, 9), read(1, 1, 2), read(None, 3, 4)]),
    "touching intervals are concurrent": (True, [write(1, 0, 5), read(None, 5, 6)]),
    "one tick apart they are not": (False, [write(1, 0, 4), read(None, 5, 6)]),
    "unknown, and it happened late": (True, [write(1, 0, None), read(None, 5, 6), read(1, 7, 8)]),
    "unknown, and it never happened": (True, [write(1, 0, None), read(None, 5, 6), read(None, 7, 8)]),
    "unknown does not happen twice": (
        False,
        [write(1, 0, None), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)],
    ),
    "unknown does not happen before its call": (False, [read(1, 0, 1), write(1, 2, None)]),
    "two unknown ones of a kind": (
        True,
        [write(1, 0, None), write(1, 0, None), read(1, 1, 2), write(2, 3, 4), read(1, 5, 6)],
    ),
    "the second of a kind is not there yet": (
        False,
        [write(1, 0, None), read(1, 1, 2), write(2, 3, 4), read(1, 5, 6), write(1, 7, None)],
    ),
    "an unseen write explains a failed cas": (True, [write(1, 0, 1), write(2, 2, None), cas(1, 3, False, 4, 5)]),
    "nothing explains a failed cas": (False, [write(1, 0, 1), cas(1, 3, False, 4, 5)]),
    "an unknown cas did nothing": (True, [write(1, 0, 1), cas(1, 2, None, 2, None), read(1, 3, 4)]),
    "an unknown cas did it": (True, [write(1, 0, 1), cas(1, 2, None, 2, None), read(2, 3, 4)]),
    "an unknown cas needs its old value": (False, [write(1, 0, 1), cas(3, 2, None, 2, None), read(2, 3, 4)]),
    "created twice": (False, [op("write", 1, True, 0, 1), op("write", 2, True, 2, 3)]),
    "created again after an unseen removal": (
        True,
        [op("write", 1, True, 0, 1), op("delete", None, None, 2, None), op("write", 2, True, 3, 4)],
    ),
    "existed because of an unseen write": (True, [write(7, 0, None), op("delete", None, True, 1, 2)]),
    "existed because of nothing": (False, [op("delete", None, True, 1, 2)]),
}

SETS: dict[str, tuple[bool, list[Op]]] = {
    "both in either order": (True, [add("a", 0, 5), add("b", 0, 5), holds("b", 1, 2), holds("ab", 6, 7)]),
    "two reads that disagree on the order": (
        False,
        [add("a", 0, 9), add("b", 0, 9), holds("a", 1, 2), holds("b", 3, 4)],
    ),
    "a lost element": (False, [add("a", 0, 1), holds("", 2, 3)]),
    "an element from nowhere": (False, [holds("x", 2, 3)]),
    "half of a request": (False, [add("ab", 0, 9), holds("a", 1, 2)]),
    "seen, so it happened": (False, [add("a", 0, None), holds("a", 1, 2), holds("", 3, 4)]),
    "removed by an unknown one": (True, [add("a", 0, 1), remove("a", 2, None), holds("a", 3, 4), holds("", 5, 6)]),
    "it does not come back": (
        False,
        [add("a", 0, 1), remove("a", 2, None), holds("", 3, 4), holds("a", 5, 6)],
    ),
    "removed before a read that has it": (False, [add("a", 0, 1), remove("a", 2, 3), holds("a", 4, 5)]),
    "an unknown removal that came too early": (True, [remove("a", 0, None), add("a", 1, 2), holds("a", 3, 4)]),
    "an unknown removal that found one of two": (
        True,
        [add("b", 0, 1), remove("ab", 2, None), holds("", 3, 4), add("a", 5, 6), holds("a", 7, 8)],
    ),
    "a read that touches the add and lacks it": (
        True,
        [add("a", 0, 5), holds("", 5, 6), remove("a", 6, None), remove("a", 7, 8, "a")],
    ),
    "missing after the add, so one removal did it": (
        False,
        [add("a", 0, 4), holds("", 5, 6), remove("a", 6, None), remove("a", 7, 8, "a")],
    ),
    "added by two": (True, [add("a", 0, 1), remove("a", 2, 3), holds("", 4, 5), add("a", 6, 7), holds("a", 8, 9)]),
    "new for both": (False, [add("a", 0, 1, new="a"), add("a", 2, 3, new="a")]),
    "new for one of two": (True, [add("a", 0, 5, new=""), add("a", 0, 5, new="a")]),
    "there for both removals": (False, [add("a", 0, 1), remove("a", 2, 9, "a"), remove("a", 2, 9, "a")]),
    "an answer about something else": (False, [add("a", 0, 1, new="ab")]),
}

APPENDS: dict[str, tuple[bool, list[Op]]] = {
    "in the other order": (
        True,
        [op("append", "x", None, 0, 9), op("append", "y", None, 0, 9), op("get", None, "yx", 10, 11)],
    ),
    "in an order against time": (
        False,
        [op("append", "x", None, 0, 1), op("append", "y", None, 2, 3), op("get", None, "yx", 10, 11)],
    ),
    "lost in between": (
        False,
        [op("append", "x", None, 0, 1), op("append", "y", None, 2, 3), op("get", None, "y", 10, 11)],
    ),
    "put over": (True, [op("append", "x", None, 0, 1), op("put", "y", None, 2, 3), op("get", None, "y", 10, 11)]),
}


def verdicts(ops: list[Op], model: Register | InstanceSet | Append) -> set[str]:
    found: set[str] = set()
    for simplify in (True, False):
        if isinstance(model, Append):
            text = prepare(model, ops, simplify=simplify)
            found |= {Search(text).run(PLENTY).verdict, bfs.run(text, PLENTY).verdict}
        else:
            problem = prepare(model, ops, simplify=simplify)
            found |= {Search(problem).run(PLENTY).verdict, Search(problem, "return").run(PLENTY).verdict}
            found.add(bfs.run(problem, PLENTY).verdict)
    return found


@pytest.mark.parametrize("name", REGISTERS)
def test_register(name: str) -> None:
    legal, ops = REGISTERS[name]
    assert verdicts(ops, Register()) == {"valid" if legal else "invalid"}
    assert brute.linearizable(ops, None, brute.register) is legal


@pytest.mark.parametrize("name", SETS)
def test_set(name: str) -> None:
    legal, ops = SETS[name]
    assert verdicts(ops, InstanceSet()) == {"valid" if legal else "invalid"}
    assert brute.linearizable(ops, frozenset(), brute.instance_set) is legal


@pytest.mark.parametrize("name", APPENDS)
def test_append(name: str) -> None:
    legal, ops = APPENDS[name]
    assert verdicts(ops, Append()) == {"valid" if legal else "invalid"}
    assert brute.linearizable(ops, "", brute.append) is legal


def test_a_write_of_the_present_value_is_not_ordered_at_once() -> None:
    """The value is 1; ``write(1)`` overlaps ``write(2)`` and the read of 1 that follows. It must wait for ``write(2)``.
    Ordered as soon as it changes nothing, it would be used up."""
    ops = [write(1, 0, 1), write(1, 2, 9), write(2, 3, 4), read(1, 5, 6)]
    problem = prepare(Register(), ops)
    assert Search(problem).run(PLENTY).linearization == (0, 2, 1, 3)
    greedy = problem.steps.copy()
    greedy[1] = Step(greedy[1].apply, keeps=True)
    problem.steps[:] = greedy
    assert Search(problem).run(PLENTY).verdict == "invalid"


def test_what_nobody_saw_is_dropped_and_what_a_failed_cas_may_have_seen_is_kept() -> None:
    unseen = [write(1, 0, 1), write(2, 2, None), op("delete", None, None, 2, None), read(1, 3, 4)]
    assert [at for at, _ in Register().simplify(unseen)] == [0, 3]
    suspicious = [*unseen, cas(5, 6, False, 5, 6)]
    assert [at for at, _ in Register().simplify(suspicious)] == [0, 1, 2, 3, 4]


def test_dropping_goes_on_until_nothing_changes() -> None:
    """Nobody saw 3, so the cas from 2 to 3 goes; then nobody needs 2 either."""
    ops = [write(1, 0, 1), write(2, 2, None), cas(2, 3, None, 2, None), read(1, 3, 4)]
    assert [at for at, _ in Register().simplify(ops)] == [0, 3]


def test_a_value_that_one_write_alone_made_gives_it_a_deadline() -> None:
    ops = [write(1, 0, None), read(1, 5, 8), read(1, 3, 4), write(2, 5, None), write(2, 5, None), read(2, 6, 7)]
    narrowed = dict(Register().simplify(ops))
    assert [narrowed[at].ret for at in (0, 3, 4)] == [4, None, None]
    assert dict(Register(1).simplify(ops))[0].ret is None, "the beginning may have made it as well"


def test_an_unknown_add_that_was_seen_gets_a_deadline() -> None:
    ops = [add("a", 0, None), holds("a", 3, 4), holds("a", 5, 6)]
    narrowed = dict(InstanceSet().simplify(ops))
    assert narrowed[0].ret == 4


def test_an_unknown_removal_is_not_tried_before_the_last_sighting() -> None:
    ops = [add("a", 0, 1), remove("a", 2, None), holds("a", 7, 8)]
    assert dict(InstanceSet().simplify(ops))[1].call == 7


def test_equal_unknown_operations_are_tried_once_and_not_in_every_choice() -> None:
    """Forty writes of unknown outcome, of which the reads need none: no 2**40 choices, and few more for an illegal
    end."""
    ops: list[Op] = [write(at % 2 + 5, 0, None) for at in range(40)]
    ops += [op("write", 1, None, 1, 2), cas(9, 8, False, 3, 4), read(4, 5, 6)]
    search = Search(prepare(Register(), ops))
    assert search.run(PLENTY).verdict == "invalid"
    assert search.steps < 200


def test_an_element_too_many_ends_a_branch_at_once() -> None:
    """Twenty adds and two reads that cannot both be, all at once: 2**20 sets, if each had to be tried."""
    ops = [add(chr(97 + at), 0, 9) for at in range(20)] + [holds("a", 0, 9), holds("b", 0, 9)]
    search = Search(prepare(InstanceSet(), ops))
    assert search.run(PLENTY).verdict == "invalid"
    assert search.steps < 50


def test_a_search_goes_on_where_it_stopped() -> None:
    ops = [write(at % 3, 0, 100) for at in range(9)] + [read(7, 101, 102)]
    whole = Search(prepare(Register(), ops))
    decided = whole.run(PLENTY)
    parts = Search(prepare(Register(), ops))
    assert parts.run(10) == (decided._replace(verdict="unknown", steps=10, stuck=parts.run(10).stuck))
    while parts.run(parts.steps + 10).verdict == "unknown":
        pass
    assert parts.run(PLENTY) == decided
    assert decided.verdict == "invalid"


def test_bfs_names_the_first_return_that_cannot_be_explained() -> None:
    ops = [write(1, 0, 1), read(1, 2, 3), read(2, 4, 5), read(1, 6, 7)]
    assert bfs.run(prepare(Register(), ops), PLENTY).stuck == 2


def test_bfs_out_of_budget_says_so() -> None:
    ops = [write(at, 0, 100) for at in range(12)]
    assert bfs.run(prepare(Register(), ops), 100).verdict == "unknown"


def hard() -> list[Op]:
    """Illegal, and only after a long search: the failed cas makes every one of the writes matter."""
    return [write(at, 0, 100) for at in range(14)] + [cas(99, 98, False, 0, 100), read(77, 101, 102)]


def test_an_easily_refuted_key_is_not_hidden_by_a_hard_one() -> None:
    report = check_all({"hard": hard(), "easy": [write(1, 0, 1), read(2, 2, 3)]}, Register())
    assert report.verdict == "invalid"
    assert report.decisions["hard"].verdict == "unknown"
    assert report.steps < 10_000
    assert report.reasons == ("easy: 2 operations are not linearizable, no order explains 0: read() -> 2 [2 .. 3]",)


def test_an_undecided_key_is_no_pass() -> None:
    report = check_all({"hard": hard(), "easy": [write(1, 0, 1), read(1, 2, 3)]}, Register(), steps_max=20_000)
    assert report.verdict == "unknown"
    assert report.decisions["easy"].verdict == "valid"
    assert report.steps == 20_000
    assert len(report.reasons) == 1


def test_all_keys_valid() -> None:
    report = check_all({key: [write(1, 0, 1), read(1, 2, 3)] for key in "abc"}, Register())
    assert report.verdict == "valid"
    assert report.reasons == ()


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (Register(), op("increment", None, None, 0, 1)),
        (Register(), op("cas", 1, True, 0, 1)),
        (InstanceSet(), op("add", "abc", None, 0, 1)),
        (InstanceSet(), op("clear", (), None, 0, 1)),
        (Append(), op("append", 1, None, 0, 1)),
    ],
    ids=str,
)
def test_an_operation_the_model_does_not_know_is_refused(model: Register | InstanceSet | Append, wrong: Op) -> None:
    with pytest.raises(ValueError, match=r"operation|needs"):
        verdicts([wrong], model)


def events(*lines: dict[str, object]) -> Sequence[Event]:
    return [msgspec.convert({"index": at, "time": at, "node": "n1", **line}, Event) for at, line in enumerate(lines)]


def test_the_recorded_set_workload_becomes_operations() -> None:
    recorded = events(
        {"process": 1, "type": "invoke", "f": "add", "value": "e1", "op": 1},
        {"process": 2, "type": "invoke", "f": "add", "value": "e2", "op": 2},
        {"process": 3, "type": "invoke", "f": "add", "value": "e3", "op": 3},
        {"process": 4, "type": "invoke", "f": "add", "value": "e4", "op": 4},
        {"process": 1, "type": "ok", "f": "add", "value": "e1", "op": 1},
        {"process": 2, "type": "info", "f": "add", "value": "e2", "op": 2},
        {"process": 3, "type": "fail", "f": "add", "value": "e3", "op": 3},
        {"process": 5, "type": "invoke", "f": "read", "op": 5, "consistency": "linearizable"},
        {"process": 6, "type": "invoke", "f": "read", "op": 6, "consistency": "stale"},
        {"process": 5, "type": "ok", "f": "read", "value": ["e1"], "op": 5, "consistency": "linearizable"},
        {"process": 6, "type": "ok", "f": "read", "value": [], "op": 6, "consistency": "stale"},
    )
    ops = set_operations(pair(recorded)[0])
    assert ops == [
        Op(1, "add", ("e1",), None, 0, 4),
        Op(2, "add", ("e2",), None, 1, None),
        Op(4, "add", ("e4",), None, 3, None),
        Op(5, "read", None, frozenset({"e1"}), 7, 9),
    ]
    assert check(ops, InstanceSet()).verdict == "valid"
