"""Writes on condition: what the present record must be, decided inside the one entry of the request."""

from __future__ import annotations

from artemis.commands import Command, Condition, Renew, RequestId, Unregister
from artemis.model import key_of
from artemis.outcomes import Conflict, Registered, Renewed, Unregistered
from tests.support.replica import Replica, instance, register, unregister


def conditional(replica: Replica, command: Command) -> tuple[Conflict, ...]:
    outcome = replica.propose(command)
    assert isinstance(outcome, Registered | Unregistered | Renewed)
    return outcome.refused


def test_a_condition_that_holds_lets_the_command_through() -> None:
    replica = Replica()
    one = instance()
    assert replica.propose(register(one, conditions=[Condition(0, revision=0)])) == Registered(1, (1,), (True,))
    assert replica.propose(register(one, conditions=[Condition(0, revision=1)])) == Registered(2, (2,), (False,))
    assert replica.propose(register(one, conditions=[Condition(0, epoch=2)])) == Registered(3, (3,), (False,))
    assert replica.propose(Unregister((key_of(one),), (Condition(0, 3, 3),))) == Unregistered(4, (True,))
    assert replica.propose(Unregister((key_of(one),), (Condition(0, 0, 0),))) == Unregistered(4, (False,))


def test_an_unmet_condition_changes_nothing_and_names_what_is_there() -> None:
    replica = Replica()
    replica.register(instance("other"))
    replica.propose(unregister(instance("other")))
    (epoch,) = replica.register(instance())
    assert epoch == 2
    replica.step(5_000)
    deadline_ms = replica.registry.lease_deadline_ms(epoch)
    before = replica.registry.freeze()
    present = (Conflict(0, 3, epoch),)
    for condition in (Condition(0, revision=0), Condition(0, revision=2), Condition(0, epoch=3), Condition(0, 3, 1)):
        assert conditional(replica, register(instance(port=9), conditions=[condition])) == present
        assert conditional(replica, Unregister((key_of(instance()),), (condition,))) == present
        assert conditional(replica, Renew(keys=(key_of(instance()),), conditions=(condition,))) == present
    absent = key_of(instance(instance_id="i2"))
    assert conditional(replica, Unregister((absent,), (Condition(0, revision=2),))) == (Conflict(0, 0, 0),)
    assert replica.registry.lease_deadline_ms(epoch) == deadline_ms
    after = replica.registry.freeze()
    assert after._replace(sessions={}, applied_index=0) == before._replace(sessions={}, applied_index=0)


def test_conditions_are_decided_one_by_one_in_the_order_of_the_request() -> None:
    replica = Replica()
    taken, free = instance(instance_id="taken"), instance(instance_id="free")
    replica.register(taken)
    absent = [Condition(position, revision=0) for position in range(3)]
    outcome = replica.propose(register(taken, free, free, conditions=absent))
    # The second "free" finds the first one; both are of one entry and one request.
    refused = (Conflict(0, 1, 1), Conflict(2, 2, 2))
    assert outcome == Registered(2, (0, 2, 0), (False, True, False), refused)


def test_a_condition_that_names_no_position_decides_nothing() -> None:
    replica = Replica()
    outcome = replica.propose(register(instance(), conditions=[Condition(7, revision=5), Condition(-1, revision=5)]))
    assert outcome == Registered(1, (1,), (True,))


def test_a_renewal_on_condition_of_an_epoch_does_not_keep_the_successor_alive() -> None:
    replica = Replica()
    (first,) = replica.register(instance())
    (second,) = replica.register(instance())
    key = key_of(instance())
    assert conditional(replica, Renew(keys=(key,), conditions=(Condition(0, epoch=first),))) == (
        Conflict(0, 2, second),
    )
    assert conditional(replica, Renew(keys=(key,), conditions=(Condition(0, epoch=second),))) == ()


def test_a_retry_of_a_refused_request_gets_the_first_refusal() -> None:
    replica = Replica()
    replica.register(instance())
    command, request = register(instance(), conditions=[Condition(0, revision=0)]), RequestId("r", b"12345678")
    first = replica.propose(command, request=request)
    replica.propose(unregister(instance()))
    # Now the condition would hold; the request was answered before.
    assert replica.propose(command, request=request) == first
    assert replica.registry.instance_count == 0
