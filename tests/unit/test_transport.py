"""Links between nodes over real loopback sockets: what the engine may rely on."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from functools import partial

import pytest

from artemis.consensus import wire
from artemis.consensus.link_outbound import Backoff
from artemis.consensus.link_settings import LinkSettings, PacedLog
from artemis.consensus.transport import TcpLinks
from artemis.errors import InvalidInput
from tests.support.links import (
    RUNNERS,
    SECRET,
    Nodes,
    RawDialer,
    Recorder,
    Run,
    bound_socket,
    eventually,
    hint,
    run_clean,
    term_of,
)


@pytest.fixture(params=RUNNERS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return partial(run_clean, request.param)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "insecure"])
def test_every_pair_exchanges_messages_in_order(run: Run, secret: bytes | None) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", "n3", secret=secret) as nodes:
            await nodes.all_up()
            count = 3000
            for term in range(count):
                for sender, links in nodes.links.items():
                    for peer in nodes.links:
                        if peer != sender:
                            links.send(peer, hint(term))
            await eventually(lambda: all(len(told.messages) == 2 * count for told in nodes.told.values()))
            for name, told in nodes.told.items():
                for peer in nodes.links:
                    if peer != name:
                        assert told.terms_from(peer) == list(range(count))
                        assert told.events.count(("up", peer)) == 1

    run(scenario)


def test_messages_of_every_size_pass(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2") as nodes:
            await nodes.all_up()
            sizes = [0, 1, 5000, 300_000, wire.FRAME_BYTES_MAX - 100, 3, 262_144, 2_000_000, 0]
            sent = [wire.SnapshotChunk(1, 1, 1, size, 0, random.Random(size).randbytes(size)) for size in sizes]
            for message in sent:
                nodes.links["n1"].send("n2", message)
            await eventually(lambda: len(nodes.told["n2"].messages) == len(sent))
            assert [message for _, message in nodes.told["n2"].messages] == sent

    run(scenario)


def test_one_turn_of_sends_is_one_write(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2") as nodes:
            await nodes.all_up()
            for turn in range(5):
                for term in range(100):
                    nodes.links["n1"].send("n2", hint(turn * 100 + term))
                await asyncio.sleep(0)
                assert nodes.links["n1"].counters.writes == turn + 1
            await eventually(lambda: len(nodes.told["n2"].messages) == 500)
            assert nodes.links["n1"].counters.frames_out == 500
            assert nodes.links["n1"].counters.bytes_out < nodes.links["n2"].counters.bytes_in

    run(scenario)


def test_sends_to_a_peer_that_is_not_there_are_dropped_and_counted(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",)) as nodes:
            nodes.links["n1"].send("n2", hint(1))
            nodes.links["n1"].send("nobody", hint(1))
            assert not nodes.links["n1"].connected("n2")
            assert not nodes.links["n1"].connected("nobody")
            assert nodes.links["n1"].counters.messages_dropped == 2
            await nodes.start("n2")
            await nodes.all_up()
            nodes.links["n1"].send("n2", hint(2))
            await eventually(lambda: nodes.told["n2"].terms_from("n1") == [2])

    run(scenario)


def test_a_restarted_peer_is_reported_and_reached_again(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2") as nodes:
            await nodes.all_up()
            for restart in range(1, 4):
                await nodes.stop("n2")
                await eventually(lambda: not nodes.links["n1"].connected("n2"))
                await nodes.start("n2")
                await nodes.all_up()
                nodes.links["n1"].send("n2", hint(restart))
                await eventually(lambda: len(nodes.told["n2"].messages) == 1)
                assert nodes.told["n2"].terms_from("n1") == [restart]
                assert nodes.links["n1"].counters.reconnects == restart
            assert nodes.told["n1"].events == [("up", "n2"), ("down", "n2")] * 3 + [("up", "n2")]

    run(scenario)


def test_a_peer_that_shows_up_is_dialed_without_waiting_out_the_pause(run: Run) -> None:
    patient = LinkSettings(redial_first_s=3600.0, redial_max_s=3600.0)

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=patient) as nodes:
            await eventually(lambda: nodes.links["n1"].counters.lost["connect"] == 1)
            await nodes.start("n2")
            await nodes.all_up()
            assert nodes.links["n1"].counters.lost.total() == 1

    run(scenario)


def test_a_newer_connection_ends_the_older_one_at_once(run: Run) -> None:
    # One frame per turn keeps most of the older connection's frames waiting while the newer one shakes hands.
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=LinkSettings(frames_per_turn=1)) as nodes:
            told = nodes.told["n1"]
            older = await RawDialer.dial(nodes, "n1", "n2")
            older.writer.write(b"".join(older.message(hint(term)) for term in range(5000)))
            newer = await RawDialer.dial(nodes, "n1", "n2")
            newer.writer.write(newer.message(hint(9999)))
            await eventually(lambda: 9999 in told.terms_from("n2"))
            await older.closed_by_peer()
            terms = told.terms_from("n2")
            assert terms == [*range(len(terms) - 1), 9999]
            assert len(terms) < 5000
            assert nodes.links["n1"].counters.refused == {"replaced": 1}
            newer.writer.write(newer.message(hint(10000)))
            await eventually(lambda: told.terms_from("n2")[-1] == 10000)
            newer.writer.transport.abort()

    run(scenario)


def test_a_burst_of_one_peer_leaves_turns_to_others(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=LinkSettings(frames_per_turn=10)) as nodes:
            told = nodes.told["n1"]
            at_turn: list[int] = []
            loop = asyncio.get_running_loop()

            def each_turn() -> None:
                at_turn.append(len(told.messages))
                if len(told.messages) < 2000:
                    loop.call_soon(each_turn)

            raw = await RawDialer.dial(nodes, "n1", "n2")
            raw.writer.write(b"".join(raw.message(hint(term)) for term in range(2000)))
            each_turn()
            await eventually(lambda: len(told.messages) == 2000)
            await eventually(lambda: at_turn[-1] == 2000)
            assert max(after - before for before, after in itertools.pairwise(at_turn)) <= 10
            assert told.terms_from("n2") == list(range(2000))
            raw.writer.transport.abort()

    run(scenario)


def test_callbacks_never_run_inside_a_call(run: Run) -> None:
    async def scenario() -> None:
        inside = False
        broken: list[str] = []

        class Strict(Recorder):
            def on_message(self, peer: str, message: wire.Message) -> None:
                if inside:
                    broken.append("on_message")
                super().on_message(peer, message)

            def on_connected(self, peer: str) -> None:
                if inside:
                    broken.append("on_connected")
                super().on_connected(peer)

            def on_disconnected(self, peer: str) -> None:
                if inside:
                    broken.append("on_disconnected")
                super().on_disconnected(peer)

        async with Nodes("n1", "n2", started=("n2",)) as nodes:
            links = TcpLinks(
                node_id="n1",
                cluster="test",
                members=nodes.members,
                secret=SECRET,
                server_socket=nodes.sockets.pop("n1"),
                rng=random.Random(1),
                settings=LinkSettings(queued_bytes_max=1000),
            )
            told = Strict()
            inside = True
            links.start(told)
            inside = False
            await links.start_server()
            await eventually(lambda: links.connected("n2"))
            inside = True
            links.send("n2", hint(1))
            links.send("n2", wire.SnapshotChunk(1, 1, 1, 2000, 0, bytes(2000)))
            assert not links.connected("n2")
            inside = False
            await eventually(lambda: ("down", "n2") in told.events)
            await eventually(lambda: links.connected("n2"))
            inside = True
            links.close()
            inside = False
            events = list(told.events)
            await links.wait_closed()
            assert told.events == events
            assert broken == []

    run(scenario)


def test_the_engine_may_send_and_close_from_within_callbacks(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",)) as nodes:
            told = nodes.told["n1"]
            links = nodes.links["n1"]
            told.on_each = lambda _peer, message: links.close() if term_of(message) == 3 else None
            raw = await RawDialer.dial(nodes, "n1", "n2")
            raw.writer.write(b"".join(raw.message(hint(term)) for term in range(10)))
            await raw.closed_by_peer()
            assert told.terms_from("n2") == [0, 1, 2, 3]

    run(scenario)


def test_what_is_sent_in_on_connected_arrives(run: Run) -> None:
    class Greeter(Recorder):
        links: TcpLinks

        def on_connected(self, peer: str) -> None:
            super().on_connected(peer)
            self.links.send(peer, hint(7))

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n2",)) as nodes:
            greeter = Greeter()
            greeter.links = TcpLinks(
                node_id="n1",
                cluster="test",
                members=nodes.members,
                secret=SECRET,
                server_socket=nodes.sockets.pop("n1"),
                rng=random.Random(1),
            )
            greeter.links.start(greeter)
            await eventually(lambda: nodes.told["n2"].terms_from("n1") == [7])
            greeter.links.close()
            await greeter.links.wait_closed()

    run(scenario)


def test_closing_at_any_moment_leaves_nothing_behind(run: Run) -> None:
    # After 0, 1, 2, … turns of the loop: before the dial, within it, within the handshake, after it.
    async def scenario() -> None:
        for turns in range(25):
            async with Nodes("n1", "n2") as nodes:
                for _ in range(turns):
                    await asyncio.sleep(0)
                nodes.links["n2"].close()
                nodes.links["n2"].close()

    run(scenario)


def test_links_that_never_started_close_their_socket() -> None:
    server_socket = bound_socket()
    members = {"n1": server_socket.getsockname(), "n2": ("127.0.0.1", 9)}
    links = TcpLinks(
        node_id="n1", cluster="c", members=members, secret=None, server_socket=server_socket, rng=random.Random(1)
    )
    links.close()
    assert server_socket.fileno() == -1


def test_a_cluster_of_one_needs_no_socket(run: Run) -> None:
    async def scenario() -> None:
        links = TcpLinks(
            node_id="n1", cluster="c", members={"n1": ("h", 1)}, secret=None, server_socket=None, rng=random.Random(1)
        )
        links.start(Recorder())
        await links.start_server()
        links.close()
        await links.wait_closed()

    run(scenario)


@pytest.mark.parametrize(
    ("address", "rule"),
    [(("", 1), "a host"), (("h", 0), "1 to 65535"), (("h", 70000), "1 to 65535"), (("a" * 70, 1), "not a host name")],
)
def test_a_wrong_address_is_refused(address: tuple[str, int], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as error:
        TcpLinks(
            node_id="n1",
            cluster="c",
            members={"n1": ("h", 1), "n2": address},
            secret=None,
            server_socket=None,
            rng=random.Random(1),
        )
    assert error.value.field == "members"


def test_other_members_need_a_socket_and_start_comes_first(run: Run) -> None:
    members = {"n1": ("h", 1), "n2": ("h", 2)}
    with pytest.raises(InvalidInput):
        TcpLinks(node_id="n1", cluster="c", members=members, secret=None, server_socket=None, rng=random.Random(1))

    async def scenario() -> None:
        links = TcpLinks(
            node_id="n1", cluster="c", members={"n1": ("h", 1)}, secret=None, server_socket=None, rng=random.Random(1)
        )
        with pytest.raises(RuntimeError):
            await links.start_server()
        links.start(Recorder())
        with pytest.raises(RuntimeError):
            links.start(Recorder())
        links.close()

    run(scenario)


def test_pauses_between_dials_double_to_a_ceiling_with_full_jitter() -> None:
    class Fixed(random.Random):
        def random(self) -> float:
            return 0.5

    backoff = Backoff(LinkSettings(), Fixed())
    assert [backoff.next_pause_s() for _ in range(7)] == [0.025, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next_pause_s() == 0.025


def test_repeated_refusals_are_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    paced = PacedLog(logging.getLogger("test"), lambda: now)
    for _ in range(1000):
        paced.warn(("", "proof"), "refused")
    paced.warn(("n2", "proof"), "other")
    now = 10.0
    paced.warn(("", "proof"), "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "refused",
        "other",
        "refused (and 999 more like it)",
    ]
