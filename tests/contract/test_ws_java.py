"""Java's WebSockets on a real server (``java-client-and-push.md`` 7 to 9, ``java-http.md`` 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from artemis.api import sockets
from artemis.api.health import LAG_MS_MAX
from artemis.api.push import java_heartbeat, reloads
from artemis.api.push.settings import SERVICE_ID_CHARACTERS_MAX, PushSettings
from artemis.api.settings import HttpSettings
from artemis.registry import StateLimits
from tests.support.http import NOW_MS, camel_instance
from tests.support.java_client.websocket import WebSocket
from tests.support.loopback import LoopbackCluster, LoopbackNode
from tests.support.replica import instance, register, unregister
from tests.support.sockets import (
    ALL_CHANGES,
    CHANGES,
    HEARTBEAT,
    JAVA_BUFFER_BYTES,
    Talk,
    brief,
    play,
    serving,
    until,
)

SUCCESS = {"failedInstances": None, "responseStatus": {"errorCode": "success", "message": "", "status": "success"}}


def beat(*ids: str, **fields: Any) -> dict[str, Any]:
    return {"instances": [camel_instance("svc1", one, **fields) for one in ids]}


async def registered(node: LoopbackNode, *ids: str, service_id: str = "svc1") -> None:
    await node.propose(register(*(instance(service_id, one) for one in ids)), timeout_ms=1_000)


async def unregistered(node: LoopbackNode, *ids: str, service_id: str = "svc1") -> None:
    await node.propose(unregister(*(instance(service_id, one) for one in ids)), timeout_ms=1_000)


def code_of(answer: dict[str, Any]) -> str:
    code: str = answer["responseStatus"]["errorCode"]
    return code


async def closed_with(talk: Talk) -> int | None:
    """The close code, after whatever comes before it."""
    try:
        while True:
            await talk.connection.recv()
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd is not None else None


# -- paths --


@pytest.mark.parametrize("prefix", ["/artemis/websocket", "/artemis/ws", "/websocket", "/ws", "/ctx/ws"])
def test_every_generation_of_clients_finds_its_paths(prefix: str) -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"], HttpSettings(contexts=("/ctx",))) as site:
            async with site.open(f"{prefix}/registry/heartbeat") as talk:
                assert (await talk.ask(beat("i1")))["responseStatus"]["status"] == "partial_fail"
            async with site.open(f"{prefix}/discovery/instance-change") as talk:
                assert brief(await talk.subscribe("svc1")) == ("reload", "svc1", "reload")
            async with site.open(f"{prefix}/discovery/all-instance-change") as talk:
                await registered(cluster["n1"], "i1")
                assert brief(await talk.hear()) == ("new", "svc1", "i1")

    play(story)


def test_an_unknown_path_is_refused() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site:
            with pytest.raises(InvalidStatus, match="404"):
                async with site.open("/artemis/websocket/registry/unknown"):
                    pass

    play(story)


# -- heartbeats --


def test_the_registration_dance() -> None:
    """Unknown and echoed, registered with the echo on another node, renewed here from then on."""

    async def story() -> None:
        cluster = LoopbackCluster("n1", "n2")
        async with serving(cluster["n1"]) as site, site.open(HEARTBEAT) as talk:
            cluster["n1"].follows = False
            answer = await talk.ask(beat("i1"))
            assert answer["responseStatus"] == {"errorCode": "partial_fail", "message": "", "status": "partial_fail"}
            [failed] = answer["failedInstances"]
            assert (failed["errorCode"], failed["instance"]) == ("data-not-found", camel_instance("svc1", "i1"))
            await registered(cluster["n2"], "i1")
            assert await talk.ask(beat("i1")) == SUCCESS

    play(story)


def test_a_heartbeat_renews_the_lease() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        node = cluster["n1"]
        async with serving(node) as site, site.open(HEARTBEAT) as talk:
            await registered(node, "i1", "i2")
            for _ in range(5):
                cluster.advance(15_000)
                await talk.ask(beat("i1"))
            found = node.registry.service("svc1")
            assert found is not None
            assert [record.instance.instance_id for record in found.records] == ["i1"]

    play(story)


def test_a_large_answer_comes_in_messages_a_java_client_can_take() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(HEARTBEAT) as talk:
            ids = [f"i{number}" for number in range(200)]
            await talk.say(beat(*ids))
            heard: list[str] = []
            while len(heard) < len(ids):
                answer = await talk.hear()
                assert answer["responseStatus"]["status"] == "partial_fail"
                heard += [failed["instance"]["instanceId"] for failed in answer["failedInstances"]]
            assert heard == ids

    play(story)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("not json", "body: not valid JSON"),
        ('{"instances":"i1"}', "instances: a list is allowed, not 'i1'"),
        ("{}", "request.instances is null or empty."),
        ('{"instances":[]}', "request.instances is null or empty."),
        ("null", "request is null"),
        ("[" * 2_000, "body: not valid JSON"),
    ],
)
def test_bad_input_is_answered_and_the_session_goes_on(said: str, message: str) -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(HEARTBEAT) as talk:
            await talk.connection.send(said)
            answer = await talk.hear()
            assert answer["failedInstances"] is None
            assert answer["responseStatus"]["status"] == "fail"
            assert answer["responseStatus"]["errorCode"] == "bad-request"
            assert answer["responseStatus"]["message"].startswith(message)
            assert (await talk.ask(beat("i1")))["responseStatus"]["status"] == "partial_fail"
            assert site.metric("artemis_push_heartbeats_total", outcome="bad-request") == 1

    play(story)


def test_a_heartbeat_that_names_too_many_is_answered_and_renews_nobody() -> None:
    """As over HTTP: what one message names is looked up, applied and answered in one turn."""

    async def story() -> None:
        cluster = LoopbackCluster("n1")
        settings = HttpSettings(items_max=3)
        async with serving(cluster["n1"], settings) as site, site.open(HEARTBEAT) as talk:
            before = cluster["n1"].registry.applied_index
            answer = await talk.ask(beat("i1", "i2", "i3", "i4"))
            assert answer == {
                "failedInstances": None,
                "responseStatus": {
                    "errorCode": "bad-request",
                    "message": "instances: at most 3 are allowed in one request, not 4",
                    "status": "fail",
                },
            }
            assert cluster["n1"].registry.applied_index == before
            assert len((await talk.ask(beat("i1", "i2", "i3")))["failedInstances"]) == 3

    play(story)


@pytest.mark.parametrize("fold", [str.upper, str.lower])
def test_names_in_any_case_are_understood(fold: Callable[[str], str]) -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open(HEARTBEAT) as talk:
            await registered(cluster["n1"], "i1")
            item = {fold(name): value for name, value in camel_instance("svc1", "i1").items()}
            assert await talk.ask({fold("instances"): [item], "unknown": 1}) == SUCCESS

    play(story)


def test_another_region_is_not_permitted_and_the_others_are_renewed() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        settings = HttpSettings(region_id="lab", any_region=False)
        async with serving(cluster["n1"], settings) as site, site.open(HEARTBEAT) as talk:
            await registered(cluster["n1"], "i1")
            sent = beat("i1")
            sent["instances"].append(camel_instance("svc1", "i2", regionId="elsewhere"))
            answer = await talk.ask(sent)
            assert [failed["errorCode"] for failed in answer["failedInstances"]] == ["no-permission"]
            assert answer["responseStatus"]["errorCode"] == "partial_fail"

    play(story)


def test_without_a_majority_nobody_is_called_unknown() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open(HEARTBEAT) as talk:
            await registered(cluster["n1"], "i1")
            cluster["n1"].cut_off = True
            answer = await talk.ask(beat("i1", "i2"))
            assert answer["responseStatus"]["errorCode"] == "service-unavailable"
            assert answer["failedInstances"] is None
            cluster["n1"].cut_off = False
            assert await talk.ask(beat("i1")) == SUCCESS

    play(story)


def test_a_binary_message_ends_the_session() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(HEARTBEAT) as talk:
            await talk.connection.send(b"{}")
            assert await closed_with(talk) == 1003
            await until(lambda: site.metric("artemis_push_closes_total", kind="registry", reason="binary") == 1)

    play(story)


class SlowLog(LoopbackNode):
    """Its log takes as long as a test wants."""

    released: asyncio.Event

    async def propose(self, *args: Any, **named: Any) -> Any:
        await self.released.wait()
        return await super().propose(*args, **named)


def slow_log() -> SlowLog:
    cluster = LoopbackCluster("n1")
    node = SlowLog(cluster, "n1", None)
    cluster.nodes["n1"] = node
    node.released = asyncio.Event()
    node.catch_up()
    return node


def test_pings_are_answered_while_heartbeats_wait_and_too_many_are_told_so() -> None:
    """An election holds heartbeats; a client without a pong for a second would leave, and all of them at once."""

    async def story() -> None:
        node = slow_log()
        async with serving(node) as site, site.open(HEARTBEAT) as talk:
            for _ in range(java_heartbeat.WAITING_MAX + 2):
                await talk.say(beat("i1"))
                async with asyncio.timeout(1.0):
                    await (await talk.connection.ping())
            # One is being answered, as many as may are waiting, and one is too many.
            assert code_of(await talk.hear()) == "rate-limited"
            node.released.set()
            for _ in range(java_heartbeat.WAITING_MAX + 1):
                assert code_of(await talk.hear()) == "partial_fail"

    play(story)


def test_heartbeats_that_wait_take_a_bounded_part_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all sessions, and what a session held is free when it is gone."""
    monkeypatch.setattr(java_heartbeat, "HELD_CHARACTERS_MAX", 5_000)
    large = beat("i1", metadata={"padding": "x" * 2_000})

    async def story() -> None:
        node = slow_log()
        async with serving(node) as site, site.open(HEARTBEAT) as talk:
            async with site.open(HEARTBEAT) as gone:
                for _ in range(2):
                    await gone.say(large)
                await (await gone.connection.ping())
                assert code_of(await talk.ask(large)) == "rate-limited"
            await until(lambda: site.metric("artemis_push_sessions", kind="registry") == 1)
            await talk.say(large)
            await talk.say(large)
            await talk.say(large)
            assert code_of(await talk.hear()) == "rate-limited"
            node.released.set()
            assert [code_of(await talk.hear()) for _ in range(2)] == ["partial_fail", "partial_fail"]
            assert code_of(await talk.ask(large)) == "partial_fail"

    play(story)


