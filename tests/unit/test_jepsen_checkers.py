"""The set checker finds every planted fault, and a harness that cheats is not believed.

Method: one legal history is built event by event; each test plants one fault in it by changing, adding or removing
events, and names the anomaly that must come out. The legal history itself must be valid, or no test here would prove
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from jepsen_lite.checker import Verdict, check
from jepsen_lite.history import Event, Recorder, load, pair
from jepsen_lite.registry import Evidence, outcome_of
from jepsen_lite.witness import Limits, faults_of, leader_changes

ACKNOWLEDGED = Evidence(sent=True, status=200, code="success")
REFUSED = Evidence(sent=True, status=503, code="service-unavailable", outcome="not-applied")
UNANSWERED = Evidence(sent=True)
EVIDENCE = {"ok": ACKNOWLEDGED, "fail": REFUSED, "info": UNANSWERED}
TICK = 10_000_000
NODES = ["n1", "n2", "n3"]


class Script:
    """Builds a history: every call moves the clock and gives operations that do not overlap unless asked."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clock = 0
        self.ops = 0
        self.process = 0
        self.revision = 0
        self.term, self.leader = 1, "n1"
        self.elements: list[str] = []
        self.put(process="harness", type="info", f="start", value={"seed": 1, "seconds": 1.0, "nodes": NODES})

    def put(self, **fields: object) -> Event:
        self.clock += TICK
        event = msgspec.convert({"index": len(self.events), "time": self.clock, **fields}, Event)
        self.events.append(event)
        return event

    def add(self, element: str, kind: str = "ok", node: str = "n2") -> None:
        """An add that begins and ends now. One that is ``ok`` is in every later read."""
        self.ops += 1
        base: dict[str, object] = {"process": self.process, "f": "add", "op": self.ops, "node": node, "value": element}
        self.put(type="invoke", **base)
        if kind == "ok":
            self.revision += 1
            self.elements.append(element)
        answer = {"rev": self.revision, "term": self.term, "leader": self.leader} if kind == "ok" else {}
        self.put(type=kind, evidence=msgspec.to_builtins(EVIDENCE[kind]), **answer, **base)
        self.process += kind == "info"

    def read(
        self, node: str, *, level: str = "linearizable", final: bool = False, found: list[str] | None = None
    ) -> None:
        self.ops += 1
        base: dict[str, object] = {
            "process": self.process,
            "f": "read",
            "op": self.ops,
            "node": node,
            "consistency": level,
            "final": final,
        }
        self.put(type="invoke", **base)
        value = list(self.elements) if found is None else found
        self.put(type="ok", value=value, rev=self.revision, term=self.term, leader=self.leader, **base)

    def kill_leader(self) -> None:
        self.put(process="nemesis", type="info", f="kill", node=self.leader, value={"role": "leader", "pid": 7})
        self.put(process="nemesis", type="info", f="restart", node=self.leader, value={})
        self.term, self.leader = self.term + 1, "n2" if self.leader == "n1" else "n1"

    def finish(self) -> list[Event]:
        for node in NODES:
            self.read(node, final=True)
            self.read(node, level="stale", final=True)
        self.put(process="harness", type="info", f="end", value={})
        return self.events


def legal(plant: Callable[[Script], None] = lambda script: None) -> list[Event]:
    """A run of 60 acknowledged adds with reads, one leader killed, and ``plant`` carried out near the end."""
    script = Script()
    for number in range(60):
        script.add(f"e{number}")
        if number % 2:
            script.read(NODES[number % 3])
        if number == 30:
            script.kill_leader()
    plant(script)
    return script.finish()


def kinds(verdict: Verdict) -> set[str]:
    return {anomaly.kind for anomaly in verdict.anomalies}


def renumber(events: Sequence[Event]) -> list[Event]:
    return [msgspec.structs.replace(event, index=index) for index, event in enumerate(events)]


def edit(events: Sequence[Event], change: Callable[[Event], Event | None]) -> list[Event]:
    """The history with each event changed, or dropped where ``change`` gives None."""
    return renumber([changed for event in events if (changed := change(event)) is not None])


def without(events: Sequence[Event], element: str, where: Callable[[Event], bool]) -> list[Event]:
    """The history with ``element`` missing from the reads that ``where`` selects."""

    def change(event: Event) -> Event:
        if event.type == "ok" and isinstance(event.value, list) and where(event):
            return msgspec.structs.replace(event, value=[other for other in event.value if other != element])
        return event

    return edit(events, change)


def test_a_legal_history_is_valid() -> None:
    verdict = check(legal())
    assert verdict.result == "valid", (verdict.anomalies[:3], verdict.reasons)
    assert verdict.stats["add ok"] == 60
    assert verdict.stats["elements at the end"] == 60


def test_an_acknowledged_element_in_no_later_read_is_lost() -> None:
    verdict = check(without(legal(), "e50", lambda event: True))
    assert verdict.result == "invalid"
    assert kinds(verdict) >= {"lost", "missing-at-end"}


