"""The states from which golden cases start, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from artemis.commands import Command, Register, Registration, Unregister
from artemis.model import Instance, key_of
from tests.support.loopback import LoopbackCluster, LoopbackNode

TTL_MS = 20_000


class Start:
    """A cluster, and the node that is asked."""

    def __init__(self, *node_ids: str) -> None:
        self.cluster = LoopbackCluster(*node_ids)
        self.node: LoopbackNode = self.cluster["n1"]

    def register(self, *instances: Instance) -> None:
        """All in one request."""
        self._order(Register(tuple(Registration(instance, TTL_MS) for instance in instances)))

    def unregister(self, *instances: Instance) -> None:
        self._order(Unregister(tuple(key_of(instance) for instance in instances)))

    def _order(self, command: Command) -> None:
        asyncio.run(self.node.propose(command, timeout_ms=1_000))


def java_instance(instance_id: str = "i1", service_id: str = "svc1", **changed: Any) -> Instance:
    """The instance of the examples in ``java-http.md`` 4.4."""
    fields: dict[str, Any] = {
        "region_id": "lab",
        "zone_id": "zone1",
        "group_id": "g1",
        "machine_name": "host-a",
        "ip": "10.0.0.1",
        "port": 8090,
        "protocol": "http",
        "url": "http://10.0.0.1:8090/svc",
        "health_check_url": "http://10.0.0.1:8090/health",
        "status": "up",
        "metadata": {"Weight": "5"},
    }
    return Instance(service_id=service_id, instance_id=instance_id, **(fields | changed))


def rust_instance(instance_id: str = "i1", service_id: str = "s", **changed: Any) -> Instance:
    """With the fields that the earlier Rust server demanded, and no others."""
    fields: dict[str, Any] = {
        "region_id": "r",
        "zone_id": "z",
        "ip": "10.0.0.1",
        "port": 8090,
        "url": "http://10.0.0.1:8090",
        "status": "up",
    }
    return Instance(service_id=service_id, instance_id=instance_id, **(fields | changed))


def empty() -> Start:
    return Start()


def registered() -> Start:
    """One instance, at revision 1."""
    start = Start()
    start.register(java_instance())
    return start


def changing() -> Start:
    """Revision 1: ``old`` of svc1 and ``g`` of gone. Then ``old`` goes, ``new`` comes, and ``g`` goes."""
    start = Start()
    start.register(java_instance("old"), java_instance("g", "gone"))
    start.unregister(java_instance("old"))
    start.register(java_instance("new"))
    start.unregister(java_instance("g", "gone"))
    return start


def rust() -> Start:
    """``MySvc`` with an instance that is up and one that is down, ``idle`` with none that is up."""
    start = Start()
    start.register(rust_instance(service_id="MySvc"), rust_instance("i2", "MySvc", status="down"))
    start.register(rust_instance(service_id="idle", status="starting"))
    return start


def no_leader() -> Start:
    start = Start("n1", "n2", "n3")
    start.cluster.leader_id = None
    start.node.ready = False
    return start


def three_nodes() -> Start:
    return Start("n1", "n2", "n3")


def unreachable_peer() -> Start:
    """n1 and n2 serve; n3 is not connected."""
    start = Start("n1", "n2", "n3")
    start.node.disconnected.add("n3")
    return start


def nobody_up() -> Start:
    start = Start("n1", "n2")
    start.node.disconnected.add("n2")
    start.node.ready = False
    return start


STARTS: dict[str, Callable[[], Start]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        empty,
        registered,
        changing,
        rust,
        no_leader,
        three_nodes,
        unreachable_peer,
        nobody_up,
    )
}
