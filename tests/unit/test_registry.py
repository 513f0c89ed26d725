"""What one entry does to the state. Each test is a sentence of the promises."""

from __future__ import annotations

import pytest

from artemis.commands import Announce, Entry, Proposal, Renew, Unregister
from artemis.model import Change, Instance, InstanceKey, Member, key_of
from artemis.outcomes import Announced, Registered, Renewed, Unregistered
from artemis.registry import Registry, StateLimits
from tests.support.replica import NO_LIMIT_MS, Replica, frozen_bytes, instance, register, renew_keys, unregister


def changes(registry: Registry, since: int = 0) -> list[Change]:
    found = registry.changes_since(since)
    assert not hasattr(found, "oldest"), "compacted"
    return [change for change in found if isinstance(change, Change)]


def test_a_registration_is_visible_with_every_field_as_given() -> None:
    given = Instance(
        service_id="Orders",
        instance_id="I1",
        region_id="Lab",
        zone_id="Z",
        group_id="g",
        machine_name="m",
        ip="10.0.0.1",
        port=8080,
        protocol="http",
        url="http://10.0.0.1:8080",
        health_check_url="http://10.0.0.1:8080/health",
        status="up",
        metadata={"b": "2", "a": None},
    )
    replica = Replica()
    assert replica.propose(register(given)) == Registered(revision=1, lease_ids=(1,), created=(True,))
    record = replica.registry.find(InstanceKey("lab", "orders", "i1"))
    assert record is not None
    assert record.instance == given
    assert list(record.instance.metadata or {}) == ["b", "a"]
    assert (record.lease_id, record.revision) == (1, 1)


def test_an_identity_is_compared_without_case_and_echoed_as_registered_last() -> None:
    replica = Replica()
    replica.register(instance("CaseSvc", "A"))
    outcome = replica.propose(register(instance("casesvc", "a", region_id="LAB")))
    assert isinstance(outcome, Registered)
    assert outcome.created == (False,)
    view = replica.registry.service("CASESVC")
    assert view is not None
    assert view.service_id == "casesvc"
    assert [record.instance.instance_id for record in view.records] == ["a"]
    assert replica.registry.instance_count == replica.registry.service_count == replica.registry.lease_count == 1


def test_parts_of_an_identity_do_not_run_together() -> None:
    replica = Replica()
    replica.register(instance("c", "i", region_id="a.b"), instance("b.c", "i", region_id="a"))
    assert replica.registry.instance_count == 2


def test_a_missing_region_is_an_identity_of_its_own() -> None:
    replica = Replica()
    replica.register(instance(region_id=None), instance(region_id="lab"))
    assert replica.registry.instance_count == 2
    assert replica.registry.find(InstanceKey("", "orders", "i1")) is not None


def test_zone_and_group_are_no_part_of_the_identity() -> None:
    replica = Replica()
    replica.register(instance(zone_id="z1", group_id="g1"))
    replica.register(instance(zone_id="z2", group_id="g2"))
    assert replica.registry.instance_count == 1


def test_registering_again_replaces_wholesale_with_a_new_lease_and_is_a_change() -> None:
    replica = Replica()
    (first,) = replica.register(instance(metadata={"a": "1"}, status="up"))
    (second,) = replica.register(instance(status=None))
    record = replica.registry.find(key_of(instance()))
    assert record is not None
    assert record.instance == instance(status=None)
    assert second > first
    assert replica.registry.lease_deadline_ms(first) is None
    assert [(change.revision, change.type) for change in changes(replica.registry)] == [(1, "new"), (2, "change")]


def test_the_last_of_equal_keys_in_one_registration_wins() -> None:
    replica = Replica()
    outcome = replica.propose(register(instance(port=1), instance(port=2)))
    assert outcome == Registered(revision=2, lease_ids=(1, 2), created=(True, False))
    record = replica.registry.find(key_of(instance()))
    assert record is not None
    assert record.instance.port == 2
    assert replica.registry.lease_count == 1


def test_each_effective_change_draws_one_revision_and_nothing_else_does() -> None:
    replica = Replica()
    (lease,) = replica.register(instance())
    replica.register(instance(instance_id="i2"), instance(instance_id="i3"))
    assert replica.registry.revision == 3
    replica.propose(Renew(lease_ids=(lease,), keys=(key_of(instance()),)))
    replica.propose(Announce(Member(node_id="n1", url="http://n1", region_id="lab", zone_id="z")))
    replica.propose(unregister(instance(instance_id="unknown")))
    replica.step(100)
    assert replica.registry.revision == 3
    replica.propose(unregister(instance()))
    assert [change.revision for change in changes(replica.registry)] == [1, 2, 3, 4]


def test_unregister_says_what_existed() -> None:
    replica = Replica()
    replica.register(instance())
    gone, unknown = instance(), instance(instance_id="unknown")
    assert replica.propose(unregister(gone, unknown, gone)) == Unregistered(revision=2, existed=(True, False, False))
    assert replica.registry.find(key_of(gone)) is None
    assert replica.registry.lease_count == 0


def test_unregister_then_register_in_one_entry_leaves_the_fresh_instance() -> None:
    replica = Replica()
    replica.register(instance())
    replica.together(unregister(instance()), register(instance(port=9)))
    record = replica.registry.find(key_of(instance()))
    assert record is not None
    assert record.instance.port == 9
    assert [change.type for change in changes(replica.registry)] == ["new", "delete", "new"]


