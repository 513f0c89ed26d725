"""What nodes say to each other: typed, bounded msgpack messages.

Messages carry the sender's term. Raft's own messages keep the meaning they have in the Raft paper (figure 2;
``RequestVote``, ``AppendEntries``, ``InstallSnapshot``) and in the dissertation (leadership transfer 3.10, ReadIndex
6.4, pre-vote 9.6).
A message that does not decode is a fault of the link, which is then closed.
"""

from __future__ import annotations

import msgspec

from artemis.consensus.freshness import TimeProof
from artemis.errors import DataDamaged

LogEntry = tuple[bytes, int, int]
"""(command, index, term), in PySyncObj's order. ``command`` is PySyncObj's type byte, then our entry bytes."""


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """``entries`` follow the entry (``prev_index``, ``prev_term``). Without entries it is a heartbeat."""

    term: int
    commit_index: int
    prev_index: int
    prev_term: int
    entries: tuple[LogEntry, ...]
    proof: TimeProof
    quiet: bool = False
    """Only news of the commit index: needs no answer when it matches."""


class AppendReply(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """``success``: everything below ``next_index`` is on the sender's disk and equals the leader's log of ``term``.

    ``reset``: the sender has no matching entry there; start again at ``next_index``.
    """

    term: int
    next_index: int
    success: bool
    reset: bool
    proof: TimeProof


class VoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=3):
    term: int
    last_index: int
    last_term: int
    transfer: bool
    """The leader asked for this election, so voters do not protect it."""


class VoteGranted(msgspec.Struct, frozen=True, array_like=True, tag=4):
    term: int


class PreVoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=5):
    term: int
    """The sender's current term; it would campaign in ``term + 1``."""
    last_index: int
    last_term: int
    round: int


class PreVoteGranted(msgspec.Struct, frozen=True, array_like=True, tag=6):
    term: int
    round: int


class TermHint(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Your term is old; mine is this."""

    term: int


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The leader of ``term`` wants the receiver to campaign at once."""

    term: int


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Keeps a follower from campaigning while it is fed a snapshot: no claim about logs."""

    term: int
    proof: TimeProof


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """``offset`` is where ``data`` belongs in the ``total`` bytes of the snapshot that ends with
    entry (``index``, ``index_term``)."""

    term: int
    index: int
    index_term: int
    total: int
    offset: int
    data: bytes


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """``next_offset`` = ``total`` only when the snapshot is verified, on disk and installed."""

    term: int
    index: int
    next_offset: int


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Proposals of the sender's session, as (seq, encoded proposal) in its order, for the leader of just this term."""

    term: int
    incarnation: int
    proposals: tuple[tuple[int, bytes], ...]


class ReadIndexRequest(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A follower asks the leader for a point that reads waiting at ``round`` may be served from."""

    term: int
    round: int


class ReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag=14):
    term: int
    round: int
    index: int


class ReadProbe(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Am I still your leader? Asked after the reads of ``round`` arrived."""

    term: int
    round: int


class ReadProbeReply(msgspec.Struct, frozen=True, array_like=True, tag=16):
    term: int
    round: int


class Introduction(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """The sender has no data and asks whether it may take part (``admission``)."""

    journal_id: bytes
    rejoin: bool
    """Its operator knows that its data is gone."""


class IntroductionReply(msgspec.Struct, frozen=True, array_like=True, tag=18):
    term: int
    journal_id: bytes
    founders: dict[str, bytes]
    """The journal id of each member at the founding, as the sender knows it; empty while it has no data itself."""


class RejoinIndex(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """A confirmed leader to a rejoining member, before each piece of the snapshot that ends at ``index``.

    ``journal_id`` is the one that asked: a confirmation from before the data was lost once more proves nothing.
    """

    term: int
    index: int
    journal_id: bytes


class StateDigest(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The sender's state after the entry ``index``, which is committed (``digests``)."""

    index: int
    digest: int
    format: int
    """What goes into the digest; others are not compared."""


Message = (
    AppendEntries
    | AppendReply
    | VoteRequest
    | VoteGranted
    | PreVoteRequest
    | PreVoteGranted
    | TermHint
    | TimeoutNow
    | Heartbeat
    | SnapshotChunk
    | SnapshotReply
    | Forward
    | ReadIndexRequest
    | ReadIndexReply
    | ReadProbe
    | ReadProbeReply
    | Introduction
    | IntroductionReply
    | RejoinIndex
    | StateDigest
)

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""Largest frame on a link: an append_entries batch (2 MiB, see core) or one large entry, with room to spare."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:  # deep nesting in a field we do not know
        raise DataDamaged(f"message: {exc}") from exc
