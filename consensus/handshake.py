"""How two nodes prove to each other who they are, before either believes a byte. Pure: bytes in, bytes out.

::

    dialer   -> HELLO      magic, version, mode, member digest, dialer nonce, cluster, dialer id, listener id
    listener -> CHALLENGE  listener nonce                     | REFUSED reason, or the connection just closes
    dialer   -> PROOF      MAC("dialer", transcript)
    listener -> ACCEPTED   MAC("listener", transcript)        | REFUSED reason

The transcript is HELLO and CHALLENGE as sent, so each proof covers the cluster, both ids and who dialed whom (the
direction), and two fresh nonces: a recorded handshake proves nothing to a listener that draws a new nonce. The MAC is
HMAC-SHA256 under the shared secret; the same function gives the key for the frames that follow, one key per connection
and so per direction. The dialer proves itself first: a stranger who dials gets no MAC to guess the secret from.

Without a secret the proofs are plain checksums: they show a node of this cluster and version, not an honest one.
Not done here: hiding the content. Who can read the network can read the registry's data, until links run over TLS.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from enum import IntEnum

from artemis.errors import InvalidInput

FORMAT_VERSION = 1
MAGIC = b"ARTMLINK"
NONCE_BYTES = 32
NAME_BYTES_MAX = 255
SECRET_BYTES_MIN = 16
"""Shorter secrets can be guessed offline by whoever saw one handshake."""

_PREFIX = struct.Struct(">8sHH")
_BODY = struct.Struct(">B32s32s")
_BODY_BYTES_MAX = _BODY.size + 3 * (1 + NAME_BYTES_MAX)
_PROOF_BYTES = 32
HELLO_BYTES_MAX = _PREFIX.size + _BODY_BYTES_MAX

_CHALLENGE, _ACCEPTED, _REFUSED = 0, 1, 2
_REPLY_BYTES = {_CHALLENGE: 1 + NONCE_BYTES, _ACCEPTED: 1 + _PROOF_BYTES, _REFUSED: 2}


class Reason(IntEnum):
    """Why a handshake ended. The value is the byte in REFUSED; the lower-cased name is the counter's label."""

    MALFORMED = 0
    VERSION = 1
    CLUSTER = 2
    SECRET_REQUIRED = 3
    SECRET_UNEXPECTED = 4
    MEMBERS = 5
    LISTENER_ID = 6
    DIALER_ID = 7
    PROOF = 8


_EXPLANATIONS = {
    Reason.MALFORMED: "the bytes are not those of a link handshake",
    Reason.VERSION: "the two nodes speak different link format versions",
    Reason.CLUSTER: "the two nodes have different cluster names",
    Reason.SECRET_REQUIRED: "the dialed node has a shared secret and the dialing node has none",
    Reason.SECRET_UNEXPECTED: "the dialing node has a shared secret and the dialed node has none",
    Reason.MEMBERS: "the two nodes are configured with different sets of member ids",
    Reason.LISTENER_ID: "the address belongs to another node than the one that was dialed",
    Reason.DIALER_ID: "the dialing node is not another member of this cluster",
    Reason.PROOF: "the two nodes have different shared secrets, or the handshake was altered on its way",
}


