"""Registrations on condition: the client against the real application, and what becomes of their leases."""

from __future__ import annotations

import random

import pytest

from artemis.client import AsyncArtemisClient, ConditionFailed, InstanceVersion, InvalidInput
from artemis.client.answers import FailedInstance
from artemis.client.leases import HeartbeatPlan, Lease
from artemis.client.wire import ANYTHING, Expected
from artemis.commands import Register, Registration, Renew, Unregister
from artemis.model import Instance, key_of
from tests.support.loopback import LoopbackCluster
from tests.unit.test_client_on_nodes import ORDERS, ByHost, play

OTHER = Instance(service_id="orders", instance_id="orders-1", region_id="lab", url="http://other:1/")


async def replaced(cluster: LoopbackCluster) -> InstanceVersion:
    """Somebody else registers the same instance."""
    await cluster["n2"].propose(Register((Registration(OTHER, 60_000),)), timeout_ms=1_000)
    record = cluster["n2"].registry.find(key_of(OTHER))
    assert record is not None
    return InstanceVersion(record.revision, record.lease_id)


def test_only_one_of_two_gets_what_must_not_exist() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        first = await client.register(ORDERS, expected_revision=0)
        assert first.version == InstanceVersion(1, 1)
        with pytest.raises(ConditionFailed) as caught:
            await client.register(ORDERS, expected_revision=0)
        assert (caught.value.revision, caught.value.epoch, caught.value.definite) == (1, 1, True)
        second = await client.register(ORDERS, expected_revision=1, expected_epoch=1)
        assert second.version == InstanceVersion(2, 2)

    play(scenario)


def test_look_ups_show_versions_to_those_who_ask() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        registration = await client.register(ORDERS)
        assert (await client.lookup("orders")).versions == ()
        assert (await client.lookup("orders", versions=True)).versions == (registration.version,)

    play(scenario)


def test_a_lost_answer_is_repeated_and_does_not_fail_its_own_condition() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        cluster["n1"].loses_answers = 1
        registration = await client.register(ORDERS, expected_revision=0)
        assert len(hosts.asked) == 2
        assert registration.version == InstanceVersion(1, 1)

    play(scenario)


def test_leaving_takes_out_this_registration_and_not_its_successor() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        registration = await client.register(ORDERS, expected_revision=0)
        version = await replaced(cluster)
        await registration.unregister()
        assert (await client.lookup("orders", versions=True)).versions == (version,)
        mine = await client.register(ORDERS, expected_epoch=version.epoch)
        await mine.unregister()
        assert (await client.lookup("orders")).instances == ()

    play(scenario)


def test_renewals_and_leaving_name_the_epoch_only_if_the_registration_was_conditional() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        for expected_revision in (None, 0):
            registration = await client.register(ORDERS, expected_revision=expected_revision)
            await registration.unregister()
        commands = [command for node in cluster.nodes.values() for command in node.proposed]
        conditions = [c.conditions for c in commands if isinstance(c, Unregister | Renew)]
        assert sorted(map(len, conditions)) == [0, 1]

    play(scenario)


def test_a_condition_that_is_no_number_is_refused_before_anything_is_sent() -> None:
    async def scenario(client: AsyncArtemisClient, cluster: LoopbackCluster, hosts: ByHost) -> None:
        for value in (-1, True, "1"):
            with pytest.raises(InvalidInput, match="expected_revision"):
                await client.register(ORDERS, expected_revision=value)  # type: ignore[arg-type]
        assert hosts.asked == []

    play(scenario)


@pytest.mark.parametrize("code", ["condition-failed", "data-not-found"])
def test_a_conditional_lease_that_is_gone_is_lost_and_not_taken_back(code: str) -> None:
    plan = HeartbeatPlan(random.Random(1))
    lost: list[str] = []
    lease = Lease(instance=ORDERS, ttl_ms=9_000, conditional=True, version=InstanceVersion(7, 5))
    lease.on_lost = lambda: lost.append("lost")
    assert lease.expected == Expected(epoch=5)
    plan.add(lease, 0.0)
    batch = plan.take(3.0)
    assert batch is not None
    (notice,) = plan.settle(batch, [FailedInstance(key=lease.key, code=code, message="gone")], 3.0, 3.1)
    assert notice.is_loss
    assert lease.state == "lost"
    assert plan.take(1_000.0) is None
    assert plan.expire(1_000.0) == []


def test_an_unconditional_lease_expects_nothing() -> None:
    assert Lease(instance=ORDERS, ttl_ms=9_000, version=InstanceVersion(7, 5)).expected == ANYTHING
