"""May this member take part? Only if nothing it ever promised can be gone.

A member that comes back with an empty data directory has forgotten votes and acknowledgements. If it took part as if
new, committed entries would be lost: n1 and n2 acknowledged them, n1's disk is replaced, n1 and n3 (which lacks them)
elect n3. So a journal is not enough to take part; it must have been admitted, and that is durable:

- **Founding.** Members without data introduce themselves to all others. When every one of them has said that it is
  without data too, the cluster is founded, and each remembers the journal ids of all (``founders``).
- **A founder that was slow** is recognised by its journal id and admitted by any admitted member.
- **Anyone else** without data is a known member whose data is gone. It stops with a message, unless its operator has
  decided otherwise (``rejoin``): then it takes the state from a leader that a majority without it has confirmed after
  it asked, and takes part once it holds everything that was committed by then. Such a leader is in the newest term
  that any promise of the lost data could have helped to make (the confirming majority and any majority that held the
  lost member share another one). One promise is left: its vote for a candidate that nobody else has voted for yet.
  So it hears the term of every other member after its loss, and has no vote in any term up to the highest: n1, cut off
  in term 3, holds the lost vote of n3; n3 rejoins in term 2 with n2, n4 and n5 and would vote for n5 in term 3; with
  the vote of n2 later on, n1 and n5 would both lead it.

The price of the founding rule: a cluster forms only when all its members run for the first time. That of the last one:
a member rejoins only while all others run, if only without data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from artemis.consensus.core import RaftCore
from artemis.consensus.journal import Journal
from artemis.consensus.wire import Introduction, IntroductionReply, Message, RejoinIndex
from artemis.errors import InvalidInput

log = logging.getLogger("artemis.consensus")

ASK_AGAIN_SECONDS = 0.1


def refuse_other_members(journal: Journal, members: tuple[str, ...]) -> None:
    """Raise ``InvalidInput`` when the data belongs to a cluster of other members.

    Two halves of a cluster with different lists could each see a majority.
    """
    founders = journal.founders
    if founders and set(founders) != set(members):
        raise InvalidInput(
            "peers",
            f"the data directory belongs to a cluster of {', '.join(sorted(founders))}; the members cannot change",
        )


class Host(Protocol):
    """What this part asks of the engine."""

    node_id: str
    core: RaftCore
    journal: Journal

    def now(self) -> float: ...

    def send(self, peer: str, message: Message) -> None: ...

    def send_when_durable(self, peer: str, message: Message) -> None: ...

    def fail(self, reason: str) -> None: ...


class Admission:
    """One member's standing. ``done`` once it takes part; until then the engine shows its core to nobody."""

    def __init__(self, host: Host, *, rejoin: bool) -> None:
        self._host = host
        self._rejoin = rejoin
        self._fresh: dict[str, bytes] = {}
        self._founders: dict[str, bytes] = {}
        """What an admitted member told a member that rejoins."""
        self._terms: dict[str, int] = {}
        """Of each other member that answered this start."""
        self._has_state = False
        self._asked_at = float("-inf")
        self.rejoin_from: int | None = None
        """A rejoining member needs a snapshot that ends here or later."""

    @property
    def done(self) -> bool:
        return bool(self._host.journal.founders)

    def reason(self) -> str | None:
        """Why this member does not take part yet."""
        if self.done:
            return None
        unheard = [peer for peer in self._host.core.peers() if peer not in self._terms]
        if self._has_state and unheard:
            return f"rejoins, has the cluster's state, and waits until it has heard of {', '.join(unheard)}"
        if self.rejoin_from is not None:
            return "takes the cluster's state because it was started with --rejoin"
        if self._founders:
            return "started with --rejoin, it waits for a leader that a majority confirms without it"
        missing = [peer for peer in self._host.core.peers() if peer not in self._fresh]
        if not missing:
            return "its founding is not on disk yet"
        return f"has no data and waits for {', '.join(missing)}: a new cluster begins when all its members run"

    @property
    def due_at(self) -> float:
        """When ``tick`` asks again."""
        return self._asked_at + ASK_AGAIN_SECONDS

    def tick(self) -> None:
        """Introduce this member to those that have not answered; a lone one founds its cluster at once."""
        if self.done or self._host.now() - self._asked_at < ASK_AGAIN_SECONDS:
            return
        self._asked_at = self._host.now()
        self._found_if_complete()
        for peer in self._host.core.peers():
            self._host.send(peer, Introduction(self._host.journal.journal_id, self._rejoin and not self._has_state))

    # -- without data ------------------------------------------------------------------------------------------------

    def on_reply(self, peer: str, reply: IntroductionReply) -> None:
        if self.done:
            return
        self._terms[peer] = reply.term
        if not reply.founders:
            self._fresh[peer] = reply.journal_id
            self._found_if_complete()
        elif reply.founders.get(self._host.node_id) == self._host.journal.journal_id:
            self._host.journal.admit(reply.founders)
        elif not self._rejoin:
            self._host.fail(
                f"{peer} knows this member with other data, so this member's data is gone. If data_dir is wrong or its"
                " disk is not mounted, mend that. Else start it once with --rejoin to take the state from the others"
            )
        else:
            self._founders = reply.founders
            self._rejoin_if_complete()

    def on_rejoin_index(self, message: RejoinIndex) -> None:
        mine = message.journal_id == self._host.journal.journal_id
        if mine and not self.done and self._rejoin and self.rejoin_from is None:
            log.info("rejoins: needs the state up to entry %d", message.index)
            self.rejoin_from = message.index

    def on_snapshot_installed(self, index: int) -> None:
        """The state of a confirmed leader, ending at ``index``, is stored here."""
        if not self.done and self.rejoin_from is not None and index >= self.rejoin_from:
            self._has_state = True
            self._rejoin_if_complete()

    def _rejoin_if_complete(self) -> None:
        """The state may come before the answers, which wait for their senders' disks: not knowing the founders this
        member would be its own only one, and refuse its next start."""
        host = self._host
        if self._has_state and self._founders and all(peer in self._terms for peer in host.core.peers()):
            host.core.elections.adopt_term(max(self._terms.values()), host.node_id)
            host.journal.admit({**self._founders, host.node_id: host.journal.journal_id})

    def _found_if_complete(self) -> None:
        if all(peer in self._fresh for peer in self._host.core.peers()):
            log.info("the cluster is founded")
            self._host.journal.admit({**self._fresh, self._host.node_id: self._host.journal.journal_id})

    # -- for others without data -------------------------------------------------------------------------------------

    def on_introduction(self, peer: str, message: Introduction, confirm: Callable[[], None]) -> None:
        """Tell ``peer`` how this member knows it; ``confirm`` begins a rejoin if this node can help with it."""
        founders = self._host.journal.founders
        # Only what is on disk is told: after a power cut this member might not know its own founding any more.
        self._host.send_when_durable(
            peer, IntroductionReply(self._host.core.term, self._host.journal.journal_id, founders)
        )
        if founders and message.rejoin and founders.get(peer) != message.journal_id:
            confirm()
