"""The set workload before the search and against its revisions, and that the checker of a run asks both."""

from __future__ import annotations

import msgspec
import pytest

from jepsen_lite.checker import check
from jepsen_lite.history import Event, pair
from jepsen_lite.linearizability import set_workload

ACKNOWLEDGED = {"sent": True, "status": 200, "code": "success"}


class Script:
    """Builds a history in which every line is one tick later than the one before."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []
        self.put(0, "harness", type="info", f="start", value={"seconds": 1e-9, "nodes": ["n1"]})

    def put(self, op: int, process: int | str, **fields: object) -> None:
        at = len(self.lines)
        self.lines.append({"index": at, "time": at, "process": process, "op": op, "node": "n1", **fields})

    def begin_add(self, op: int) -> None:
        self.put(op, op, type="invoke", f="add", value=f"e{op}")

    def end_add(self, op: int, rev: int | None) -> None:
        kind: dict[str, object] = {"type": "info", "evidence": {"sent": True}}
        if rev is not None:
            kind = {"type": "ok", "evidence": ACKNOWLEDGED, "rev": rev}
        self.put(op, op, f="add", value=f"e{op}", **kind)

    def read(self, op: int, rev: int, *elements: str, level: str = "linearizable") -> None:
        self.put(op, op, type="invoke", f="read", consistency=level)
        self.put(op, op, type="ok", f="read", consistency=level, rev=rev, value=list(elements))

    def events(self) -> list[Event]:
        return msgspec.convert(self.lines, list[Event])


def kinds(script: Script) -> set[str]:
    return {anomaly.kind for anomaly in check(script.events()).anomalies}


def two_open_adds(*second_read: str) -> Script:
    """Both adds are open and of unknown outcome in the end. The clients' revisions tell nothing of their order."""
    script = Script()
    script.begin_add(1)
    script.begin_add(2)
    script.read(3, 1, "e1")
    script.read(4, 2, *second_read)
    script.end_add(1, None)
    script.end_add(2, None)
    return script


def test_a_legal_history_passes_both() -> None:
    script = Script()
    script.begin_add(1)
    script.end_add(1, 1)
    script.begin_add(2)
    script.read(3, 1, "e1")
    script.read(4, 2, "e1", "e2")
    script.end_add(2, 2)
    script.read(5, 1, "e1", level="stale")
    assert kinds(script) == set()
    operations, _ = pair(script.events())
    assert set_workload.search(operations).verdict == "valid"


def test_the_search_finds_reads_that_need_opposite_orders() -> None:
    operations, _ = pair(two_open_adds("e2").events())
    assert set_workload.search(operations).verdict == "invalid"
    operations, _ = pair(two_open_adds("e1", "e2").events())
    assert set_workload.search(operations).verdict == "valid"


def overlapping_add(rev: int, *seen: str) -> Script:
    """A read of revision 4 while the second add is open; the first was added at revision 3. In real time everything is
    in order."""
    script = Script()
    script.begin_add(1)
    script.end_add(1, 3)
    script.begin_add(2)
    script.read(3, 4, *seen)
    script.end_add(2, rev)
    return script


@pytest.mark.parametrize(
    ("rev", "seen", "wrong"),
    [
        (5, ["e1", "e2"], ["read 3 of revision 4 has e2, added at revision 5"]),
        (4, ["e1"], ["read 3 of revision 4 lacks e2, added at revision 4"]),
        (3, ["e1", "e2"], ["e2 and e1 were both added at revision 3"]),
        (4, ["e1", "e2"], []),
        (5, ["e1"], []),
    ],
)
def test_a_read_that_contradicts_the_revision_of_an_add(rev: int, seen: list[str], wrong: list[str]) -> None:
    operations, _ = pair(overlapping_add(rev, *seen).events())
    assert list(set_workload.misplaced(operations)) == wrong


def test_the_checker_of_a_run_looks_at_revisions() -> None:
    assert kinds(overlapping_add(5, "e1", "e2")) == {"revision-misplaced"}


def test_the_checker_of_a_run_asks_for_a_second_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    refuted = set_workload.search(pair(two_open_adds("e2").events())[0])
    monkeypatch.setattr(set_workload, "search", lambda operations: refuted)
    assert kinds(two_open_adds("e1", "e2")) == {"not-linearizable"}
    assert "not-linearizable" not in kinds(two_open_adds("e2")), "the rules have named it already"


def test_an_undecided_search_makes_a_run_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set_workload.search(pair(two_open_adds("e1", "e2").events())[0], steps_max=0)
    assert found.verdict == "unknown"
    monkeypatch.setattr(set_workload, "search", lambda operations: found)
    verdict = check(two_open_adds("e1", "e2").events())
    assert verdict.result == "inconclusive"
    assert "the set: undecided after 0 steps" in verdict.reasons