def test_heartbeats_count_against_the_limit_of_the_node() -> None:
    async def story() -> None:
        settings = HttpSettings(rate_limits={"heartbeat": 2})
        async with serving(LoopbackCluster("n1")["n1"], settings) as site, site.open(HEARTBEAT) as talk:
            codes = [code_of(await talk.ask(beat("i1"))) for _ in range(3)]
            assert codes == ["partial_fail", "partial_fail", "rate-limited"]

    play(story)


# -- pushes --


def test_every_change_is_pushed_once_and_in_order_whoever_caused_it() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1", "n2")
        async with serving(cluster["n1"]) as site, site.open(CHANGES) as talk:
            await registered(cluster["n2"], "before")
            reload = await talk.subscribe("svc1")
            assert brief(reload) == ("reload", "svc1", "reload")
            await registered(cluster["n2"], "i1", "i2")
            await registered(cluster["n2"], "elsewhere", service_id="svc2")
            await registered(cluster["n2"], "i1")
            await unregistered(cluster["n2"], "i1")
            cluster.advance(60_000)  # the leases of what is left end
            pushes = [await talk.hear() for _ in range(6)]
            assert [brief(push) for push in pushes] == [
                ("new", "svc1", "i1"),
                ("new", "svc1", "i2"),
                ("new", "svc1", "i1"),
                ("delete", "svc1", "i1"),
                ("delete", "svc1", "before"),
                ("delete", "svc1", "i2"),
            ]
            assert {type(push["changeTime"]) for push in pushes} == {int}
            assert {push["changeTime"] for push in pushes} == {NOW_MS - 60_000, NOW_MS}
            versions = [push["version"] for push in pushes]
            assert versions == sorted(set(versions))
            assert reload["version"] < versions[0]

    play(story)


