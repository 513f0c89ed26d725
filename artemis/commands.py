"""What travels through the log, and its bytes.

One log entry has one form, whatever it carries (see ``Entry``). Bytes are a version byte followed by msgpack arrays;
nothing is ever a pickle. Decoding is strict: an unknown version, an unknown command, an unknown field or
trailing bytes are ``DataDamaged``, because an entry that two nodes could read differently would let their states part.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from artemis.errors import DataDamaged
from artemis.model import Instance, InstanceKey, Member
from artemis.protection import ProtectionSettings

ENTRY_FORMAT = 2
"""First byte of every entry."""

ENTRY_FORMATS_READ = frozenset((1, ENTRY_FORMAT))
"""Format 1 is the same without conditions, whose absence is what they are by default."""


class Registration(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    instance: Instance
    ttl_ms: int


class Condition(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What the present record of one instance must be; where it is not, that instance is refused and the others are
    done. 0 stands for no record at all. None: not compared. With both, both must hold.

    ``position`` is that of the instance or key in its command. Of several for one position the last counts.
    """

    position: int
    revision: int | None = None
    epoch: int | None = None
    """The lease epoch, which is the record's lease id."""


class Register(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=1):
    """Put each instance, replacing what has its key, with a new lease. All of them appear at once."""

    items: tuple[Registration, ...]
    conditions: tuple[Condition, ...] = ()


class Renew(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=2):
    """Restart leases. ``lease_ids`` is the cheap form for leases the sender knows; ``keys`` is for the others.
    ``conditions`` are on the keys."""

    lease_ids: tuple[int, ...] = ()
    keys: tuple[InstanceKey, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Unregister(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=3):
    keys: tuple[InstanceKey, ...]
    conditions: tuple[Condition, ...] = ()


class Announce(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=4):
    """A member tells the cluster where its HTTP side is. Not a change of the registry: no revision."""

    member: Member


class Configure(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True, tag=5):
    """What must be the same on all nodes: the last one counts. Not a change of the registry: no revision."""

    protection: ProtectionSettings


Command = Register | Renew | Unregister | Announce | Configure


class RequestId(NamedTuple):
    """A client's name for one write, so that a retry is recognised on any node."""

    id: str
    fingerprint: bytes
    """8 bytes over the request as the client sent it; tells a retry from a reuse of the id."""


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A command with the identity that makes it apply once.

    ``(origin, incarnation, seq)``: the node that took it, that node's start (grows with every start), and a number
    that grows by one with every proposal of that start. ``expires_at_ms`` is on the lease clock.
    """

    origin: str
    incarnation: int
    seq: int
    request: RequestId | None
    expires_at_ms: int
    command: Command


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One log entry: the lease clock's stamp and the proposals, in order. With no proposals it is a clock step."""

    clock_ms: int
    proposals: tuple[Proposal, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_proposal_decoder = msgspec.msgpack.Decoder(Proposal)


def encode_proposal(proposal: Proposal) -> bytes:
    return _encoder.encode(proposal)


def decode_proposal(data: bytes) -> Proposal:
    try:
        return _proposal_decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as exc:
        raise DataDamaged(f"proposal: {exc}") from exc


def encode_entry(clock_ms: int, encoded_proposals: tuple[bytes, ...] | list[bytes] = ()) -> bytes:
    """Frame proposals that are already encoded: the leader orders bytes, it does not decode and encode them again."""
    raws = [msgspec.Raw(data) for data in encoded_proposals]
    return bytes((ENTRY_FORMAT,)) + _encoder.encode([clock_ms, raws])


def decode_entry(data: bytes) -> Entry:
    if not data or data[0] not in ENTRY_FORMATS_READ:
        raise DataDamaged(f"entry: format {data[:1].hex() or 'empty'}, this node reads 01 and {ENTRY_FORMAT:02x}")
    try:
        return _entry_decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError) as exc:
        raise DataDamaged(f"entry: {exc}") from exc
