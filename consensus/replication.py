"""What this node, as leader, sends to its followers and counts of their answers.

An acknowledgement counts if it is of this very term (hazard B), and up to what the leader itself has on disk (hazard
D1); it never takes the next index back (hazard C). How much may be on its way is in ``flow``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artemis.consensus.appendcheck import SafetyViolation
from artemis.consensus.flow import AppendSender, Host, SendWindows
from artemis.consensus.freshness import Freshness
from artemis.consensus.journal import Journal
from artemis.consensus.library import TypedSyncObj
from artemis.consensus.timing import Bounds, Timing
from artemis.consensus.wire import AppendReply


class Replication:
    def __init__(
        self,
        raft: TypedSyncObj,
        host: Host,
        journal: Journal,
        freshness: Freshness,
        vouched_us: Callable[[float], int],
        timing: Timing,
        bounds: Bounds,
    ) -> None:
        """``vouched_us``: see ``AppendSender``."""
        self._raft = raft
        self._host = host
        self._journal = journal
        self._freshness = freshness
        self._held_acks: dict[str, int] = {}
        self._announcing = False
        self.windows = SendWindows(bounds.append_window_bytes)
        self._sender = AppendSender(host, journal, freshness, vouched_us, self.windows, timing.heartbeat_ms)

    def clear(self) -> None:
        """A leadership begins or ends."""
        self._held_acks.clear()
        self.windows.clear()

    # -- to followers ------------------------------------------------------------------------------------------------

    def broadcast(self) -> None:
        """Tell the followers about new entries and the commit index now, not at the next heartbeat."""
        self._announcing = True
        self._raft.send_append_entries()
        self._announcing = False
        self.rewind_closed_windows()

    def send(self, peer: str, message: dict[str, Any]) -> None:
        """An append_entries of the library."""
        # Heartbeats ask for answers; one to each commit index would double the messages of a lone write.
        self._sender.send(
            peer,
            message["term"],
            message["commit_index"],
            (message["prevLogIdx"], message["prevLogTerm"]),
            tuple(message["entries"]),
            quiet=self._announcing and not message["entries"],
        )

    def rewind_closed_windows(self) -> None:
        """Batches that were held back go out later, from where the gap begins."""
        if not self.windows.holding:
            return
        for peer, index in self.windows.take_held().items():
            if self._raft.role == "leader":
                self._raft.set_next_index(peer, min(self._raft.next_index(peer), index))

    # -- from followers ----------------------------------------------------------------------------------------------

    def on_append_reply(self, peer: str, message: AppendReply) -> None:
        """Count an acknowledgement of this very term only (hazard B: a late one of an earlier leadership of this node
        raised the match index above what the follower still had)."""
        raft = self._raft
        if raft.role != "leader" or message.term != raft.term:
            return
        self._freshness.on_reply(peer, message.proof, self._host.now())
        if message.reset:
            # Keep the lowest of several resets: with batches in flight the follower answers 5, 6, 6, and the last one
            # alone would send from 6 for ever (hazard N7). Never below what is known to match.
            next_index = max(raft.match_index(peer) + 1, min(raft.next_index(peer), message.next_index))
            self.windows.forget(peer)
            raft.take_append_reply(peer, next_index, success=False, reset=not self._host.feeding_snapshot(peer))
        elif not message.success:
            raft.take_append_reply(peer, message.next_index, success=False, reset=False)
        else:
            self._on_acknowledged(peer, message.next_index - 1)

    def _on_acknowledged(self, peer: str, index: int) -> None:
        """A follower counts only up to what the leader itself has on disk: it fsyncs in parallel, and before it is
        done its own copy is no copy. The rest is held until then."""
        if index > self._journal.last_index:
            raise SafetyViolation(f"{peer} acknowledges entry {index}, this log ends at {self._journal.last_index}")
        self._held_acks.pop(peer, None)
        if index > self._journal.synced_index:
            self._held_acks[peer] = index
        counted = min(index, self._journal.synced_index)
        next_before = self._raft.next_index(peer)
        self._raft.take_append_reply(peer, counted + 1, success=True, reset=False)
        # The library sets the next index back to the acknowledged one although more is on its way (hazard C, part i).
        self._raft.set_next_index(peer, max(next_before, counted + 1))
        self.windows.acknowledge(peer, index)

    def on_synced(self) -> None:
        """The journal is on disk up to ``synced_index``: count what was held for it."""
        if self._raft.role != "leader":
            self._held_acks.clear()
        for peer, index in list(self._held_acks.items()):
            self._on_acknowledged(peer, index)

    def on_snapshot_installed(self, peer: str, index: int) -> None:
        """``peer`` has verified and stored a snapshot that ends at ``index``."""
        if self._raft.role == "leader":
            self._on_acknowledged(peer, index)
            self._raft.set_next_index(peer, index + 1)

    def heard(self, peer: str) -> None:
        """``peer`` answered something in this term, so it still follows."""
        self._raft.answered(peer, self._host.now())

    def forget_match(self, peer: str) -> None:
        """``peer`` lost its data, so nothing is known to match any more. What is committed stays so."""
        self._raft.set_match_index(peer, 0)
        self._held_acks.pop(peer, None)
        self.windows.forget(peer)
