"""The replicated registry in memory: several nodes on one log, each with its own state machine.

What is proposed goes through the real command bytes and the real ``Registry.apply``. There is no network, disk or
election; instead a test says what is wrong: no leader, a node cut off, a node behind, an answer lost. Every wait gives
up the turn once, so a handler that relies on not being interrupted shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from artemis import snapshot
from artemis.api.ports import ReplicatedRegistry
from artemis.commands import Announce, Command, Proposal, RequestId, decode_entry, encode_entry, encode_proposal
from artemis.consensus.status import NodeStatus, PeerStatus
from artemis.errors import Unavailable
from artemis.model import Member
from artemis.outcomes import Outcome
from artemis.registry import Registry, StateLimits

START_CLOCK_MS = 1_000


class LoopbackCluster:
    """``clock_ms`` is the lease clock; it moves by ``advance`` only."""

    def __init__(self, *node_ids: str, limits: StateLimits | None = None) -> None:
        self.log: list[bytes] = []
        self.clock_ms = START_CLOCK_MS
        self.term = 3
        self.leader_id: str | None = (node_ids or ("n1",))[0]
        self.order_delay_ms = 0
        """Lease time that passes between taking a proposal and ordering it."""
        self.nodes = {node_id: LoopbackNode(self, node_id, limits) for node_id in node_ids or ("n1",)}
        for node_id in self.nodes:
            zone_id = "zone1" if node_id == "n1" else "zone2"
            self._append(
                Proposal(
                    origin=node_id,
                    incarnation=1,
                    seq=1,
                    request=None,
                    expires_at_ms=self.clock_ms,
                    command=Announce(
                        Member(node_id=node_id, url=f"http://{node_id}.test:8080", region_id="lab", zone_id=zone_id)
                    ),
                )
            )
        self.spread()

    def __getitem__(self, node_id: str) -> LoopbackNode:
        return self.nodes[node_id]

    def advance(self, ms: int) -> None:
        """Commit a step of the lease clock."""
        self.clock_ms += ms
        self.log.append(encode_entry(self.clock_ms))
        self.spread()

    def order(self, proposal: Proposal) -> int:
        """Append the proposal's entry; returns its index."""
        self.clock_ms += self.order_delay_ms
        self._append(proposal)
        return len(self.log)

    def _append(self, proposal: Proposal) -> None:
        self.log.append(encode_entry(self.clock_ms, (encode_proposal(proposal),)))

    def spread(self) -> None:
        for node in self.nodes.values():
            if node.follows:
                node.catch_up()


class LoopbackNode:
    """One member. Implements ``ReplicatedRegistry``.

    ``follows`` False: it applies what others propose only when it proposes or waits itself. ``cut_off``: it reaches no
    majority. ``loses_answers``: that many proposals are applied, and then their answer is lost.
    """

    def __init__(self, cluster: LoopbackCluster, node_id: str, limits: StateLimits | None) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.follows = True
        self.cut_off = False
        self.loses_answers = 0
        self.ready = True
        self.reasons: tuple[str, ...] = ()
        self.apply_lag_ms = 0
        self.disconnected: set[str] = set()
        self.proposed: list[Command] = []
        self.barriers = 0
        self._registry = Registry(limits)
        self._seq = 1
        self._listeners: list[Callable[[int], None]] = []

    @property
    def registry(self) -> Registry:
        return self._registry

    async def propose(self, command: Command, *, request: RequestId | None = None, timeout_ms: int) -> Outcome:
        await asyncio.sleep(0)
        if self.cluster.leader_id is None:
            raise Unavailable("no leader is known", definite=True)
        self.proposed.append(command)
        if self.cut_off:
            raise Unavailable(f"no majority within {timeout_ms} ms", definite=False)
        self._seq += 1
        expires_at_ms = self.cluster.clock_ms + timeout_ms
        proposal = Proposal(self.node_id, 1, self._seq, request, expires_at_ms, command)
        index = self.cluster.order(proposal)
        outcomes = self.catch_up()
        self.cluster.spread()
        if self.loses_answers:
            self.loses_answers -= 1
            raise Unavailable(f"no answer within {timeout_ms} ms", definite=False)
        outcome = outcomes[index]
        assert outcome is not None
        return outcome

    async def barrier(self, *, timeout_ms: int) -> None:
        self.barriers += 1
        await asyncio.sleep(0)
        if self.cut_off or self.cluster.leader_id is None:
            raise Unavailable(f"no leader confirmed the read within {timeout_ms} ms", definite=True)
        self.catch_up()

    async def applied(self, revision: int, *, timeout_ms: int) -> None:
        await asyncio.sleep(0)
        if not self.cut_off:
            self.catch_up()
        if self._registry.revision < revision:
            raise Unavailable(f"revision {revision} was not applied within {timeout_ms} ms", definite=True)

    def status(self) -> NodeStatus:
        leader_id = self.cluster.leader_id
        known_leader = leader_id is not None and not self.cut_off
        role: Literal["leader", "follower", "candidate"] = "follower" if known_leader else "candidate"
        return NodeStatus(
            node_id=self.node_id,
            role="leader" if known_leader and leader_id == self.node_id else role,
            term=self.cluster.term,
            leader_id=leader_id if known_leader else None,
            known_leader=known_leader,
            commit_index=len(self.cluster.log),
            applied_index=self._registry.applied_index,
            last_log_index=len(self.cluster.log),
            first_log_index=1,
            snapshot_index=0,
            apply_lag_ms=self.apply_lag_ms,
            ready=self.ready,
            reasons=self.reasons,
            peers=tuple(
                PeerStatus(peer, peer not in self.disconnected, None)
                for peer in self.cluster.nodes
                if peer != self.node_id
            ),
        )

    def install_snapshot(self, source: LoopbackNode) -> None:
        """Take over the state of ``source``, as a node does that was away for longer than the log reaches back."""
        self._registry = snapshot.decode(b"".join(snapshot.encode(snapshot.freeze(source.registry))))
        for listener in self._listeners:
            listener(self._registry.applied_index)

    def on_applied(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)

    def catch_up(self) -> dict[int, Outcome | None]:
        """Apply the rest of the log; the outcome of the one proposal of each entry, by index."""
        outcomes: dict[int, Outcome | None] = {}
        for index in range(self._registry.applied_index + 1, len(self.cluster.log) + 1):
            made = self._registry.apply(index, decode_entry(self.cluster.log[index - 1]))
            outcomes[index] = made[0] if made else None
            for listener in self._listeners:
                listener(index)
        return outcomes


def _has_the_shape(node: LoopbackNode) -> ReplicatedRegistry:
    """For the type checker: the loopback node is what the application is written against."""
    return node