def test_a_renewal_names_the_positions_it_did_not_find() -> None:
    replica = Replica()
    first, second = replica.register(instance(), instance(instance_id="i2"))
    unknown = InstanceKey("lab", "orders", "nobody")
    outcome = replica.propose(Renew(lease_ids=(99, first, 98, second), keys=(key_of(instance()), unknown)))
    assert outcome == Renewed(revision=2, missing_leases=(0, 2), missing_keys=(1,))


def test_a_renewal_never_creates_an_instance() -> None:
    replica = Replica()
    (lease,) = replica.register(instance())
    replica.propose(unregister(instance()))
    outcome = replica.propose(Renew(lease_ids=(lease,), keys=(key_of(instance()),)))
    assert outcome == Renewed(revision=2, missing_leases=(0,), missing_keys=(0,))
    assert replica.registry.instance_count == replica.registry.lease_count == 0


def test_a_renewal_of_an_earlier_epoch_is_missing_and_does_not_help_the_new_one() -> None:
    replica = Replica()
    (old,) = replica.register(instance())
    replica.step(1_000)
    (new,) = replica.register(instance())
    before = replica.registry.lease_deadline_ms(new)
    replica.step(5_000)
    assert replica.propose(Renew(lease_ids=(old,))) == Renewed(revision=2, missing_leases=(0,))
    assert replica.registry.lease_deadline_ms(new) == before


def test_a_renewal_by_key_renews_whatever_stands_there() -> None:
    replica = Replica()
    (lease,) = replica.register(instance(), ttl_ms=1_000)
    replica.step(700)
    replica.propose(renew_keys(key_of(instance())))
    assert replica.registry.lease_deadline_ms(lease) == 700 + 1_000 + 200


def test_a_member_stands_as_it_announced_itself_last() -> None:
    replica = Replica()
    for url in ("http://a", "http://b"):
        member = Member(node_id="n1", url=url, region_id="lab", zone_id="z")
        assert replica.propose(Announce(member)) == Announced(revision=0)
    assert [member.url for member in replica.registry.members.values()] == ["http://b"]


def test_a_service_without_instances_is_gone_and_its_revision_does_not_go_back() -> None:
    replica = Replica()
    replica.register(instance("orders"))
    replica.register(instance("other"))
    replica.propose(unregister(instance("orders")))
    assert replica.registry.service("orders") is None
    assert [view.service_id for view in replica.registry.services()] == ["other"]
    replica.register(instance("orders"))
    view = replica.registry.service("orders")
    assert view is not None
    assert view.revision == 4


def test_a_service_knows_the_revision_of_its_own_last_change() -> None:
    replica = Replica()
    replica.register(instance("a"), instance("a", "i2"))
    replica.register(instance("b"))
    replica.propose(unregister(instance("a")))
    revisions = {view.service_id: view.revision for view in replica.registry.services()}
    assert revisions == {"a": 4, "b": 3}


def test_instances_are_listed_by_first_registration_and_a_replacement_keeps_its_place() -> None:
    replica = Replica()
    replica.register(*(instance(instance_id=each) for each in ("c", "a", "b")))
    replica.register(instance(instance_id="c", port=9))
    view = replica.registry.service("orders")
    assert view is not None
    assert [record.instance.instance_id for record in view.records] == ["c", "a", "b"]
    assert len(view) == 3


def test_an_index_that_was_applied_is_a_bug_of_the_caller_and_changes_nothing() -> None:
    replica = Replica()
    replica.register(instance())
    before = frozen_bytes(replica.registry)
    for index in (1, 0):
        proposal = Proposal("n1", 1, 50, None, NO_LIMIT_MS, register(instance(instance_id="i2")))
        with pytest.raises(RuntimeError, match="was applied"):
            replica.registry.apply(index, Entry(9, (proposal,)))
    assert frozen_bytes(replica.registry) == before


def test_indices_may_jump_over_entries_that_are_not_ours() -> None:
    registry = Registry()
    registry.apply(7, Entry(1))
    registry.apply(12, Entry(2))
    assert registry.applied_index == 12


def test_the_clock_never_goes_back() -> None:
    replica = Replica()
    replica.step(5_000)
    replica.step(4_000)
    assert replica.registry.clock_ms == 5_000


def test_extreme_numbers_are_applied_and_can_be_frozen() -> None:
    replica = Replica()
    replica.register(instance(), ttl_ms=2**63 - 1)
    replica.register(instance(instance_id="i2", port=-(2**63)), ttl_ms=-(2**63))
    replica.step(2**63 - 1)
    assert frozen_bytes(replica.registry)
    assert replica.registry.instance_count == 0


def test_a_look_up_of_what_is_not_there_is_none() -> None:
    registry = Registry()
    assert registry.service("nobody") is None
    assert registry.find(InstanceKey("lab", "nobody", "i1")) is None
    assert list(registry.services()) == []
    assert registry.session("n1") is None


def test_an_unregister_of_another_instance_of_the_service_leaves_the_service() -> None:
    replica = Replica()
    replica.register(instance(), instance(instance_id="i2"))
    replica.propose(Unregister((InstanceKey("lab", "orders", "i1"),)))
    view = replica.registry.service("orders")
    assert view is not None
    assert [record.instance.instance_id for record in view.records] == ["i2"]


def test_the_digest_names_the_records_and_not_the_way_to_them() -> None:
    left, right = Replica(), Replica()
    empty = left.registry.digest
    left.register(instance())
    with_one = left.registry.digest
    assert with_one != empty
    right.register(instance(port=9))
    assert right.registry.digest != with_one
    for replica in (left, right):
        replica.propose(unregister(instance()))
    assert left.registry.digest == right.registry.digest == empty


def test_limits_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="requests_max"):
        StateLimits(requests_max=-1)