def test_an_element_that_reads_show_and_then_lack_is_lost_even_without_an_acknowledgement() -> None:
    def plant(script: Script) -> None:
        script.add("unanswered", "info")
        script.revision += 1
        script.read("n1", found=[*script.elements, "unanswered"])

    verdict = check(legal(plant))
    assert {"lost", "revision-ambiguous"} <= kinds(verdict)


def test_a_linearizable_read_that_misses_one_acknowledged_element_is_stale() -> None:
    only = [event.op for event in legal() if event.type == "ok" and event.f == "read"][-8]
    verdict = check(without(legal(), "e50", lambda event: event.op == only))
    assert verdict.result == "invalid"
    assert "stale-read" in kinds(verdict)
    assert "lost" not in kinds(verdict)


def test_a_stale_read_may_lack_the_newest_element() -> None:
    def plant(script: Script) -> None:
        before = script.revision
        behind = list(script.elements)
        script.add("newest")
        script.revision, now = before, script.revision
        script.read("n3", level="stale", found=behind)
        script.revision = now

    assert check(legal(plant)).result == "valid"


def test_a_node_that_lacks_an_element_at_the_end_is_found_by_its_stale_read() -> None:
    verdict = check(
        without(legal(), "e50", lambda event: event.final and event.node == "n3" and event.consistency == "stale")
    )
    assert "missing-at-end" in kinds(verdict)


def test_an_element_nobody_added_is_a_phantom() -> None:
    verdict = check(legal(lambda script: script.elements.append("ghost")))
    assert kinds(verdict) == {"phantom", "revision-ambiguous"}


def test_an_element_whose_add_was_refused_for_certain_is_a_phantom() -> None:
    def plant(script: Script) -> None:
        script.add("refused", "fail")
        script.revision += 1
        script.elements.append("refused")

    verdict = check(legal(plant))
    assert kinds(verdict) == {"phantom"}
    assert "refused for certain" in verdict.anomalies[0].detail


def test_an_element_seen_before_its_add_began_is_a_phantom() -> None:
    def plant(script: Script) -> None:
        script.revision += 1
        script.read("n1", found=[*script.elements, "early"])
        script.revision -= 1
        script.add("early")

    assert "phantom" in kinds(check(legal(plant)))


@pytest.mark.parametrize("happens", [True, False])
def test_an_add_of_unknown_outcome_may_happen_or_not(happens: bool) -> None:
    def plant(script: Script) -> None:
        script.add("maybe", "info")
        if happens:
            script.revision += 1
            script.elements.append("maybe")

    assert check(legal(plant)).result == "valid"


def test_an_add_without_completion_is_of_unknown_outcome() -> None:
    def plant(script: Script) -> None:
        script.put(process=99, type="invoke", f="add", op=999, node="n1", value="open")
        script.revision += 1
        script.elements.append("open")

    assert check(legal(plant)).result == "valid"


def test_an_element_returned_twice_is_a_duplicate() -> None:
    assert kinds(check(legal(lambda script: script.elements.append("e3")))) == {"duplicate"}


def test_a_revision_that_goes_back_in_real_time_is_found() -> None:
    def plant(script: Script) -> None:
        script.revision -= 1
        script.read("n1")
        script.revision += 1

    assert kinds(check(legal(plant))) == {"revision-went-back"}


def test_two_reads_of_one_revision_with_different_elements_are_found() -> None:
    def plant(script: Script) -> None:
        script.add("unanswered", "info")
        script.elements.append("unanswered")
        script.read("n3", level="stale")

    assert kinds(check(legal(plant))) == {"revision-ambiguous"}


def test_two_leaders_of_one_term_are_found() -> None:
    def plant(script: Script) -> None:
        script.leader = "n3"
        script.read("n3")

    assert "two-leaders" in kinds(check(legal(plant)))


def test_a_read_that_begins_at_the_instant_an_add_ends_is_concurrent_with_it() -> None:
    def plant(script: Script) -> None:
        behind, before = list(script.elements), script.revision
        script.add("touching")
        script.revision, now = before, script.revision
        script.clock -= TICK
        script.read("n1", found=behind)
        script.revision = now

    assert check(legal(plant)).result == "valid"


# A run that proves nothing


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(ok_adds=61), "acknowledged adds"),
        (Limits(ok_reads=1000), "linearizable reads"),
        (Limits(leader_changes=2), "leader changes"),
        (Limits(faults=2), "faults"),
    ],
)
def test_too_little_is_inconclusive(limits: Limits, reason: str) -> None:
    verdict = check(legal(), limits)
    assert verdict.result == "inconclusive"
    assert any(reason in line for line in verdict.reasons), verdict.reasons


def test_no_real_leader_change_is_inconclusive() -> None:
    same = edit(legal(), lambda event: msgspec.structs.replace(event, leader="n1", term=1) if event.leader else event)
    assert check(same).result == "inconclusive"


def test_a_higher_term_of_the_same_leader_is_no_leader_change() -> None:
    operations, _ = pair(
        edit(legal(), lambda event: msgspec.structs.replace(event, leader="n1") if event.leader else event)
    )
    assert leader_changes(operations) == 0


