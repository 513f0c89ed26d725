"""No altered, repeated or misdirected handshake succeeds, and each misconfiguration is named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.consensus.handshake import (
    HELLO_BYTES_MAX,
    MAGIC,
    NAME_BYTES_MAX,
    DialerHandshake,
    HandshakeRefused,
    Identity,
    ListenerHandshake,
    Reason,
)
from artemis.consensus.link_inbound import HANDSHAKE_BYTES_MAX
from artemis.errors import InvalidInput

SECRET = b"sixteen bytes or more"
MEMBERS = ("n1", "n2", "n3")


def identity(
    node_id: str,
    *,
    cluster: str = "blue",
    members: tuple[str, ...] = MEMBERS,
    secret: bytes | None = SECRET,
) -> Identity:
    return Identity(node_id=node_id, cluster=cluster, members=members, secret=secret)


def nonce(fill: int) -> bytes:
    return bytes([fill]) * 32


def pair(secret: bytes | None = SECRET) -> tuple[DialerHandshake, ListenerHandshake]:
    dialer = DialerHandshake(identity("n1", secret=secret), "n2", nonce(1))
    return dialer, ListenerHandshake(identity("n2", secret=secret), nonce(2))


def converse(dialer: DialerHandshake, listener: ListenerHandshake) -> None:
    challenge = listener.receive(dialer.hello())
    proof = dialer.receive(challenge)
    dialer.receive(listener.receive(proof))


def refused(dialer: Identity, listener: Identity, dialed: str = "n2") -> tuple[Reason, Reason | None]:
    """What the listener found, and what the dialer learns from its reply (None: it was told nothing)."""
    handshake = DialerHandshake(dialer, dialed, nonce(1))
    with pytest.raises(HandshakeRefused) as found:
        converse(handshake, ListenerHandshake(listener, nonce(2)))
    assert not found.value.by_peer
    if not found.value.reply:
        return found.value.reason, None
    with pytest.raises(HandshakeRefused) as told:
        handshake.receive(found.value.reply)
    assert told.value.by_peer
    assert not handshake.done
    return found.value.reason, told.value.reason


@pytest.mark.parametrize("secret", [SECRET, None])
def test_two_members_prove_themselves_and_share_a_frame_key(secret: bytes | None) -> None:
    dialer, listener = pair(secret)
    converse(dialer, listener)
    assert dialer.done
    assert listener.peer == "n1"
    assert dialer.frame_key == listener.frame_key
    assert (dialer.frame_key is None) == (secret is None)


@pytest.mark.parametrize("secret", [SECRET, None])
def test_the_handshake_survives_any_fragmentation(secret: bytes | None) -> None:
    dialer, listener = pair(secret)
    to_listener = dialer.hello()
    while to_listener:
        to_dialer = b"".join(listener.receive(bytes([byte])) for byte in to_listener)
        to_listener = b"".join(dialer.receive(bytes([byte])) for byte in to_dialer)
    assert dialer.done
    assert listener.peer == "n1"


def test_no_secret_byte_and_no_frame_key_is_on_the_wire() -> None:
    dialer, listener = pair()
    hello = dialer.hello()
    challenge = listener.receive(hello)
    proof = dialer.receive(challenge)
    wire = hello + challenge + proof + listener.receive(proof)
    dialer.receive(wire[-33:])
    assert dialer.frame_key is not None
    assert SECRET not in wire
    assert dialer.frame_key not in wire


def test_each_connection_and_each_direction_has_its_own_key() -> None:
    keys = set()
    for dialing, dialed, fill in (("n1", "n2", 1), ("n1", "n2", 3), ("n2", "n1", 1), ("n1", "n3", 1)):
        dialer = DialerHandshake(identity(dialing), dialed, nonce(fill))
        converse(dialer, ListenerHandshake(identity(dialed), nonce(2)))
        keys.add(dialer.frame_key)
    assert len(keys) == 4


@given(message=st.sampled_from(["hello", "challenge", "proof", "accepted"]), data=st.data())
@pytest.mark.parametrize("secret", [SECRET, None])
def test_any_altered_byte_fails(secret: bytes | None, message: str, data: st.DataObject) -> None:
    dialer, listener = pair(secret)

    def on_the_way(name: str, sent: bytes) -> bytes:
        if name != message:
            return sent
        place = data.draw(st.integers(0, len(sent) - 1))
        return sent[:place] + bytes([sent[place] ^ data.draw(st.integers(1, 255))]) + sent[place + 1 :]

    # A longer length may also leave an end waiting for bytes that never come; time ends that.
    with suppress(HandshakeRefused):
        challenge = on_the_way("challenge", listener.receive(on_the_way("hello", dialer.hello())))
        proof = on_the_way("proof", dialer.receive(challenge))
        dialer.receive(on_the_way("accepted", listener.receive(proof)))
    assert not dialer.done
    assert listener.peer is None or message == "accepted"


@given(garbage=st.binary(min_size=1, max_size=1024))
def test_garbage_is_never_accepted(garbage: bytes) -> None:
    dialer, listener = pair()
    for end in (dialer, listener):
        try:
            reply = end.receive(garbage)
        except HandshakeRefused:
            continue
        assert reply == b"" or (end is dialer and garbage[0] == 0 and len(garbage) == 33)
    assert listener.peer is None
    assert not dialer.done


@given(body=st.binary(max_size=1000))
def test_garbage_behind_a_right_prefix_is_never_accepted(body: bytes) -> None:
    _, listener = pair()
    with pytest.raises(HandshakeRefused):
        listener.receive(MAGIC + b"\x00\x01" + len(body).to_bytes(2, "big") + body)
    assert listener.peer is None


def test_a_recorded_dialer_proves_nothing_to_a_listener() -> None:
    dialer, listener = pair()
    hello = dialer.hello()
    proof = dialer.receive(listener.receive(hello))
    listener.receive(proof)
    again = ListenerHandshake(identity("n2"), nonce(9))
    again.receive(hello)
    with pytest.raises(HandshakeRefused) as refusal:
        again.receive(proof)
    assert refusal.value.reason is Reason.PROOF
    assert again.peer is None


def test_a_recorded_listener_proves_nothing_to_a_dialer() -> None:
    dialer, listener = pair()
    challenge = listener.receive(dialer.hello())
    accepted = listener.receive(dialer.receive(challenge))
    again = DialerHandshake(identity("n1"), "n2", nonce(9))
    again.receive(challenge)
    with pytest.raises(HandshakeRefused) as refusal:
        again.receive(accepted)
    assert refusal.value.reason is Reason.PROOF
    assert not again.done


def test_a_reflected_proof_is_no_acceptance() -> None:
    dialer, listener = pair()
    proof = dialer.receive(listener.receive(dialer.hello()))
    with pytest.raises(HandshakeRefused):
        dialer.receive(b"\x01" + proof)
    assert not dialer.done


@pytest.mark.parametrize(
    ("dialer", "listener", "reason"),
    [
        (identity("n1", cluster="green"), identity("n2"), Reason.CLUSTER),
        (identity("n1", members=("n1", "n2")), identity("n2"), Reason.MEMBERS),
        (identity("n1", members=("n1", "n2", "n3", "n4")), identity("n2"), Reason.MEMBERS),
        (identity("n1", secret=None), identity("n2"), Reason.SECRET_REQUIRED),
        (identity("n1"), identity("n2", secret=None), Reason.SECRET_UNEXPECTED),
        (identity("n1", secret=b"another secret of 16"), identity("n2"), Reason.PROOF),
        (identity("n1"), identity("n3"), Reason.LISTENER_ID),
        (identity("n2"), identity("n2"), Reason.DIALER_ID),
    ],
)
def test_both_ends_name_what_does_not_fit(dialer: Identity, listener: Identity, reason: Reason) -> None:
    assert refused(dialer, listener) == (reason, reason)


def test_member_ids_cannot_be_shifted_between_names() -> None:
    split = identity("n1", members=("n1", "n2", "ab", "c"))
    shifted = identity("n2", members=("n1", "n2", "a", "bc"))
    assert refused(split, shifted) == (Reason.MEMBERS, Reason.MEMBERS)


def test_another_format_version_is_named_whatever_follows_it() -> None:
    _, listener = pair()
    with pytest.raises(HandshakeRefused) as refusal:
        listener.receive(MAGIC + b"\x00\x02\xff\xff" + b"?" * 50)
    assert refusal.value.reason is Reason.VERSION
    assert "theirs 2, ours 1" in str(refusal.value)


def test_a_stranger_learns_nothing() -> None:
    _, listener = pair()
    with pytest.raises(HandshakeRefused) as refusal:
        listener.receive(b"GET / HTTP/1.1\r\n")
    assert refusal.value.reply == b""


@pytest.mark.parametrize("secret", [SECRET, None])
def test_frames_before_the_acceptance_are_refused(secret: bytes | None) -> None:
    dialer, listener = pair(secret)
    proof = dialer.receive(listener.receive(dialer.hello()))
    with pytest.raises(HandshakeRefused) as refusal:
        listener.receive(proof + b"\x00")
    assert refusal.value.reason is Reason.MALFORMED
    assert listener.peer is None


def test_bytes_after_the_acceptance_are_refused() -> None:
    dialer, listener = pair()
    converse(dialer, listener)
    with pytest.raises(HandshakeRefused):
        dialer.receive(b"\x02\x00")
    with pytest.raises(HandshakeRefused):
        listener.receive(b"\x00")


def test_the_longest_names_fit_into_what_is_read_before_authentication() -> None:
    longest, other = "a" * NAME_BYTES_MAX, "b" * NAME_BYTES_MAX
    names = (longest, other)
    dialer = DialerHandshake(identity(longest, cluster=longest, members=names), other, nonce(1))
    listener = ListenerHandshake(identity(other, cluster=longest, members=names), nonce(2))
    assert len(dialer.hello()) == HELLO_BYTES_MAX
    converse(dialer, listener)
    assert listener.peer == longest
    assert HELLO_BYTES_MAX + 32 < HANDSHAKE_BYTES_MAX


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({"node_id": "n4"}, "node_id"),
        ({"cluster": ""}, "cluster"),
        ({"cluster": "é" * 128}, "cluster"),
        ({"members": ("n1", "")}, "members"),
        ({"secret": b""}, "secret"),
        ({"secret": b"fifteen bytes.."}, "secret"),
    ],
)
def test_a_wrong_identity_is_refused_with_its_field(kwargs: dict[str, object], field: str) -> None:
    given_values: dict[str, object] = {"node_id": "n1", "cluster": "blue", "members": MEMBERS, "secret": SECRET}
    with pytest.raises(InvalidInput) as error:
        Identity(**(given_values | kwargs))  # type: ignore[arg-type]
    assert error.value.field == field
