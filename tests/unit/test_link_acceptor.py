"""Accepting when the process runs out of something, and when a connection cannot join the loop."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from artemis.consensus import link_acceptor
from artemis.consensus.link_settings import LinkSettings
from tests.support.links import Nodes, closed_by_peer, eventually, run_clean


class Exhausted(socket.socket):
    """Cannot accept while ``failures`` last."""

    failures = 0

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_running_out_of_file_descriptors_pauses_accepting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_acceptor, "_RETRY_S", 0.01)

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n2",)) as nodes:
            exhausted = Exhausted(fileno=nodes.sockets["n1"].detach())
            exhausted.failures = 3
            nodes.sockets["n1"] = exhausted
            await nodes.start("n1")
            await nodes.all_up()
            assert exhausted.failures == 0

    run_clean(asyncio.Runner, scenario)
    assert sum("cannot accept connections" in record.getMessage() for record in caplog.records) == 3


def test_while_accepting_pauses_the_waiting_connection_does_not_spin_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_acceptor, "_RETRY_S", 3600.0)

    async def scenario() -> None:
        async with Nodes("n1", "n2", started=()) as nodes:
            exhausted = Exhausted(fileno=nodes.sockets["n1"].detach())
            exhausted.failures = 1000
            nodes.sockets["n1"] = exhausted
            await nodes.start("n1")
            _, writer = await asyncio.open_connection(*nodes.members["n1"])
            for _ in range(100):
                await asyncio.sleep(0)
            assert exhausted.failures == 999
            writer.transport.abort()

    run_clean(asyncio.Runner, scenario)


def test_a_connection_that_cannot_join_is_closed_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Nodes("n1", "n2", started=("n1",), settings=LinkSettings(unauthenticated_max=1)) as nodes:
            failing = 2

            async def broken(*_: object) -> None:
                nonlocal failing
                failing -= 1
                raise OSError("no transport")

            with monkeypatch.context() as patch:
                patch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", broken, raising=False)
                for _ in range(failing):
                    assert await closed_by_peer(*await asyncio.open_connection(*nodes.members["n1"])) == b""
            await eventually(lambda: failing == 0)
            await nodes.start("n2")
            await nodes.all_up()
            assert nodes.links["n1"].counters.refused.total() == 0

    run_clean(asyncio.Runner, scenario)
