"""Planted bugs in what a link proves. Simulated links have neither handshake nor tags, so tests find them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from artemis.consensus import frames, handshake
from artemis.consensus.frames import Tagger
from artemis.consensus.handshake import Identity
from tests.simulation.mutant import Named, mutant

HANDSHAKE = "unit/test_handshake.py::test_"
FRAMES = "unit/test_frames.py::test_"
REFUSED = "AssertionError|assert |DID NOT RAISE|ExceptionGroup"


@mutant("J3", "handshake (compare_digest)", Named(HANDSHAKE + "a_recorded_dialer_proves_nothing_to_a_listener"))
def believe_any_proof(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handshake, "hmac", SimpleNamespace(digest=hmac.digest, compare_digest=lambda a, b: True))


@mutant("J3", "handshake._mac", Named(HANDSHAKE + "a_recorded_dialer_proves_nothing_to_a_listener"))
def prove_nothing_of_this_connection(patch: pytest.MonkeyPatch) -> None:
    real = handshake._mac
    patch.setattr(handshake, "_mac", lambda secret, label, transcript: real(secret, label, b""))


@mutant("J3", "handshake._mac", Named(HANDSHAKE + "a_reflected_proof_is_no_acceptance"))
def prove_the_same_at_both_ends(patch: pytest.MonkeyPatch) -> None:
    real = handshake._mac
    patch.setattr(handshake, "_mac", lambda secret, label, transcript: real(secret, b"", transcript))


@mutant("I", "handshake.Identity.digest", Named(HANDSHAKE + "both_ends_name_what_does_not_fit"))
def compare_no_member_sets(patch: pytest.MonkeyPatch) -> None:
    real = Identity.__init__

    def alike(self: Identity, *, node_id: str, cluster: str, members: Iterable[str], secret: bytes | None) -> None:
        real(self, node_id=node_id, cluster=cluster, members=members, secret=secret)
        self.digest = bytes(32)

    patch.setattr(Identity, "__init__", alike)


@mutant("K", "frames.FrameReader.next", Named(FRAMES + "frames_without_the_key_are_refused", REFUSED))
def believe_any_tag(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(frames, "hmac", SimpleNamespace(compare_digest=lambda a, b: True))


@mutant("K", "frames.Tagger.next_tag", Named(FRAMES + "repeated_missing_and_swapped_frames_are_refused", REFUSED))
def tag_a_frame_without_its_place(patch: pytest.MonkeyPatch) -> None:
    real = Tagger.next_tag

    def placeless(self: Tagger, payload: bytes) -> bytes:
        place, self.place = self.place, 0
        tag = real(self, payload)
        self.place = place + 1
        return tag

    patch.setattr(Tagger, "next_tag", placeless)


@mutant("K", "frames.FrameReader.next", Named(FRAMES + "a_length_out_of_bounds_is_refused_before_anything_is_buffered"))
def wait_for_a_frame_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(frames, "FRAME_BYTES_MAX", 2**62)