def test_any_spelling_of_a_service_subscribes_and_pushes_are_lower_case() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open(CHANGES) as talk:
            assert brief(await talk.subscribe("ORDERS")) == ("reload", "orders", "reload")
            await registered(cluster["n1"], "I1", service_id="Orders")
            assert brief(await talk.hear()) == ("new", "orders", "I1")

    play(story)


def test_what_is_not_a_subscription_is_ignored() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(CHANGES) as talk:
            for said in ("not json", "null", '{"serviceId":" "}', "[]"):
                await talk.connection.send(said)
            assert brief(await talk.subscribe("svc1")) == ("reload", "svc1", "reload")
            assert site.metric("artemis_push_messages_total", kind="discovery") == 1

    play(story)


def test_without_reloads_a_subscription_is_not_answered() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        settings = HttpSettings(push=PushSettings(reload_on_subscribe=False))
        async with serving(cluster["n1"], settings) as site, site.open(CHANGES) as talk:
            await talk.say({"serviceId": "svc1"})
            await (await talk.connection.ping())  # the subscription has been read
            await registered(cluster["n1"], "i1")
            assert brief(await talk.hear()) == ("new", "svc1", "i1")

    play(story)


def test_an_instance_too_long_for_the_client_is_told_as_a_reload() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open(CHANGES) as talk:
            await talk.subscribe("svc1")
            big = instance("svc1", "i1", metadata={"big": "x" * 10_000})
            await cluster["n1"].propose(register(big), timeout_ms=1_000)
            assert brief(await talk.hear()) == ("reload", "svc1", "reload")
            assert site.metric("artemis_push_reloads_total", cause="too-large") == 1

    play(story)


