"""``/ws`` of the Rust server on a real server (``java-client-and-push.md`` 10.2, ``rust-http.md`` 4)."""

from __future__ import annotations

from typing import Any

import pytest

from artemis.api.push.settings import SERVICE_ID_CHARACTERS_MAX, PushSettings
from artemis.api.settings import HttpSettings
from artemis.registry import StateLimits
from tests.support.loopback import LoopbackCluster, LoopbackNode
from tests.support.replica import instance, register, unregister
from tests.support.sockets import Talk, play, serving


async def registered(node: LoopbackNode, *ids: str, service_id: str = "Orders") -> None:
    await node.propose(register(*(instance(service_id, one) for one in ids)), timeout_ms=1_000)


async def subscribed(talk: Talk, service_id: str) -> int:
    """The version of the acknowledgement."""
    answer = await talk.ask({"type": "subscribe", "service_id": service_id})
    version: int = answer.pop("version")
    assert answer == {"type": "subscribed", "service_id": service_id}
    return version


def brief(message: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    assert message["type"] == "service_change"
    changes = [(change["changeType"], change["instance"]["instanceId"]) for change in message["changes"]]
    return message["service_id"], changes


def test_subscribe_change_unsubscribe() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1", "n2")
        node = cluster["n2"]
        async with serving(cluster["n1"]) as site, site.open("/ws") as talk:
            await registered(node, "before")
            version = await subscribed(talk, "orders")
            assert version == cluster["n1"].registry.revision
            await registered(node, "i1", "i2")
            message = await talk.hear()
            assert brief(message) == ("orders", [("new", "i1"), ("new", "i2")])
            assert [change["version"] for change in message["changes"]] == [version + 1, version + 2]
            assert all(change["changeTime"].endswith("Z") for change in message["changes"])
            await node.propose(unregister(instance("Orders", "i1")), timeout_ms=1_000)
            assert brief(await talk.hear()) == ("orders", [("delete", "i1")])
            cluster.advance(60_000)
            assert brief(await talk.hear()) == ("orders", [("delete", "before"), ("delete", "i2")])
            answer = await talk.ask({"type": "unsubscribe", "service_id": "ORDERS"})
            assert (answer["type"], answer["service_id"]) == ("unsubscribed", "ORDERS")
            await registered(node, "i3")
            assert await talk.ask({"type": "ping"}) == {"type": "pong"}

    play(story)


def test_changes_of_several_services_keep_their_order() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open("/ws") as talk:
            await subscribed(talk, "a")
            await subscribed(talk, "b")
            items = [instance(service_id, "i1") for service_id in ("a", "b", "b", "a")]
            await cluster["n1"].propose(register(*items), timeout_ms=1_000)
            heard = [await talk.hear() for _ in range(3)]
            assert [(message["service_id"], len(message["changes"])) for message in heard] == [
                ("a", 1),
                ("b", 2),
                ("a", 1),
            ]

    play(story)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("not json", "body: not valid JSON"),
        ('{"type":"listen"}', "type: one of subscribe, unsubscribe, ping is allowed, not 'listen'"),
        ('{"type":"subscribe"}', "service_id: required, a text"),
        ('{"type":"subscribe","service_id":" "}', "service_id: not blank"),
    ],
)
def test_bad_input_is_told_and_the_connection_stays(said: str, message: str) -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open("/ws") as talk:
            await talk.connection.send(b"ignored")
            await talk.connection.send(said)
            answer = await talk.hear()
            assert answer["type"] == "error"
            assert answer["message"].startswith(message)
            assert await talk.ask({"type": "ping"}) == {"type": "pong"}

    play(story)


def test_too_many_services_are_told() -> None:
    async def story() -> None:
        settings = HttpSettings(push=PushSettings(subscriptions_max=1))
        async with serving(LoopbackCluster("n1")["n1"], settings) as site, site.open("/ws") as talk:
            await subscribed(talk, "a")
            await subscribed(talk, "A")
            answer = await talk.ask({"type": "subscribe", "service_id": "b"})
            assert answer["type"] == "error"
            await talk.ask({"type": "unsubscribe", "service_id": "a"})
            await subscribed(talk, "b")

    play(story)


def test_an_id_too_long_to_be_kept_for_a_session_is_told() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open("/ws") as talk:
            await subscribed(talk, "a" * SERVICE_ID_CHARACTERS_MAX)
            answer = await talk.ask({"type": "subscribe", "service_id": "a" * (SERVICE_ID_CHARACTERS_MAX + 1)})
            assert answer == {"type": "error", "message": "service_id: at most 1024 characters are allowed here"}

    play(story)


def test_a_session_that_cannot_be_told_every_change_is_told_to_look_up_again() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1", "n2", limits=StateLimits(changes_max=2))
        async with serving(cluster["n1"]) as site, site.open("/ws") as talk:
            await subscribed(talk, "Orders")
            cluster["n1"].follows = False
            for _ in range(5):
                await registered(cluster["n2"], "i1")
            cluster["n1"].install_snapshot(cluster["n2"])
            assert brief(await talk.hear()) == ("Orders", [("reload", "reload")])
            await registered(cluster["n1"], "i2")
            assert brief(await talk.hear()) == ("Orders", [("new", "i2")])

    play(story)


def test_a_large_entry_comes_in_several_messages() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open("/ws", bytes_max=None) as talk:
            await subscribed(talk, "orders")
            ids = [f"i{number}" for number in range(250)]
            await registered(cluster["n1"], *ids)
            heard = [brief(await talk.hear())[1] for _ in range(3)]
            assert [len(changes) for changes in heard] == [100, 100, 50]
            assert [instance_id for changes in heard for _, instance_id in changes] == ids

    play(story)
