"""Links under strangers, misconfigured peers, damaged bytes and peers that do not read."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from artemis.consensus import link_outbound, wire
from artemis.consensus.frames import FrameWriter
from artemis.consensus.handshake import NONCE_BYTES, DialerHandshake, Identity, ListenerHandshake
from artemis.consensus.link_settings import LinkSettings
from artemis.consensus.transport import fresh_nonce
from tests.support.links import (
    RUNNERS,
    SECRET,
    Nodes,
    RawDialer,
    Run,
    closed_by_peer,
    eventually,
    hint,
    run_clean,
)

STRANGERS = {
    "http": b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
    "pickle": b"\x80\x04\x95" + b"." * 100,
    "zeros": bytes(2000),
    "huge length": b"\xff\xff\xff\xff" * 500,
    "right magic, then garbage": b"ARTMLINK\x00\x01\x00\x80" + bytes(128),
    "right magic, too long": b"ARTMLINK\x00\x01\xff\xff" + bytes(3000),
    "a frame": FrameWriter(None).head(wire.encode(hint(1))) + wire.encode(hint(1)),
}


@pytest.fixture(params=RUNNERS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return partial(run_clean, request.param)


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"cluster": "other"}, "cluster"),
        ({"secret": b"a different shared secret"}, "proof"),
        ({"secret": None}, "secret_required"),
        ({"members": {"n3": ("127.0.0.1", 9)}}, "members"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nodes_configured_differently_refuse_each_other_and_both_say_why(
    run: Run, caplog: pytest.LogCaptureFixture, difference: dict[str, object], reason: str
) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",)) as nodes:
            if "members" in difference:
                difference["members"] = {**nodes.members, "n3": ("127.0.0.1", 9)}
            await nodes.start("n2", **difference)  # type: ignore[arg-type]
            n1, n2 = nodes.links["n1"], nodes.links["n2"]
            await eventually(lambda: n1.counters.refused[reason] >= 1 and n2.counters.lost[reason] >= 1)
            await eventually(lambda: n2.counters.refused.total() >= 1 and n1.counters.lost.total() >= 1)
            assert nodes.told["n1"].events == nodes.told["n2"].events == []
            assert n1.counters.accepted == n2.counters.accepted == 0

    run(scenario)
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("closed connection from unproven") for line in lines)
    assert any(line.startswith("no link to n1") and "the peer refused: the" in line for line in lines)


def test_the_address_of_another_member_is_noticed(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", "n3", started=("n2", "n3")) as nodes:
            swapped = {**nodes.members, "n2": nodes.members["n3"], "n3": nodes.members["n2"]}
            await nodes.start("n1", members=swapped)
            n1 = nodes.links["n1"]
            await eventually(lambda: n1.counters.lost["listener_id"] >= 2)
            assert not n1.connected("n2")
            assert not n1.connected("n3")

    run(scenario)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "insecure"])
def test_strangers_get_nothing_and_their_bytes_are_never_decoded(
    run: Run, monkeypatch: pytest.MonkeyPatch, secret: bytes | None
) -> None:
    decoded: list[bytes] = []
    decode = wire.decode

    def watched(data: bytes) -> wire.Message:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(wire, "decode", watched)

    async def scenario() -> None:
        async with Nodes("n1", "n2", secret=secret) as nodes:
            await nodes.all_up()
            for garbage in STRANGERS.values():
                reader, writer = await asyncio.open_connection(*nodes.members["n1"])
                writer.write(garbage)
                said = await closed_by_peer(reader, writer)
                assert len(said) <= 2
            refused = nodes.links["n1"].counters.refused
            assert refused.total() == len(STRANGERS)
            assert decoded == []
            nodes.links["n2"].send("n1", hint(5))
            await eventually(lambda: nodes.told["n1"].terms_from("n2") == [5])
            assert len(decoded) == 1

    run(scenario)


@pytest.mark.parametrize(
    "first", [b"", b"A", b"ARTMLINK\x00\x01\x00\x80half of a hello"], ids=["silent", "slow", "half"]
)
def test_who_does_not_prove_itself_in_time_is_closed(run: Run, first: bytes) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=LinkSettings(handshake_s=0.1)) as nodes:
            reader, writer = await asyncio.open_connection(*nodes.members["n1"])
            writer.write(first)
            assert await closed_by_peer(reader, writer) == b""
            assert nodes.links["n1"].counters.refused == {"handshake_time": 1}

    run(scenario)


def test_a_listener_that_does_not_answer_in_time_is_given_up(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=()) as nodes:
            nodes.sockets["n2"].listen()
            await nodes.start("n1", settings=LinkSettings(handshake_s=0.1))
            await eventually(lambda: nodes.links["n1"].counters.lost["handshake_time"] >= 1)
            assert nodes.told["n1"].events == []

    run(scenario)


def test_of_too_many_unproven_connections_the_oldest_gives_way(run: Run) -> None:
    settings = LinkSettings(unauthenticated_max=4, handshake_s=60.0)

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",)) as nodes:
            await nodes.stop("n1")
            await nodes.start("n1", settings=settings)
            counters = nodes.links["n1"].counters
            idle = [await asyncio.open_connection(*nodes.members["n1"]) for _ in range(7)]
            for reader, writer in idle[:3]:
                assert await closed_by_peer(reader, writer) == b""
            assert counters.refused == {"too_many": 3}
            # All places are taken by strangers that never leave by themselves: a member gets in all the same.
            await nodes.start("n2")
            await eventually(lambda: nodes.links["n2"].connected("n1"))
            assert counters.refused == {"too_many": 4}
            for _, writer in idle[3:]:
                writer.transport.abort()

    run(scenario)


def test_a_connection_that_said_who_it_is_outlasts_silent_ones(run: Run) -> None:
    settings = LinkSettings(unauthenticated_max=2, handshake_s=60.0)

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), secret=SECRET) as nodes:
            await nodes.stop("n1")
            await nodes.start("n1", settings=settings)
            who = Identity(node_id="n2", cluster="test", members=nodes.members, secret=nodes.secret)
            dialer = DialerHandshake(who, "n1", fresh_nonce())
            reader, writer = await asyncio.open_connection(*nodes.members["n1"])
            writer.write(dialer.hello())
            challenge = await reader.readexactly(1 + NONCE_BYTES)
            silent = [await asyncio.open_connection(*nodes.members["n1"]) for _ in range(3)]
            for each in silent[:2]:
                assert await closed_by_peer(*each) == b""
            writer.write(dialer.receive(challenge))
            dialer.receive(await reader.readexactly(33))
            assert dialer.done
            for _, each_writer in (*silent[2:], (reader, writer)):
                each_writer.transport.abort()

    run(scenario)


@pytest.mark.parametrize("secret", [SECRET, None], ids=["secret", "insecure"])
@pytest.mark.parametrize("fault", ["huge length", "damaged", "repeated", "undecodable", "wrong field", "deep", "empty"])
def test_a_bad_frame_closes_its_connection_and_no_other(run: Run, secret: bytes | None, fault: str) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", "n3", started=("n1", "n3"), secret=secret) as nodes:
            await eventually(lambda: nodes.links["n3"].connected("n1"))
            raw = await RawDialer.dial(nodes, "n1", "n2")
            good = raw.message(hint(1))
            bad = {
                "huge length": lambda: b"\xff\xff\xff\xff" + bytes(100),
                "damaged": lambda: raw.message(hint(2))[:-1] + b"\x7f",
                "repeated": lambda: good,
                "undecodable": lambda: raw.frame(b"\xc1\xc1\xc1"),
                "wrong field": lambda: raw.frame(b"\x92\x07\xa1x"),
                "deep": lambda: raw.frame(b"\x93\x07\x01" + b"\x91" * 100_000 + b"\x01"),
                "empty": lambda: bytes(20),
            }[fault]()
            raw.writer.write(good + bad + raw.message(hint(3)))
            await raw.closed_by_peer()
            counters = nodes.links["n1"].counters
            assert counters.refused == {"frame": 1}
            assert nodes.told["n1"].terms_from("n2") == [1]
            nodes.links["n3"].send("n1", hint(9))
            await eventually(lambda: nodes.told["n1"].terms_from("n3") == [9])

    run(scenario)


def test_a_frame_that_never_ends_is_given_up(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=LinkSettings(frame_s=0.1)) as nodes:
            raw = await RawDialer.dial(nodes, "n1", "n2")
            raw.writer.write(raw.message(hint(1)) + b"\x00\x10\x00\x00" + bytes(50))
            await raw.closed_by_peer()
            assert nodes.links["n1"].counters.refused == {"frame_time": 1}
            assert nodes.told["n1"].terms_from("n2") == [1]

    run(scenario)


def test_an_idle_link_stays_however_often_it_is_looked_at(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2") as nodes:
            await nodes.all_up()
            nodes.links["n1"].send("n2", hint(1))
            await eventually(lambda: len(nodes.told["n2"].messages) == 1)
            out = nodes.links["n1"]._links["n2"].connection
            assert out is not None
            for now in (1e6, 2e6, 3e6):
                out.sweep(now)
                nodes.links["n2"]._inbound["n1"].sweep(now)
            nodes.links["n1"].send("n2", hint(2))
            await eventually(lambda: len(nodes.told["n2"].messages) == 2)
            assert nodes.told["n1"].events == [("up", "n2")]

    run(scenario)


class DeafListener(asyncio.Protocol):
    """Proves itself as ``name`` and then reads nothing more."""

    def __init__(self, nodes: Nodes, name: str) -> None:
        self.dialer: str | None = None
        who = Identity(node_id=name, cluster="test", members=nodes.members, secret=nodes.secret)
        self._handshake = ListenerHandshake(who, fresh_nonce())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(self._handshake.receive(data))
        self.dialer = self._handshake.peer
        if self.dialer is not None:
            self.transport.pause_reading()


async def with_deaf_n2(settings: LinkSettings, fill: int, expected: set[str], *, leaves: bool = False) -> None:
    """n1 sends at most ``fill`` times to a deaf n2 until the link is given up, and to a healthy n3 all the time.

    ``leaves``: n2 then says that it will send nothing more, as a process that ends does.
    """
    async with Nodes("n1", "n2", "n3", started=("n3",)) as nodes:
        deaf: list[DeafListener] = []

        def new_deaf() -> DeafListener:
            deaf.append(DeafListener(nodes, "n2"))
            return deaf[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(new_deaf, sock=nodes.sockets.pop("n2"))
        await nodes.start("n1", settings=settings)
        n1, told = nodes.links["n1"], nodes.told["n1"]
        await eventually(lambda: n1.connected("n2") and n1.connected("n3"))
        payload = wire.SnapshotChunk(1, 1, 1, 0, 0, bytes(200_000))
        sent = 0
        while n1.connected("n2") and sent < fill:
            n1.send("n2", payload)
            n1.send("n3", hint(sent))
            sent += 1
            await asyncio.sleep(0)
        if leaves:
            assert n1.connected("n2")
            next(listener for listener in deaf if listener.dialer == "n1").transport.write_eof()
        await eventually(lambda: ("down", "n2") in told.events)
        assert told.events.count(("up", "n3")) == 1
        assert ("down", "n3") not in told.events
        await eventually(lambda: nodes.told["n3"].terms_from("n1") == list(range(sent)))
        await eventually(lambda: told.events.count(("up", "n2")) >= 2)
        assert set(n1.counters.lost) <= expected
        await nodes.stop("n1")
        server.close()
        for listener in deaf:
            listener.transport.abort()
        await server.wait_closed()


def test_a_full_queue_ends_the_link_and_no_other(run: Run) -> None:
    settings = LinkSettings(queued_bytes_max=1_000_000)
    run(partial(with_deaf_n2, settings, 1000, {"queue_full"}))


# More than the kernel's buffers take (some MB), less than the queue's bound.
STALL = LinkSettings(queued_bytes_max=200_000_000, stall_s=0.3)


def test_a_peer_that_stops_reading_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_outbound, "set_socket_options", lambda *_args, **_named: None)
    run(partial(with_deaf_n2, STALL, 100, {"stalled"}))


def test_a_peer_that_stops_reading_is_given_up_by_the_kernel_or_by_us(run: Run) -> None:
    run(partial(with_deaf_n2, STALL, 100, {"stalled", "closed"}))


def test_a_peer_that_leaves_ends_the_link_although_bytes_are_unsent(run: Run) -> None:
    settings = LinkSettings(queued_bytes_max=200_000_000, stall_s=3600.0)
    run(partial(with_deaf_n2, settings, 100, {"closed"}, leaves=True))


def test_proven_connections_do_not_count_as_unproven(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", "n3", started=("n1",), settings=LinkSettings(unauthenticated_max=1)) as nodes:
            dialed = [await RawDialer.dial(nodes, "n1", name) for name in ("n2", "n3")]
            for raw in dialed:
                raw.writer.write(raw.message(hint(1)))
            await eventually(lambda: len(nodes.told["n1"].messages) == 2)
            assert nodes.links["n1"].counters.refused.total() == 0
            for raw in dialed:
                raw.writer.transport.abort()

    run(scenario)


def test_a_message_too_large_for_a_frame_ends_the_link(run: Run) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2") as nodes:
            await nodes.all_up()
            n1, told = nodes.links["n1"], nodes.told["n1"]
            n1.send("n2", hint(1))
            n1.send("n2", wire.SnapshotChunk(1, 1, 1, 0, 0, bytes(wire.FRAME_BYTES_MAX)))
            n1.send("n2", hint(3))
            assert not n1.connected("n2")
            await eventually(lambda: told.events == [("up", "n2"), ("down", "n2"), ("up", "n2")])
            assert n1.counters.lost == {"message_size": 1}
            assert 3 not in nodes.told["n2"].terms_from("n1")

    run(scenario)