class HandshakeRefused(Exception):
    """The other end is not who it must be. ``reply`` is what to send before closing, empty if nothing.

    ``by_peer``: the other end said so (unproven: only good for a log line), else this end found it.
    """

    def __init__(self, reason: Reason, detail: str = "", *, reply: bytes = b"", by_peer: bool = False) -> None:
        super().__init__(_EXPLANATIONS[reason] + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.reply = reply
        self.by_peer = by_peer


class Identity:
    """What one node is configured to be: its id, its cluster, the ids of all members, the shared secret."""

    __slots__ = ("cluster", "digest", "members", "node_id", "secret")

    def __init__(self, *, node_id: str, cluster: str, members: Iterable[str], secret: bytes | None) -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.members = tuple(sorted(set(members)))
        self.secret = secret
        for field, name in (("cluster", cluster), *(("members", member) for member in self.members)):
            if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
                raise InvalidInput(field, f"{name!r}: 1 to {NAME_BYTES_MAX} bytes are allowed")
        if node_id not in self.members:
            raise InvalidInput("node_id", f"{node_id!r} must be one of the members {', '.join(self.members)}")
        if secret is not None and len(secret) < SECRET_BYTES_MIN:
            raise InvalidInput("secret", f"has {len(secret)} bytes, at least {SECRET_BYTES_MIN} are needed")
        # Ids only, not addresses: one node may rightly be reached under different names from different places.
        self.digest = hashlib.sha256(b"".join(map(_packed, self.members))).digest()

    @property
    def mode(self) -> int:
        return 0 if self.secret is None else 1


class ListenerHandshake:
    """The side that was dialed. Feed it bytes until ``peer`` is set."""

    def __init__(self, identity: Identity, nonce: bytes) -> None:
        self.peer: str | None = None
        """The dialer's id, once it is proven."""
        self.frame_key: bytes | None = None
        """Key of the frames that follow; None without a secret."""
        self._identity = identity
        self._nonce = nonce
        self._received = b""
        self._transcript = b""
        self._dialer = ""

    @property
    def introduced(self) -> bool:
        """A hello that fits this node has come, and was answered with a challenge."""
        return bool(self._transcript)

    def receive(self, data: bytes) -> bytes:
        """What to send back, maybe nothing yet. Raises ``HandshakeRefused``."""
        self._received += data
        return self._receive_proof() if self._transcript else self._receive_hello()

    def _receive_hello(self) -> bytes:
        received = self._received
        if not MAGIC.startswith(received[: len(MAGIC)]):
            raise HandshakeRefused(Reason.MALFORMED)
        if len(received) < _PREFIX.size:
            return b""
        _, version, body_bytes = _PREFIX.unpack_from(received)
        if version != FORMAT_VERSION:
            raise _refusal(Reason.VERSION, f"theirs {version}, ours {FORMAT_VERSION}")
        end = _PREFIX.size + body_bytes
        if body_bytes > _BODY_BYTES_MAX or len(received) > end:
            raise HandshakeRefused(Reason.MALFORMED, "hello of a wrong length")
        if len(received) < end:
            return b""
        self._dialer = _checked_dialer(received[_PREFIX.size :], self._identity)
        challenge = bytes([_CHALLENGE]) + self._nonce
        self._transcript = received + challenge
        self._received = b""
        return challenge

    def _receive_proof(self) -> bytes:
        # The dialer waits for ACCEPTED before it sends frames, so a byte too many is not from one of ours.
        if self.peer is not None or len(self._received) > _PROOF_BYTES:
            raise HandshakeRefused(Reason.MALFORMED, "bytes after the proof")
        if len(self._received) < _PROOF_BYTES:
            return b""
        secret = self._identity.secret
        if not hmac.compare_digest(self._received, _mac(secret, b"dialer", self._transcript)):
            raise _refusal(Reason.PROOF)
        self.peer = self._dialer
        self.frame_key = None if secret is None else _mac(secret, b"frames", self._transcript)
        return bytes([_ACCEPTED]) + _mac(secret, b"listener", self._transcript)


class DialerHandshake:
    """The side that dials ``listener``. Send ``hello()``, then feed it bytes until ``done``."""

    def __init__(self, identity: Identity, listener: str, nonce: bytes) -> None:
        self.done = False
        self.frame_key: bytes | None = None
        """Key of the frames that follow; None without a secret."""
        self._identity = identity
        self._hello = _hello(identity, listener, nonce)
        self._received = b""
        self._transcript = b""

    def hello(self) -> bytes:
        return self._hello

    def receive(self, data: bytes) -> bytes:
        """What to send back, maybe nothing yet. Raises ``HandshakeRefused``."""
        self._received += data
        received = self._received
        if not received:
            return b""
        kind = received[0]
        expected = _ACCEPTED if self._transcript else _CHALLENGE
        if self.done or kind not in (expected, _REFUSED) or len(received) > _REPLY_BYTES[kind]:
            raise HandshakeRefused(Reason.MALFORMED, "not the answer of a listener")
        if len(received) < _REPLY_BYTES[kind]:
            return b""
        self._received = b""
        if kind == _REFUSED:
            raise _refused_by_peer(received[1])
        secret = self._identity.secret
        if kind == _CHALLENGE:
            self._transcript = self._hello + received
            return _mac(secret, b"dialer", self._transcript)
        if not hmac.compare_digest(received[1:], _mac(secret, b"listener", self._transcript)):
            raise HandshakeRefused(Reason.PROOF)
        self.frame_key = None if secret is None else _mac(secret, b"frames", self._transcript)
        self.done = True
        return b""


def _mac(secret: bytes | None, label: bytes, transcript: bytes) -> bytes:
    # Labels have no common prefix and HELLO starts with MAGIC, so no two uses can meet in one input. Without a
    # secret the empty key makes this a plain checksum; a node with a secret never gets here with such a peer.
    return hmac.digest(secret or b"", label + transcript, "sha256")


def _packed(name: str) -> bytes:
    encoded = name.encode()
    return bytes([len(encoded)]) + encoded


def _hello(identity: Identity, listener: str, nonce: bytes) -> bytes:
    names = _packed(identity.cluster) + _packed(identity.node_id) + _packed(listener)
    body = _BODY.pack(identity.mode, identity.digest, nonce) + names
    return _PREFIX.pack(MAGIC, FORMAT_VERSION, len(body)) + body


def _checked_dialer(body: bytes, identity: Identity) -> str:
    """The dialer's id, if everything it says fits this node. Not proven yet."""
    if len(body) < _BODY.size:
        raise HandshakeRefused(Reason.MALFORMED, "hello too short")
    mode, digest, _nonce = _BODY.unpack_from(body)
    cluster, dialer, listener = _unpacked_names(body[_BODY.size :])
    if cluster != identity.cluster:
        raise _refusal(Reason.CLUSTER, f"theirs {cluster!r}, ours {identity.cluster!r}")
    if mode != identity.mode:
        raise _refusal(Reason.SECRET_UNEXPECTED if identity.secret is None else Reason.SECRET_REQUIRED)
    if digest != identity.digest:
        raise _refusal(Reason.MEMBERS, f"{dialer!r} dialed; this node's are {', '.join(identity.members)}")
    if listener != identity.node_id:
        raise _refusal(Reason.LISTENER_ID, f"{dialer!r} dialed {listener!r}, this is {identity.node_id!r}")
    if dialer not in identity.members or dialer == identity.node_id:
        raise _refusal(Reason.DIALER_ID, f"{dialer!r}")
    return dialer


def _unpacked_names(data: bytes) -> tuple[str, str, str]:
    names: list[str] = []
    for _ in range(3):
        size = data[0] if data else 0
        if not 1 <= size <= len(data) - 1:
            raise HandshakeRefused(Reason.MALFORMED, "a name of a wrong length")
        try:
            names.append(data[1 : 1 + size].decode())
        except UnicodeDecodeError as exc:
            raise HandshakeRefused(Reason.MALFORMED, "a name that is not UTF-8") from exc
        data = data[1 + size :]
    if data:
        raise HandshakeRefused(Reason.MALFORMED, "bytes after the names")
    return names[0], names[1], names[2]


def _refusal(reason: Reason, detail: str = "") -> HandshakeRefused:
    return HandshakeRefused(reason, detail, reply=bytes([_REFUSED, reason]))


def _refused_by_peer(code: int) -> HandshakeRefused:
    known = code in Reason.__members__.values()
    reason = Reason(code) if known else Reason.MALFORMED
    return HandshakeRefused(reason, "" if known else f"unknown reason {code}", by_peer=True)
