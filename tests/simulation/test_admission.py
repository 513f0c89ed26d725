"""Who may take part (``artemis.consensus.admission``): nobody whose promises can be gone."""

from __future__ import annotations

import pytest

from artemis.consensus.admission import Admission
from artemis.consensus.wire import IntroductionReply
from tests.simulation.directed import (
    engine_of,
    followers_of,
    leader_of,
    names_on,
    new_cluster,
    settle,
    settled_cluster,
    write,
)
from tests.simulation.world import Violation


def test_a_cluster_begins_when_all_its_members_run() -> None:
    """Two new members do not know whether the third has data and they lost theirs."""
    cluster = new_cluster("founding")
    cluster.start("n1")
    cluster.start("n2")
    cluster.world.run_for(20)
    assert cluster.leader() is None
    assert any("waits for n3" in reason for reason in engine_of(cluster, "n1").status().reasons)
    cluster.start("n3")
    settle(cluster)


def test_a_founder_that_was_slow_is_admitted_by_the_others() -> None:
    cluster = new_cluster("slow founder")
    cluster.start_all()
    cluster.world.run_for(0.05)
    cluster.network.cut("n3", "n1")
    cluster.network.cut("n3", "n2")
    cluster.network.cut("n1", "n3")
    cluster.network.cut("n2", "n3")
    cluster.world.run_for(5)
    cluster.kill("n3")
    cluster.network.heal_all()
    cluster.start("n3")
    settle(cluster)


def test_a_member_whose_data_is_gone_does_not_start() -> None:
    cluster = settled_cluster("gone")
    assert write(cluster, "n1", "a")
    cluster.kill("n2")
    cluster.replace_disk("n2")
    cluster.start("n2")
    with pytest.raises(Violation, match=r"n2 stops itself: .* knows this member with other data.*--rejoin"):
        cluster.world.run_for(5)


def test_a_restart_does_not_make_a_lost_member_new() -> None:
    """Its second start finds a journal; only an admitted one takes part."""
    cluster = settled_cluster("gone twice")
    for name in ("n1", "n3"):
        cluster.network.cut("n2", name)
        cluster.network.cut(name, "n2")
    cluster.kill("n2")
    cluster.replace_disk("n2")
    for _ in range(2):
        cluster.start("n2")
        cluster.world.run_for(3)
        cluster.kill("n2")
    cluster.network.heal_all()
    cluster.start("n2")
    with pytest.raises(Violation, match="n2 stops itself"):
        cluster.world.run_for(5)


