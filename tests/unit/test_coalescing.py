"""Renewals of all clients and nodes travel by lease id, together, in few bounded entries."""

from __future__ import annotations

from artemis.commands import Renew, decode_entry
from artemis.consensus.proposals import Orderer, Session
from artemis.consensus.timing import Bounds

NODES = ("n1", "n2", "n3")
FOREVER_MS = 2**62


def entries(commands_per_node: int, leases_each: int) -> list[bytes]:
    """What the leader makes of heartbeats that wait on three nodes, each naming other leases of a large registry."""
    bounds = Bounds()
    orderer = Orderer(bounds)
    lease_id = 10_000_000
    for node in NODES:
        session = Session(node, 1, bounds)
        for _ in range(commands_per_node):
            renew = Renew(lease_ids=tuple(range(lease_id, lease_id + leases_each)))
            session.propose(renew, None, FOREVER_MS, 1e9, lambda result: None)
            lease_id += leases_each
        orderer.take(node, 1, session.hand_over((1, "n1", 1)))
    made = []
    while len(orderer):
        made.append(orderer.next_entry(0))
    return made


def renewals(entry: bytes) -> int:
    commands = [proposal.command for proposal in decode_entry(entry).proposals]
    return sum(len(command.lease_ids) for command in commands if isinstance(command, Renew))


def test_what_waits_on_all_nodes_is_one_entry() -> None:
    (entry,) = entries(commands_per_node=66, leases_each=100)
    assert renewals(entry) == 3 * 66 * 100, "the renewals of one second, if nothing went out before"


def test_a_thousand_renewals_are_some_five_kilobytes() -> None:
    (entry,) = entries(commands_per_node=1, leases_each=1_000)
    assert len(entry) < 3 * 5_200


def test_heartbeats_of_single_instances_share_an_entry_too() -> None:
    (entry,) = entries(commands_per_node=1_000, leases_each=1)
    assert renewals(entry) == 3_000
    assert len(entry) < 3_000 * 40


def test_an_entry_is_bounded_by_proposals_and_bytes_and_nothing_is_left_behind() -> None:
    bounds = Bounds()
    many = entries(commands_per_node=5_000, leases_each=1)
    assert [len(decode_entry(entry).proposals) for entry in many[:-1]] == [bounds.entry_proposals] * (len(many) - 1)
    assert sum(map(renewals, many)) == 15_000
    large = entries(commands_per_node=20, leases_each=10_000)
    assert all(len(entry) <= bounds.entry_bytes + 16 for entry in large)
    assert sum(map(renewals, large)) == 600_000