def test_a_node_without_a_final_read_is_inconclusive() -> None:
    verdict = check(edit(legal(), lambda event: None if event.final and event.node == "n2" else event))
    assert verdict.result == "inconclusive"
    assert "no final stale read from n2" in verdict.reasons


# A harness that cheats


def test_an_unknown_outcome_recorded_as_failure_is_not_believed() -> None:
    events = legal(lambda script: script.add("maybe", "info"))
    verdict = check(
        edit(
            events,
            lambda event: (
                msgspec.structs.replace(event, type="fail") if event.type == "info" and event.f == "add" else event
            ),
        )
    )
    assert verdict.result == "inconclusive"
    assert "its evidence says info" in verdict.reasons[0]


def test_an_unknown_outcome_recorded_as_success_is_not_believed() -> None:
    events = legal(lambda script: script.add("maybe", "info"))
    verdict = check(
        edit(
            events,
            lambda event: (
                msgspec.structs.replace(event, type="ok", rev=1) if event.type == "info" and event.f == "add" else event
            ),
        )
    )
    assert verdict.result == "inconclusive"


def test_lost_completions_are_not_believed() -> None:
    completions = [event.op for event in legal() if event.type == "ok" and event.f == "add"]
    verdict = check(edit(legal(), lambda event: None if event.op == completions[7] and event.type == "ok" else event))
    assert verdict.result == "inconclusive"
    assert "never completed" in verdict.reasons[0]


def test_a_process_that_goes_on_after_an_unknown_outcome_is_not_believed() -> None:
    def plant(script: Script) -> None:
        script.add("maybe", "info")
        script.process -= 1
        script.add("next")

    verdict = check(legal(plant))
    assert verdict.result == "inconclusive"
    assert "harness" in verdict.reasons[0]


def test_a_clock_in_milliseconds_is_not_believed() -> None:
    verdict = check(edit(legal(), lambda event: msgspec.structs.replace(event, time=event.time // 1_000_000)))
    assert verdict.result == "inconclusive"
    assert "the clock shows" in verdict.reasons[0]


def test_a_nemesis_that_does_nothing_is_not_believed() -> None:
    """The node that was "killed" goes on answering."""

    def plant(script: Script) -> None:
        script.put(process="nemesis", type="info", f="kill", node="n3", value={"role": "follower", "pid": 8})
        script.read("n3")
        script.put(process="nemesis", type="info", f="restart", node="n3", value={})

    verdict = check(legal(plant))
    assert verdict.result == "inconclusive"
    assert "the fault did nothing" in verdict.reasons[0]


def test_answers_without_a_revision_are_not_believed() -> None:
    verdict = check(edit(legal(), lambda event: msgspec.structs.replace(event, rev=None)))
    assert verdict.result == "inconclusive"


def test_a_history_without_a_start_is_not_believed() -> None:
    assert check(renumber(legal()[1:])).result == "inconclusive"


def test_faults_that_never_end_last_to_the_end() -> None:
    script = Script()
    script.put(process="nemesis", type="info", f="pause", node="n2", value={"role": "follower", "pid": 3})
    (fault,) = faults_of(script.events)
    assert (fault.kind, fault.node, fault.end) == ("pause", "n2", None)


# The outcome table


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (Evidence(sent=False), "fail"),
        (Evidence(sent=True), "info"),
        (ACKNOWLEDGED, "ok"),
        (Evidence(sent=True, status=200, code="partial_fail", failed=("no-permission",)), "fail"),
        (Evidence(sent=True, status=200, code="partial_fail", failed=("internal-service-error",)), "info"),
        (Evidence(sent=True, status=200, code="success", failed=("unknown",)), "info"),
        (Evidence(sent=True, status=200, code="bad-request"), "fail"),
        (Evidence(sent=True, status=429), "fail"),
        (Evidence(sent=True, status=422), "fail"),
        (REFUSED, "fail"),
        (Evidence(sent=True, status=503, code="service-unavailable"), "info"),
        (Evidence(sent=True, status=200, code="service-unavailable", outcome="unknown"), "info"),
        (Evidence(sent=True, status=500), "info"),
        (Evidence(sent=True, status=504), "info"),
        (Evidence(sent=True, status=200), "info"),
    ],
)
def test_outcomes_follow_the_evidence(evidence: Evidence, outcome: str) -> None:
    assert outcome_of(evidence) == outcome


# The file


def test_a_history_reads_back_as_it_was_recorded(tmp_path: Path) -> None:
    times = iter(range(0, 1000, 10))
    path = tmp_path / "history.jsonl"
    with Recorder(path, clock=lambda: next(times)) as recorder:
        recorded = [
            recorder.record(
                Event(index=0, time=0, process=1, type="invoke", f="add", op=recorder.next_op(), value="é")
            ),
            recorder.record(Event(index=0, time=0, process=1, type="info", f="add", op=1, evidence=UNANSWERED)),
        ]
    assert load(path) == recorded
    assert [event.time for event in recorded] == [10, 20]


def test_a_damaged_history_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"index":0,"time":1,"process":"harness","type":"info","f":"start"}\n{"index":1,\n')
    with pytest.raises(ValueError, match=r"history\.jsonl:2"):
        load(path)
