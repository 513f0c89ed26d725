"""What comes out of a reader is a prefix of what went into the writer, whatever happens on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artemis.consensus.frames import FrameReader, FrameWriter
from artemis.consensus.wire import FRAME_BYTES_MAX
from artemis.errors import DataDamaged

KEY = b"k" * 32
KEYS = pytest.mark.parametrize("key", [KEY, None], ids=["keyed", "crc"])
PAYLOADS = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=12)


def framed(key: bytes | None, payloads: list[bytes]) -> list[bytes]:
    writer = FrameWriter(key)
    return [writer.head(payload) + payload for payload in payloads]


def read(reader: FrameReader, data: bytes, *, step: int = 1 << 20) -> tuple[list[bytes], bool]:
    """(payloads, damaged) of ``data`` arriving in pieces of at most ``step`` bytes."""
    payloads: list[bytes] = []
    while data:
        with reader.room() as room:
            count = min(len(room), len(data), step)
            assert count > 0
            room[:count] = data[:count]
        reader.received(count)
        data = data[count:]
        try:
            while (payload := reader.next()) is not None:
                payloads.append(payload)
        except DataDamaged:
            return payloads, True
    return payloads, False


@KEYS
@given(payloads=PAYLOADS, step=st.integers(1, 700), buffer_bytes=st.integers(32, 600))
def test_payloads_come_out_as_they_went_in(
    key: bytes | None, payloads: list[bytes], step: int, buffer_bytes: int
) -> None:
    reader = FrameReader(key, buffer_bytes=buffer_bytes)
    assert read(reader, b"".join(framed(key, payloads)), step=step) == (payloads, False)
    assert reader.frames == len(payloads)
    assert reader.buffered_bytes == 0


@KEYS
@given(payloads=PAYLOADS, data=st.data())
def test_an_altered_byte_never_yields_an_altered_payload(
    key: bytes | None, payloads: list[bytes], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(framed(key, payloads)))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    reader = FrameReader(key)
    out, damaged = read(reader, bytes(stream))
    assert out == payloads[: len(out)]
    # A length that became too long keeps the reader waiting: the transport bounds that in time.
    assert len(out) < len(payloads)
    assert damaged or reader.buffered_bytes > 0


@KEYS
@given(payloads=st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=8), data=st.data())
def test_repeated_missing_and_swapped_frames_are_refused(
    key: bytes | None, payloads: list[bytes], data: st.DataObject
) -> None:
    frames = framed(key, payloads)
    place = data.draw(st.integers(0, len(frames) - 2))
    changed = {
        "repeated": frames[: place + 1] + frames[place:],
        "missing": frames[:place] + frames[place + 1 :],
        "swapped": [*frames[:place], frames[place + 1], frames[place], *frames[place + 2 :]],
    }
    for order in changed.values():
        out, damaged = read(FrameReader(key), b"".join(order))
        assert damaged
        assert out == payloads[: len(out)]


@given(garbage=st.binary(min_size=1, max_size=200))
def test_frames_without_the_key_are_refused(garbage: bytes) -> None:
    assert read(FrameReader(KEY), framed(b"x" * 32, [garbage])[0]) == ([], True)
    assert read(FrameReader(KEY), garbage)[0] == []


@KEYS
@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_anything_is_buffered(key: bytes | None, length: int) -> None:
    reader = FrameReader(key, buffer_bytes=64)
    assert read(reader, length.to_bytes(4, "big")) == ([], True)
    with reader.room() as room:
        assert len(room) <= 64


@KEYS
def test_the_largest_frame_passes_and_the_buffer_shrinks_again(key: bytes | None) -> None:
    reader = FrameReader(key, buffer_bytes=1024)
    largest = bytes(FRAME_BYTES_MAX)
    payloads = [b"before", largest, b"after"]
    out, damaged = read(reader, b"".join(framed(key, payloads)))
    assert not damaged
    assert out == payloads
    with reader.room() as room:
        assert len(room) == 1024


def test_a_backlog_of_small_frames_is_cut_without_quadratic_copying() -> None:
    payloads = [b"p" * 100] * 5000
    stream = b"".join(framed(KEY, payloads))
    reader = FrameReader(KEY, buffer_bytes=4096)
    moved = 0
    original = FrameReader._compact

    def counted(self: FrameReader) -> None:
        nonlocal moved
        moved += self.buffered_bytes
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameReader, "_compact", counted)
        out, _ = read(reader, stream, step=1000)
    assert out == payloads
    assert moved < len(stream) / 4