def test_a_session_that_cannot_be_told_every_change_is_told_to_look_up_again() -> None:
    """A snapshot took the place of changes that this node never saw."""

    async def story() -> None:
        cluster = LoopbackCluster("n1", "n2", limits=StateLimits(changes_max=2))
        node = cluster["n1"]
        async with serving(node) as site, site.open(CHANGES) as talk, site.open(ALL_CHANGES) as all_changes:
            await talk.subscribe("svc1")
            await talk.subscribe("svc2")
            node.follows = False
            for _ in range(5):
                await registered(cluster["n2"], "i1")
            node.install_snapshot(cluster["n2"])
            told = [brief(await talk.hear()) for _ in range(2)]
            assert sorted(told) == [("reload", "svc1", "reload"), ("reload", "svc2", "reload")]
            # Which services went meanwhile cannot be told to one that asked for all.
            assert await closed_with(all_changes) == 1013
            await registered(node, "i9")
            assert brief(await talk.hear()) == ("new", "svc1", "i9")
            assert site.metric("artemis_push_reloads_total", cause="behind") == 2

    play(story)


def test_the_parts_of_a_large_answer_come_as_the_client_is_done_with_them() -> None:
    """It registers what is answered in its receiving thread, and sees no pong before that is done."""

    async def story() -> None:
        told: list[str] = []
        may_go_on = asyncio.Event()

        async def register_again(text: str) -> None:
            told.append(text)
            await may_go_on.wait()

        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(HEARTBEAT) as other:
            url = f"ws://127.0.0.1:{site.port}{HEARTBEAT}"
            busy = await WebSocket.connect(
                url, register_again, lambda: None, lambda: None, timeout_s=5, message_chars_max=JAVA_BUFFER_BYTES
            )
            busy.send_text(orjson.dumps(beat(*(f"i{number}" for number in range(100)))))
            await until(lambda: bool(told))
            for _ in range(20):
                await other.ask(beat("i1"))
            assert site.metric("artemis_push_messages_total", kind="registry") == 20 + 1
            may_go_on.set()
            await until(lambda: sum(len(orjson.loads(text)["failedInstances"]) for text in told) == 100)
            assert len(told) > 3
            busy.close()

    play(story)


