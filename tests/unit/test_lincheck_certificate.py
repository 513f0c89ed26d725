"""The certificate accepts what a correct registry answered, and finds every fault planted in it.

Each fault is planted in a history that is accepted without it: in the logs, in an answer, or in a time.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from artemis.commands import (
    Entry,
    Proposal,
    Register,
    Registration,
    RequestId,
    decode_entry,
    encode_entry,
    encode_proposal,
)
from artemis.model import Instance
from artemis.outcomes import Registered
from artemis.registry import Registry, StateLimits
from jepsen_lite.linearizability.certificate import ANOMALIES_MAX, Applied, Certificate, Read, Write, check
from tests.support.certificates import Cluster, Evidence

ENTRIES = 60


def evidence(seed: int = 1) -> Evidence:
    return Cluster(seed).run(ENTRIES)


def judge(found: Evidence) -> Certificate:
    return check(found.logs, found.writes, found.reads)


def kinds(found: Evidence) -> set[str]:
    certificate = judge(found)
    assert certificate.verdict == ("invalid" if certificate.anomalies else "valid")
    return {anomaly.kind for anomaly in certificate.anomalies}


def acknowledged(found: Evidence, *, named: bool = True) -> list[int]:
    """Positions of registrations that were acknowledged."""
    return [
        at
        for at, write in enumerate(found.writes)
        if isinstance(write.outcome, Registered) and (write.request is not None) == named
    ]


def change_entries(found: Evidence, change: Callable[[Entry], Entry]) -> None:
    """Have every node show another log."""
    for log in found.logs.values():
        for at, record in enumerate(log):
            if record.payload:
                entry = change(decode_entry(record.payload))
                payload = encode_entry(entry.clock_ms, [encode_proposal(each) for each in entry.proposals])
                log[at] = Applied(record.index, record.term, payload)


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_history_is_accepted(seed: int) -> None:
    found = evidence(seed)
    certificate = judge(found)
    assert certificate == Certificate("valid", (), certificate.stats)
    assert certificate.stats["entries"] == ENTRIES + 1
    assert len(acknowledged(found)) > 20
    assert sum(read.linearizable for read in found.reads) > 20
    assert any(write.ret is None for write in found.writes)
    assert certificate.stats["revision"] > len(acknowledged(found)), "nothing expired or was removed"


def test_a_write_that_is_in_no_log_is_lost() -> None:
    found = evidence()
    lost = found.writes[acknowledged(found)[3]]
    change_entries(
        found,
        lambda entry: msgspec.structs.replace(
            entry, proposals=tuple(each for each in entry.proposals if each.request != lost.request)
        ),
    )
    assert "lost" in kinds(found)


def test_a_write_without_request_id_that_is_in_no_log_is_lost() -> None:
    found = evidence()
    lost = found.writes[acknowledged(found, named=False)[0]]
    change_entries(
        found,
        lambda entry: msgspec.structs.replace(
            entry, proposals=tuple(each for each in entry.proposals if each.command != lost.command)
        ),
    )
    assert "lost" in kinds(found)


def test_nodes_that_applied_different_entries_disagree() -> None:
    found = evidence()
    log = found.logs["n3"]
    log[7] = Applied(8, 2, log[7].payload)
    assert kinds(found) == {"disagreement"}


def test_an_entry_that_cannot_be_read_is_reported() -> None:
    found = evidence()
    for log in found.logs.values():
        log[7] = Applied(8, 1, b"\x01\xff")
    assert "disagreement" in kinds(found)


def test_a_wrong_answer() -> None:
    found = evidence()
    at = acknowledged(found)[3]
    outcome = found.writes[at].outcome
    assert isinstance(outcome, Registered)
    lie = msgspec.structs.replace(outcome, created=tuple(not each for each in outcome.created))
    found.writes[at] = found.writes[at]._replace(outcome=lie)
    assert kinds(found) == {"wrong-answer"}


def test_of_an_answer_only_the_revision_may_be_known() -> None:
    found = evidence()
    at = acknowledged(found)[3]
    outcome = found.writes[at].outcome
    assert isinstance(outcome, Registered)
    found.writes[at] = found.writes[at]._replace(outcome=outcome.revision)
    assert kinds(found) == set()
    found.writes[at] = found.writes[at]._replace(outcome=outcome.revision + 1)
    assert kinds(found) == {"wrong-answer"}


def test_a_write_that_failed_for_certain_and_happened() -> None:
    found = evidence()
    for named in (True, False):
        at = acknowledged(found, named=named)[2]
        changed = Evidence(found.logs, list(found.writes), found.reads)
        changed.writes[at] = found.writes[at]._replace(outcome=None)
        assert kinds(changed) == {"done-after-all"}


def test_a_write_before_one_that_had_ended() -> None:
    found = evidence()
    at = acknowledged(found)[3]
    end = max(write.ret or 0 for write in found.writes)
    found.writes[at] = found.writes[at]._replace(call=end + 1, ret=end + 2)
    assert "out-of-order" in kinds(found)


def test_an_unknown_write_that_happened_before_it_was_asked_for() -> None:
    found = evidence()
    at = acknowledged(found)[3]
    end = max(write.ret or 0 for write in found.writes)
    found.writes[at] = found.writes[at]._replace(call=end + 1, ret=None, outcome=None)
    assert "out-of-order" in kinds(found)


def test_touching_intervals_are_concurrent() -> None:
    """``second`` comes later in the log and ends when ``first`` begins: legal; a moment earlier, it is not."""
    registry, log, commands = Registry(), [], []
    for index, name in enumerate(("first", "second"), start=1):
        commands.append(Register((Registration(Instance(service_id="alpha", instance_id=name), 5_000),)))
        proposal = Proposal("n1", 1, index, RequestId(name, b"12345678"), 1_000, commands[-1])
        log.append(Applied(index, 1, encode_entry(0, [encode_proposal(proposal)])))
    outcomes = [registry.apply(record.index, decode_entry(record.payload))[0] for record in log]

    def judged(end: float) -> set[str]:
        first = Write(1, commands[0], RequestId("first", b"12345678"), outcomes[0], 5, 9)
        second = Write(2, commands[1], RequestId("second", b"12345678"), outcomes[1], 0, end)
        return kinds(Evidence({"n1": log}, [first, second]))

    assert judged(5) == set()
    assert judged(4) == {"out-of-order"}


def linearizable_read(found: Evidence) -> int:
    return next(at for at, read in enumerate(found.reads) if read.linearizable and len(read.seen) > 2)


def test_a_stale_read_that_says_it_is_linearizable() -> None:
    found = evidence()
    at = linearizable_read(found)
    end = max(write.ret or 0 for write in found.writes)
    found.reads[at] = found.reads[at]._replace(call=end + 1, ret=end + 2)
    assert kinds(found) == {"stale-read"}
    found.reads[at] = found.reads[at]._replace(linearizable=False)
    assert kinds(found) == set()


def test_a_read_of_what_had_not_been_asked_for_yet() -> None:
    found = evidence()
    at = max(at for at, read in enumerate(found.reads) if read.linearizable)
    found.reads[at] = found.reads[at]._replace(call=-2, ret=-1)
    assert "from-the-future" in kinds(found)


def test_a_read_beyond_the_end_of_the_log() -> None:
    found = evidence()
    at = linearizable_read(found)
    found.reads[at] = found.reads[at]._replace(revision=10**6, linearizable=False)
    assert kinds(found) == {"from-the-future"}


@pytest.mark.parametrize("linearizable", [True, False])
def test_a_read_that_lacks_something_or_has_too_much(linearizable: bool) -> None:
    found = evidence()
    at = next(at for at, read in enumerate(found.reads) if read.linearizable is linearizable and len(read.seen) > 2)
    read = found.reads[at]
    for seen in (read.seen - {min(read.seen)}, read.seen | {"phantom"}):
        found.reads[at] = read._replace(seen=seen)
        assert kinds(found) == {"wrong-content"}


def test_a_read_of_half_a_request() -> None:
    found = evidence()
    whole = next(
        write.outcome
        for write in found.writes
        if isinstance(write.command, Register) and len(write.command.items) == 3
        if isinstance(write.outcome, Registered)
    )
    inside = whole.revision - 1
    found.reads.append(Read(99, "alpha", frozenset(), inside, linearizable=False, call=0, ret=1))
    assert kinds(found) == {"torn"}


def test_a_session_read_below_what_was_asked_for() -> None:
    found = evidence()
    at = linearizable_read(found)
    found.reads[at] = found.reads[at]._replace(min_revision=found.reads[at].revision + 1)
    assert kinds(found) == {"below-minimum"}


def test_a_registry_that_forgets_requests_is_found() -> None:
    """The same log, answered by a registry that executes a retry again."""
    found = Cluster(1, StateLimits(requests_max=0)).run(ENTRIES)
    assert "wrong-answer" in kinds(found)


def test_a_registry_whose_leases_never_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artemis.leases.LEASE_STAMP_ERROR_MS", 10**9)
    assert "wrong-answer" in kinds(evidence())


@pytest.mark.parametrize("removed", [slice(0, 1), slice(9, 10), slice(0, None)])
def test_logs_with_a_gap_prove_nothing(removed: slice) -> None:
    found = evidence()
    for log in found.logs.values():
        del log[removed]
    certificate = judge(found)
    assert certificate.verdict == "unknown"
    assert [anomaly.kind for anomaly in certificate.anomalies] == ["no-log"]


def test_one_node_fills_the_gap_of_another() -> None:
    found = evidence()
    del found.logs["n1"][:20]
    del found.logs["n2"][30:]
    del found.logs["n3"][:]
    assert judge(found).verdict == "valid"


def test_anomalies_are_bounded() -> None:
    found = evidence()
    found.reads += [Read(9, "alpha", frozenset({"x"}), 0, linearizable=False, call=0, ret=1)] * (ANOMALIES_MAX + 5)
    assert len(judge(found).anomalies) == ANOMALIES_MAX


def test_an_operation_is_named_in_words() -> None:
    found = evidence()
    write: Write = found.writes[acknowledged(found)[0]]
    assert write.request is not None
    assert write.request.id in str(write)
    assert f"revision {found.reads[0].revision}" in str(found.reads[0])
