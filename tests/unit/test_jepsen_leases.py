"""The judge of leases under faults: what is early, what is late, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.checker import Result
from jepsen_lite.lease_report import Least, Run, certainly_late, judge, table, tails
from jepsen_lite.owners import BUDGET_MS, Lease, Leases
from jepsen_lite.tails import OUTAGE_SECONDS, Outages

TTL_S = 2.0
RENEWED_S = 10.0
ONE = Least(ended=1)


def lease(gone_at: float | None, seen_at: float = RENEWED_S + 1.0) -> Lease:
    """Last renewed at 10.00 s, acknowledged at 10.01 s."""
    return Lease(
        "i1-1",
        TTL_S,
        registered_at=5.0,
        acknowledged_at=RENEWED_S,
        renewed_by=RENEWED_S + 0.01,
        leaderships=[1, 2],
        seen_at=seen_at,
        gone_at=gone_at,
    )


def run(*leases: Lease, outages: Outages | None = None, leaderships: int = 3, steadfast: bool = False) -> Run:
    return Run(list(leases), outages or Outages(0.0), leaderships, renewals=9, seconds=60.0, steadfast=steadfast)


def verdict(of: Run, least_ended: int = 1) -> Result:
    return judge(of, Least(ended=least_ended))[0]


def test_an_end_between_the_bounds_is_valid() -> None:
    fine = run(lease(gone_at=12.3, seen_at=12.2))
    assert judge(fine, ONE) == ("valid", [])
    ended = tails(fine, fine.leases[0])
    assert ended.early == pytest.approx(0.3)
    assert ended.late == pytest.approx(0.29)
    assert (ended.outage, ended.leader_changes) == (0.0, 1)
    assert any("2 s       1" in line for line in table(fine))


@pytest.mark.parametrize(("gone_at", "wanted"), [(11.999, "invalid"), (12.001, "valid")])
def test_an_end_before_the_ttl_of_the_last_acknowledged_renewal_is_early(gone_at: float, wanted: Result) -> None:
    result, reasons = judge(run(lease(gone_at)), ONE)
    assert result == wanted
    assert not reasons or "0.001 s early" in reasons[0]


@pytest.mark.parametrize(("seen_at", "wanted"), [(13.0, "valid"), (13.02, "invalid")])
def test_a_lease_seen_more_than_a_second_after_its_ttl_is_late(seen_at: float, wanted: Result) -> None:
    result, reasons = judge(run(lease(14.0, seen_at)), ONE)
    assert result == wanted
    assert not reasons or "1.010 s late" in reasons[0]


def test_time_without_acknowledged_renewals_is_not_late() -> None:
    outages = Outages(0.0)
    for beat in range(110):
        outages.heard(beat / 10)
    outages.heard(12.9)  # silent from 10.9 on
    late = run(lease(15.0, seen_at=14.9), outages=outages)
    assert outages.between(10.0, 20.0) == pytest.approx(2.0)
    assert outages.between(11.9, 12.4) == pytest.approx(0.5)
    assert certainly_late(late, late.leases[0]) == pytest.approx(0.89)
    assert verdict(late) == "valid"
    assert verdict(run(lease(15.0, seen_at=14.9))) == "invalid"


def test_a_gap_as_short_as_a_commit_is_no_outage() -> None:
    outages = Outages(1.0)
    outages.heard(1.0 + OUTAGE_SECONDS)
    assert outages.between(0.0, 9.0) == 0.0


def test_a_lease_that_never_ends_is_found() -> None:
    result, (reason,) = judge(run(lease(gone_at=None)), ONE)
    assert (result, "never ended" in reason) == ("invalid", True)


def test_what_comes_back_is_found() -> None:
    back = lease(gone_at=12.3)
    back.seen(12.2)
    assert not back.faults
    back.seen(12.4)
    assert verdict(run(back)) == "invalid"


@pytest.mark.parametrize(("least_ended", "leaderships"), [(2, 3), (1, 1)])
def test_too_little_proves_nothing(least_ended: int, leaderships: int) -> None:
    assert verdict(run(lease(12.3), leaderships=leaderships), least_ended) == "inconclusive"


def test_a_lease_that_is_renewed_all_the_time_may_not_end() -> None:
    ended = lease(gone_at=None)
    ended.gone(15.0, 3)
    assert ended.missed_while_renewing
    assert verdict(run(ended)) == "valid"
    assert verdict(run(ended, steadfast=True)) == "invalid"


def test_a_request_of_unknown_outcome_may_act_until_its_budget_is_over_or_its_node_wakes() -> None:
    leases = Leases(lambda: 0.0)
    budget_s = BUDGET_MS / 1000
    assert leases.may_act_until("n1", 10.0, 10.1) == 10.0 + budget_s
    leases.pauses += [("n1", 9.0, 14.0), ("n2", 9.0, 30.0), ("n1", 50.0, 60.0)]
    assert leases.may_act_until("n1", 10.0, 10.8) == 14.0 + budget_s
    assert leases.may_act_until("n3", 10.0, 10.8) == 10.8


def test_the_first_answer_without_a_lease_counts() -> None:
    one = replace(lease(gone_at=None), leaderships=[4])
    one.gone(12.5, 6)
    one.gone(12.9, 7)
    assert (one.gone_at, one.leaderships, one.missed_while_renewing) == (12.5, [4, 6], True)