def test_a_client_is_told_no_more_reloads_than_it_has_done() -> None:
    """It looks up at once in its receiving thread, and sees no pong until all that came before it are done."""

    async def story() -> None:
        ids = [f"svc{number}" for number in range(100)]
        told: list[str] = []
        may_go_on = asyncio.Event()

        async def look_up(text: str) -> None:
            told.append(orjson.loads(text)["instance"]["serviceId"])
            await may_go_on.wait()

        async with serving(LoopbackCluster("n1")["n1"]) as site:
            url = f"ws://127.0.0.1:{site.port}{CHANGES}"
            busy = await WebSocket.connect(
                url, look_up, lambda: None, lambda: None, timeout_s=5, message_chars_max=JAVA_BUFFER_BYTES
            )
            for one in ids:
                busy.send_text(orjson.dumps({"serviceId": one}))
            await until(lambda: bool(told))
            async with site.open(CHANGES) as other:
                # Others are told at once, so many times that all could have been told to the first.
                for number in range(len(ids)):
                    await other.subscribe(f"other{number}")
            sent = site.metric("artemis_push_messages_total", kind="discovery") - len(ids)
            assert 1 <= sent <= reloads.TOLD_AT_ONCE
            may_go_on.set()
            await until(lambda: len(told) >= len(ids))
            assert sorted(told) == sorted(ids)
            busy.close()

    play(story)


def test_many_instances_too_long_for_the_client_are_one_reload_at_a_time() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, site.open(CHANGES) as talk:
            await talk.subscribe("svc1")
            big = {"big": "x" * 10_000}
            items = [instance("svc1", f"i{number}", metadata=big) for number in range(20)]
            await cluster["n1"].propose(register(*items), timeout_ms=1_000)
            assert brief(await talk.hear()) == ("reload", "svc1", "reload")
            await registered(cluster["n1"], "small")
            last = await talk.hear()
            while brief(last) == ("reload", "svc1", "reload"):
                last = await talk.hear()
            assert brief(last) == ("new", "svc1", "small")
            assert site.metric("artemis_push_reloads_total", cause="too-large") <= 2

    play(story)


def test_a_client_that_takes_nothing_is_cut_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SEND_SECONDS", 0.2)

    async def story() -> None:
        cluster = LoopbackCluster("n1")
        node = cluster["n1"]
        async with serving(node) as site, site.open(ALL_CHANGES) as deaf, site.open(ALL_CHANGES) as talk:
            deaf.connection.transport.pause_reading()
            heard = 0
            while not site.metric("artemis_push_closes_total", kind="discoveries", reason="slow"):
                padding = {"padding": "x" * 5_000}
                items = [instance("svc1", f"i{number}", metadata=padding) for number in range(20)]
                await node.propose(register(*items), timeout_ms=1_000)
                for _ in items:
                    await talk.hear()
                    heard += 1
            assert heard > 20
            deaf.connection.transport.resume_reading()
            assert await closed_with(deaf) == sockets.TOO_SLOW

    play(story)


# -- sessions --


def test_a_session_ends_at_its_age_and_its_client_may_come_back() -> None:
    async def story() -> None:
        settings = HttpSettings(push=PushSettings(session_ms=1_000))
        async with serving(LoopbackCluster("n1")["n1"], settings) as site:
            async with site.open(HEARTBEAT) as heartbeats, site.open(CHANGES) as changes, site.open("/ws") as rust:
                assert site.metric("artemis_push_sessions", kind="registry") == 1
                assert await closed_with(heartbeats) == 1001
                assert await closed_with(changes) == 1001
                assert await rust.ask({"type": "ping"}) == {"type": "pong"}
            async with site.open(HEARTBEAT) as talk:
                assert (await talk.ask(beat("i1")))["responseStatus"]["status"] == "partial_fail"

    play(story)