@pytest.mark.parametrize("members", [3, 5])
def test_a_rejoining_member_takes_the_state_and_then_takes_part(members: int) -> None:
    cluster = settled_cluster(f"rejoin {members}", members)
    for number in range(10):
        assert write(cluster, "n1", f"i{number}")
    cluster.kill("n2")
    cluster.replace_disk("n2")
    cluster.machines["n2"].rejoin = True
    cluster.start("n2")
    settle(cluster)
    assert names_on(cluster, "n2") == {f"i{number}" for number in range(10)}
    # It counts again: with it a majority is left when others stop.
    for name in cluster.members[2 : 2 + members // 2]:
        cluster.kill(name)
    assert cluster.world.run_until_true(lambda: write(cluster, "n1", "late"), within=20)
    cluster.start_all()
    settle(cluster)


def test_a_rejoining_member_says_that_it_waits_for_a_majority_of_the_others() -> None:
    cluster = settled_cluster("rejoin without a majority")
    assert write(cluster, "n1", "a")
    cluster.kill("n3")
    cluster.kill("n2")
    cluster.replace_disk("n2")
    cluster.machines["n2"].rejoin = True
    cluster.start("n2")
    cluster.world.run_for(5)
    reasons = engine_of(cluster, "n2").status().reasons
    assert any("waits for a leader that a majority confirms without it" in reason for reason in reasons)
    assert not any("new cluster" in reason for reason in reasons)
    cluster.start("n3")
    settle(cluster)
    assert names_on(cluster, "n2") == {"a"}


def test_the_state_may_come_before_the_names_of_the_founders(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to an introduction waits for its sender's disk, the state from a leader does not. A member admitted
    with itself as the only founder ran on, and refused its next start: its members were others."""
    cluster = settled_cluster("state before names")
    assert write(cluster, "n1", "a")
    held: list[tuple[Admission, str, IntroductionReply]] = []
    heard = Admission.on_reply
    with monkeypatch.context() as patch:
        patch.setattr(Admission, "on_reply", lambda *reply: held.append(reply))
        cluster.kill("n2")
        cluster.replace_disk("n2")
        cluster.machines["n2"].rejoin = True
        cluster.start("n2")
        cluster.world.run_for(3)
        assert held
        assert not engine_of(cluster, "n2").admission.done
    for reply in held:
        heard(*reply)
    settle(cluster)
    cluster.kill("n2")
    cluster.start("n2")
    settle(cluster)
    assert set(engine_of(cluster, "n2").journal.founders) == set(cluster.members)


def test_a_rejoining_member_helps_nobody_who_lacks_what_it_acknowledged() -> None:
    """n1 and n2 hold a write that n3 missed; n2's disk is replaced while n1 is down. n2 and n3 are a majority by
    number, and must not elect."""
    cluster = settled_cluster("lost acknowledgement")
    cluster.kill("n3")
    assert cluster.world.run_until_true(lambda: write(cluster, "n1", "precious"), within=20)
    cluster.kill("n2")
    cluster.kill("n1")
    cluster.replace_disk("n2")
    cluster.machines["n2"].rejoin = True
    cluster.start("n2")
    cluster.start("n3")
    cluster.world.run_for(20)
    assert cluster.leader() is None
    cluster.start("n1")
    settle(cluster)
    assert all(names_on(cluster, name) == {"precious"} for name in cluster.members)


def test_a_rejoining_member_hears_of_all_before_it_has_a_vote() -> None:
    """A candidate that is cut off holds the lost vote. With a second vote of that member in its term, and one more for
    each later on, two would lead it."""
    cluster = settled_cluster("lost vote", members=5)
    assert write(cluster, "n1", "a")
    leader = leader_of(cluster)
    candidate, voter, *rest = followers_of(cluster)
    for name in (leader, *rest):
        cluster.network.cut(name, candidate)
        cluster.network.cut(candidate, name)
    elections = engine_of(cluster, candidate).core.elections
    elections.transfer = True
    elections.campaign_now()
    assert cluster.world.run_until_true(lambda: len(elections._voters[1]) == 1, within=5), "its vote has arrived"
    term = elections.term
    cluster.network.cut(voter, candidate)
    cluster.network.cut(candidate, voter)
    cluster.kill(voter)
    cluster.replace_disk(voter)
    cluster.machines[voter].rejoin = True
    cluster.start(voter)
    waits = f"waits until it has heard of {candidate}"
    assert cluster.world.run_until_true(
        lambda: any(waits in reason for reason in engine_of(cluster, voter).status().reasons), within=20
    )
    assert names_on(cluster, voter) == {"a"}
    # A start in between must find its way here again, though nothing was committed meanwhile.
    cluster.kill(voter)
    cluster.start(voter)
    assert cluster.world.run_until_true(
        lambda: any(waits in reason for reason in engine_of(cluster, voter).status().reasons), within=20
    )
    cluster.network.heal_all()
    settle(cluster)
    assert engine_of(cluster, voter).core.term >= term


def test_data_of_another_set_of_members_is_refused() -> None:
    cluster = settled_cluster("members")
    cluster.kill("n2")
    cluster.members = ("n1", "n2")
    cluster.start("n2")
    with pytest.raises(Violation, match=r"peers: the data directory belongs to a cluster of n1, n2, n3"):
        cluster.world.run_for(1)
