"""How a cluster comes to its protection settings: the member that starts last tells them, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from artemis.commands import Configure
from artemis.consensus.node import Node, NodeConfig
from artemis.model import Member
from artemis.protection import ProtectionSettings

SECONDS = 20.0
STRICT = ProtectionSettings(share_percent=5, hold_ms=60_000)
LAX = ProtectionSettings(enabled=False)


def started(data_dir: Path, protection: ProtectionSettings) -> NodeConfig:
    member = Member(node_id="n1", url="http://n1.test", region_id="", zone_id="")
    return NodeConfig(
        node_id="n1",
        peers={"n1": ("127.0.0.1", 1)},
        raft_socket=None,
        data_dir=data_dir,
        member=member,
        protection=protection,
    )


async def settings_after_start(data_dir: Path, protection: ProtectionSettings) -> tuple[ProtectionSettings, Node]:
    node = await Node.start(started(data_dir, protection), on_fatal=lambda reason: None)
    assert node._announcing is not None
    async with asyncio.timeout(SECONDS):
        await node._announcing
    return node.registry.protection_settings, node


def test_the_member_that_starts_last_sets_them_and_they_survive_its_end(tmp_path: Path) -> None:
    async def run() -> None:
        found, node = await settings_after_start(tmp_path, STRICT)
        assert found == STRICT
        await node.close()
        found, node = await settings_after_start(tmp_path, LAX)
        assert found == LAX
        await node.close()

    asyncio.run(run())


def test_a_member_does_not_contradict_one_that_started_later(tmp_path: Path) -> None:
    async def run() -> None:
        _, node = await settings_after_start(tmp_path, STRICT)
        await node.propose(Configure(LAX), timeout_ms=1_000)
        assert node.registry.protection_settings == LAX
        assert node._announcing is not None
        assert node._announcing.done(), "nothing is left that could set them back"
        await node.close()

    asyncio.run(run())


def test_settings_that_are_the_clusters_already_are_not_proposed(tmp_path: Path) -> None:
    async def run() -> None:
        _, node = await settings_after_start(tmp_path, STRICT)
        session = node.registry.session("n1")
        assert session is not None
        assert session.seq == 2, "its address and the settings"
        await node.close()
        _, node = await settings_after_start(tmp_path, STRICT)
        again = node.registry.session("n1")
        assert again == session, "neither of them anew"
        await node.close()

    asyncio.run(run())