def test_more_services_than_allowed_end_the_session() -> None:
    async def story() -> None:
        settings = HttpSettings(push=PushSettings(subscriptions_max=2))
        async with serving(LoopbackCluster("n1")["n1"], settings) as site, site.open(CHANGES) as talk:
            for service_id in ("a", "b", "A"):
                await talk.subscribe(service_id)
            await talk.say({"serviceId": "c"})
            assert await closed_with(talk) == 1008

    play(story)


def test_an_id_too_long_to_be_kept_for_a_session_is_ignored() -> None:
    async def story() -> None:
        async with serving(LoopbackCluster("n1")["n1"]) as site, site.open(CHANGES) as talk:
            await talk.say({"serviceId": "a" * (SERVICE_ID_CHARACTERS_MAX + 1)})
            longest = "a" * SERVICE_ID_CHARACTERS_MAX
            assert brief(await talk.subscribe(longest)) == ("reload", longest, "reload")

    play(story)


def test_a_node_that_is_not_current_sends_its_listeners_elsewhere() -> None:
    async def story() -> None:
        node = LoopbackCluster("n1")["n1"]
        async with serving(node) as site, site.open(CHANGES) as talk, site.open(HEARTBEAT) as heartbeats:
            await talk.subscribe("svc1")
            node.apply_lag_ms = LAG_MS_MAX + 1
            assert await closed_with(talk) == 1013
            with pytest.raises(InvalidStatus, match="503"):
                async with site.open(CHANGES):
                    pass
            # Their answers say themselves when nothing can be renewed.
            assert (await heartbeats.ask(beat("i1")))["responseStatus"]["status"] == "partial_fail"
            node.apply_lag_ms = 0
            async with site.open(CHANGES) as again:
                await again.subscribe("svc1")

    play(story)


def test_a_node_that_stops_tells_its_sessions_and_does_not_wait_for_them() -> None:
    async def story() -> None:
        node = slow_log()
        async with AsyncExitStack() as clients:
            async with serving(node) as site:
                talks = [await clients.enter_async_context(site.open(path)) for path in (HEARTBEAT, CHANGES, "/ws")]
                await talks[0].say(beat("i1"))  # waits for the log
                await talks[1].subscribe("svc1")
                await talks[2].ask({"type": "ping"})
            assert [await closed_with(talk) for talk in talks] == [1012, 1012, 1012]

    play(story)


def test_denied_addresses_are_refused_where_they_are_denied() -> None:
    async def story() -> None:
        settings = HttpSettings(push=PushSettings(heartbeat_denied=("127.0.0.1",)))
        async with serving(LoopbackCluster("n1")["n1"], settings) as site:
            with pytest.raises(InvalidStatus, match="403"):
                async with site.open(HEARTBEAT):
                    pass
            async with site.open(CHANGES) as talk:
                await talk.subscribe("svc1")
            assert site.metric("artemis_push_refused_total", kind="registry", reason="denied") == 1

    play(story)


def test_pongs_come_in_time_while_many_pushes_go_to_many_sessions() -> None:
    async def story() -> None:
        cluster = LoopbackCluster("n1")
        async with serving(cluster["n1"]) as site, AsyncExitStack() as stack:
            talks = [await stack.enter_async_context(site.open(CHANGES)) for _ in range(20)]
            for talk in talks:
                await talk.subscribe("svc1")
            ids = [f"i{number}" for number in range(500)]
            await registered(cluster["n1"], *ids)
            async with asyncio.timeout(1.0):
                await (await talks[-1].connection.ping())
            for talk in talks:
                assert [brief(await talk.hear())[2] for _ in ids] == ids

    play(story)
