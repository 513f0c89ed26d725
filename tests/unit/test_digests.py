"""Whom a node believes when digests of one entry differ."""

from __future__ import annotations

import msgspec
import pytest

from artemis.consensus.digests import CHECKPOINTS_KEPT, DIGEST_FORMAT, DOUBT_SECONDS, Reread, StateDigests
from artemis.consensus.wire import Message, StateDigest
from artemis.registry import Registry
from tests.support.replica import Replica, instance, register, unregister


class Host:
    node_id = "n1"

    def __init__(self) -> None:
        self.replica = Replica()
        self.time = 100.0
        self.sent: list[tuple[str, Message]] = []
        self.quarantined: list[str] = []

    @property
    def registry(self) -> Registry:
        return self.replica.registry

    @registry.setter
    def registry(self, registry: Registry) -> None:
        self.replica.registry = registry

    def now(self) -> float:
        return self.time

    def send(self, peer: str, message: Message) -> None:
        self.sent.append((peer, message))

    def on_quarantined(self, reason: str) -> None:
        self.quarantined.append(reason)


class Node:
    """``digests`` of n1, whose peers are n2 and n3, and the digest it reported last."""

    def __init__(self, *peers: str) -> None:
        self.host = Host()
        self.digests = StateDigests(self.host, peers or ("n2", "n3"), 10_000)

    def checkpoint(self, steps: int = 1) -> StateDigest:
        """Pass a second of lease time; what was told of it."""
        for _ in range(steps):
            self.host.time += 1
            self.host.replica.step(self.host.replica.clock_ms + 1_000)
            self.digests.on_applied(self.host.registry.applied_index)
        _, message = self.host.sent[-1]
        assert isinstance(message, StateDigest)
        return message

    def hears(self, peer: str, message: StateDigest, *, same: bool = True, format: int = DIGEST_FORMAT) -> None:
        digest = message.digest if same else message.digest ^ 1
        self.digests.on_report(peer, StateDigest(message.index, digest, format))


def test_a_checkpoint_is_told_to_every_peer_and_other_entries_to_none() -> None:
    node = Node()
    told = node.checkpoint()
    assert [peer for peer, _ in node.host.sent] == ["n2", "n3"]
    assert told == StateDigest(node.host.registry.applied_index, node.host.registry.state_digest(), DIGEST_FORMAT)
    node.host.replica.step(node.host.replica.clock_ms + 999)
    node.digests.on_applied(node.host.registry.applied_index)
    assert len(node.host.sent) == 2


def test_a_replay_of_the_log_is_not_told_entry_by_entry() -> None:
    node = Node()
    for _ in range(500):
        node.host.replica.step(node.host.replica.clock_ms + 1_000)
        node.digests.on_applied(node.host.registry.applied_index)
    assert len(node.host.sent) == 2


def test_a_majority_verifies_and_names_who_differs() -> None:
    node = Node()
    told = node.checkpoint()
    node.hears("n3", told, same=False)
    node.hears("n2", told)
    assert node.digests.verified_index == told.index
    assert node.digests.differing == {"n3": told.index}
    assert node.digests.reason() is None
    again = node.checkpoint()
    node.hears("n2", again)
    node.hears("n3", again)
    assert node.digests.differing == {}


def test_a_node_that_a_majority_contradicts_is_quarantined_for_good() -> None:
    node = Node()
    told = node.checkpoint()
    node.hears("n2", told, same=False)
    assert not node.host.quarantined
    node.hears("n3", told, same=False)
    assert node.host.quarantined == [node.digests.quarantined]
    again = node.checkpoint()
    for peer in ("n2", "n3"):
        node.hears(peer, again)
    assert node.digests.reason() == node.digests.quarantined


def test_reports_may_come_before_the_node_has_applied_the_entry() -> None:
    node, ahead = Node(), Node()
    told = ahead.checkpoint()
    node.hears("n2", told, same=False)
    node.hears("n3", told, same=False)
    assert node.digests.quarantined is None
    node.checkpoint()
    assert node.digests.quarantined is not None


def test_without_a_majority_a_difference_counts_after_a_while_and_until_it_is_decided() -> None:
    node = Node()
    told = node.checkpoint()
    node.hears("n2", told, same=False)
    assert node.digests.reason() is None
    node.host.time += DOUBT_SECONDS
    assert "no majority decides" in str(node.digests.reason())
    node.hears("n3", told)
    assert node.digests.reason() is None
    assert node.digests.differing == {"n2": told.index}
    # A member that is known to be wrong raises no doubt any more, also while the third one is away.
    again = node.checkpoint()
    node.hears("n2", again, same=False)
    node.host.time += DOUBT_SECONDS
    assert node.digests.reason() is None


def test_silence_raises_no_doubt() -> None:
    node = Node()
    node.checkpoint(steps=10)
    node.host.time += 60
    assert node.digests.reason() is None


def test_a_digest_of_another_format_is_not_compared() -> None:
    node = Node()
    told = node.checkpoint()
    for peer in ("n2", "n3"):
        node.hears(peer, told, same=False, format=DIGEST_FORMAT + 1)
    node.host.time += DOUBT_SECONDS
    assert node.digests.reason() is None


def test_of_five_three_must_agree() -> None:
    node = Node("n2", "n3", "n4", "n5")
    told = node.checkpoint()
    node.hears("n2", told, same=False)
    node.hears("n3", told, same=False)
    node.hears("n4", told)
    assert node.digests.quarantined is None
    node.hears("n5", told)
    assert node.digests.verified_index == told.index
    assert set(node.digests.differing) == {"n2", "n3"}


def test_what_is_kept_is_bounded_whatever_peers_send() -> None:
    node = Node()
    for index in range(10_000):
        node.digests.on_report("n2", StateDigest(index, index, DIGEST_FORMAT))
    assert len(node.digests._digests) <= CHECKPOINTS_KEPT


def test_two_replicas_with_one_log_have_one_digest_and_any_difference_shows() -> None:
    one, other = Replica(), Replica()
    for replica in (one, other):
        replica.register(instance(), instance(instance_id="i2"))
    assert one.registry.state_digest() == other.registry.state_digest()
    seen = {one.registry.state_digest()}
    other.propose(register(instance(port=1)))
    seen.add(other.registry.state_digest())
    other.step(7)
    seen.add(other.registry.state_digest())
    other.propose(unregister(instance()), origin="n2", seq=1)
    seen.add(other.registry.state_digest())
    assert len(seen) == 4


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_pass_over_the_records_finds_the_one_that_changed_where_it_lies(at_once: int) -> None:
    replica = Replica()
    for number in range(20):
        replica.register(instance(f"s{number % 3}", f"i{number}"))
    well = Reread(replica.registry)
    # What is written during the pass is of the next one.
    replica.register(instance("s0", "new"))
    while not well.finished:
        assert well.advance(at_once) is None
    by_key = next(iter(replica.registry.services()))._by_key
    key = next(iter(by_key))
    by_key[key] = msgspec.structs.replace(by_key[key], instance=instance("s0", "other"))
    damaged = Reread(replica.registry)
    found = [damaged.advance(at_once) for _ in range(21) if not damaged.finished]
    assert found[-1] is not None
    assert not any(found[:-1])
