"""The proven age of the applied state (``artemis.consensus.freshness``): never smaller than the truth."""

from __future__ import annotations

from artemis.consensus.freshness import UNKNOWN_US, Freshness, TimeProof


def pair() -> tuple[Freshness, Freshness]:
    """A leader of three whose clock runs 1,000 s ahead, and one follower."""
    return Freshness(1, base=10**12, now=1_000.0), Freshness(1, base=5 * 10**9, now=0.0)


def test_an_age_is_known_after_one_round_trip_and_counts_from_its_start() -> None:
    leader, follower = pair()
    assert follower.follower_age_us(0.0) == UNKNOWN_US
    follower.on_append("l", leader.proof("f", 1_000.0, 0), 7, now=0.01)
    follower.on_applied(7)
    assert follower.follower_age_us(0.01) == UNKNOWN_US, "nothing of the follower was echoed yet"
    leader.on_reply("f", follower.proof("l", 0.25), now=1_000.5)
    assert leader.leader_age_us(1_000.5) == 500_000
    follower.on_append("l", leader.proof("f", 1_001.0, leader.leader_age_us(1_001.0)), 7, now=1.25)
    follower.on_applied(7)
    assert follower.follower_age_us(1.5) == 1_250_000 + 1_000_000, "since the echo, and the leader's own age"


def test_heartbeats_read_after_a_pause_do_not_look_fresh() -> None:
    leader, follower = pair()
    leader.on_reply("f", follower.proof("l", 0.0), now=1_000.0)
    written_before_the_pause = leader.proof("f", 1_000.0, 0)
    follower.on_append("l", written_before_the_pause, 7, now=10.0)
    follower.on_applied(7)
    assert follower.follower_age_us(10.0) >= 9_900_000


def test_acknowledgements_read_after_a_pause_do_not_make_a_leader_fresh() -> None:
    leader, follower = pair()
    follower.on_append("l", leader.proof("f", 1_000.0), 7, now=0.0)
    leader.on_reply("f", follower.proof("l", 0.0), now=1_010.0)
    assert leader.leader_age_us(1_010.0) >= 9_900_000


def test_an_unapplied_commit_keeps_the_age_growing() -> None:
    leader, follower = pair()
    leader.on_reply("f", follower.proof("l", 0.0), now=1_000.0)
    follower.on_append("l", leader.proof("f", 1_000.0), 7, now=0.01)
    follower.on_applied(7)
    leader.on_reply("f", follower.proof("l", 1.0), now=1_001.0)
    follower.on_append("l", leader.proof("f", 1_001.0), 9, now=1.01)
    follower.on_applied(8)
    assert follower.follower_age_us(1.01) >= 1_000_000
    follower.on_applied(9)
    assert follower.follower_age_us(1.01) < 20_000


def test_an_echo_of_an_earlier_life_proves_nothing() -> None:
    follower = Freshness(1, base=777, now=0.0)
    follower.on_append("l", TimeProof(1, 10**15, 0), 7, now=0.5)
    follower.on_applied(7)
    assert follower.follower_age_us(0.5) == UNKNOWN_US


def test_a_leader_needs_a_majority_of_five() -> None:
    leader = Freshness(2, base=0, now=0.0)
    leader.on_reply("a", TimeProof(1, leader.proof("a", 0.5).stamp, 0), now=0.6)
    assert leader.leader_age_us(0.6) == UNKNOWN_US
    leader.on_reply("b", TimeProof(1, leader.proof("b", 0.2).stamp, 0), now=0.6)
    assert leader.leader_age_us(0.6) == 400_000


def test_what_a_majority_confirmed_of_a_leader_stays_true_when_it_leads_no_more() -> None:
    """A leader is cut off: its state was current when a majority last answered, and it goes on serving stale reads."""
    leader = Freshness(1, base=0, now=0.0)
    leader.on_reply("a", TimeProof(1, leader.proof("a", 0.5).stamp, 0), now=0.6)
    leader.keep_proof()
    assert leader.follower_age_us(2.0) == 1_500_000
    leader.forget_leadership()
    assert leader.follower_age_us(3.0) == 2_500_000
    leader.keep_proof()
    assert leader.follower_age_us(3.0) == 2_500_000, "nothing was confirmed in the new term"


def test_a_leader_that_no_majority_confirmed_has_nothing_to_keep() -> None:
    leader = Freshness(2, base=0, now=0.0)
    leader.on_reply("a", TimeProof(1, leader.proof("a", 0.5).stamp, 0), now=0.6)
    leader.keep_proof()
    assert leader.follower_age_us(2.0) == UNKNOWN_US


def test_a_lone_member_is_its_own_majority() -> None:
    assert Freshness(0, base=0, now=0.0).leader_age_us(5.0) == 0
