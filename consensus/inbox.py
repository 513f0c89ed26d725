"""Who handles which message. Nothing is decided here but whether a message speaks of the present.

A message of another term is void, whatever it says: most handlers check that themselves, because a newer term may also
be news; the rest is checked here.
"""

from __future__ import annotations

from typing import Protocol

from artemis.consensus.admission import Admission
from artemis.consensus.core import RaftCore
from artemis.consensus.digests import StateDigests
from artemis.consensus.leadership import Leadership
from artemis.consensus.reading import Reading
from artemis.consensus.snapshotting import Snapshotting
from artemis.consensus.wire import (
    AppendEntries,
    AppendReply,
    Forward,
    Heartbeat,
    Introduction,
    IntroductionReply,
    Message,
    PreVoteGranted,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    ReadProbe,
    ReadProbeReply,
    RejoinIndex,
    SnapshotChunk,
    SnapshotReply,
    StateDigest,
    TermHint,
    TimeoutNow,
    VoteGranted,
    VoteRequest,
)

BEFORE_ADMISSION = (Introduction, IntroductionReply, RejoinIndex, SnapshotChunk)
"""All that a member hears that does not take part yet."""


class Recipient(Protocol):
    """The engine, as far as messages reach into it."""

    core: RaftCore
    leadership: Leadership
    reading: Reading
    snapshots: Snapshotting
    admission: Admission
    digests: StateDigests

    def send(self, peer: str, message: Message) -> None: ...


def receive(to: Recipient, peer: str, message: Message) -> None:
    """Handle one message of ``peer``, which the link has proven to be a member."""
    if not to.admission.done and not isinstance(message, BEFORE_ADMISSION):
        return
    core = to.core
    match message:
        case AppendEntries():
            core.following.on_append_entries(peer, message)
        case AppendReply():
            core.replication.on_append_reply(peer, message)
        case ReadProbe() | ReadIndexReply():
            if message.term == core.term:
                _from_the_leader(to, peer, message)
        case Forward() | ReadIndexRequest() | ReadProbeReply() | SnapshotReply():
            if message.term == core.term and core.role == "leader":
                _to_the_leader(to, peer, message)
        case Heartbeat():
            core.following.on_heartbeat(peer, message)
        case PreVoteRequest():
            core.elections.on_prevote_request(peer, message)
        case PreVoteGranted():
            core.elections.on_prevote_granted(peer, message)
        case VoteRequest():
            core.elections.on_vote_request(peer, message)
        case VoteGranted():
            core.elections.on_vote_granted(peer, message)
        case TimeoutNow():
            core.elections.on_timeout_now(peer, message.term)
        case TermHint():
            core.elections.on_term_hint(message.term)
        case SnapshotChunk():
            _snapshot_chunk(to, peer, message)
        case Introduction():
            to.admission.on_introduction(peer, message, lambda: _confirm_rejoin(to, peer, message.journal_id))
        case IntroductionReply():
            to.admission.on_reply(peer, message)
        case RejoinIndex():
            to.admission.on_rejoin_index(message)
        case StateDigest():
            to.digests.on_report(peer, message)


def _from_the_leader(to: Recipient, peer: str, message: ReadProbe | ReadIndexReply) -> None:
    match message:
        case ReadProbe():
            to.send(peer, ReadProbeReply(message.term, message.round))
        case ReadIndexReply():
            to.reading.barriers.on_index(message.round, message.index)


def _to_the_leader(
    to: Recipient, peer: str, message: Forward | ReadIndexRequest | ReadProbeReply | SnapshotReply
) -> None:
    match message:
        case Forward():
            to.leadership.orderer.take(peer, message.incarnation, message.proposals)
        case ReadIndexRequest():
            to.leadership.confirmations.ask(lambda index: _answer_read(to, peer, message, index))
        case ReadProbeReply():
            to.core.replication.heard(peer)
            to.leadership.confirmations.on_answer(peer, message.round)
        case SnapshotReply():
            to.core.replication.heard(peer)
            to.snapshots.on_reply(peer, message)


def _answer_read(to: Recipient, peer: str, request: ReadIndexRequest, index: int) -> None:
    if request.term == to.core.term:
        to.send(peer, ReadIndexReply(request.term, request.round, index))


def _snapshot_chunk(to: Recipient, peer: str, chunk: SnapshotChunk) -> None:
    if to.admission.done:
        to.core.following.on_leader_contact(peer, chunk.term)
        if chunk.term == to.core.term:
            to.snapshots.on_chunk(peer, chunk)
        return
    needed = to.admission.rejoin_from
    if needed is not None and chunk.index >= needed and chunk.term >= to.core.term:
        to.core.elections.adopt_term(chunk.term, peer)
        to.snapshots.on_chunk(peer, chunk)


def _confirm_rejoin(to: Recipient, peer: str, journal_id: bytes) -> None:
    """As leader: ``peer`` lost its data. It does not answer probes, so those who confirm this leader are others."""
    if to.core.leader_ready and not to.snapshots.serving_rejoin(peer, journal_id):
        term = to.core.term
        to.core.replication.forget_match(peer)
        to.leadership.confirmations.ask(lambda index: _send_state(to, peer, term, index, journal_id))


def _send_state(to: Recipient, peer: str, term: int, index: int, journal_id: bytes) -> None:
    # A snapshot that the core began to send is not enough: the peer takes none before it knows the index.
    if term == to.core.term and not to.snapshots.serving_rejoin(peer, journal_id):
        to.snapshots.feed_from(peer, index, journal_id)
