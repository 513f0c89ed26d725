"""The record codec: what decodes is what was encoded, where it was encoded, and nothing else."""

from __future__ import annotations

import pytest

from artemis.consensus import records
from artemis.consensus.records import (
    MARK,
    Bad,
    Base,
    Record,
    Reset,
    SegmentHeader,
    Start,
    Truncate,
    Vote,
)

SEED = records.place_seed(b"j" * 16, 1)

EVERY_KIND: list[Record] = [
    (b"", 1, 0),
    (b"\x00command", 2**63, 2**64 - 1),
    Truncate(7),
    Vote(3, None),
    Vote(4, "n-ö"),
    Base(9),
    Reset(()),
    Reset(((b"a", 4, 1), (b"b", 5, 2))),
    Start(1_700_000_000_000),
    MARK,
]

HEADER = SegmentHeader(
    cluster="c",
    node_id="n1",
    journal_id=b"j" * 16,
    segment=1,
    previous_bytes=0,
    term=3,
    voted_for="n2",
    incarnation=5,
    base_index=2,
    founders=(("n1", b"0123456789abcdef"),),
    next_index=9,
)


def decode_all(data: bytes, offset: int = 0) -> list[Record]:
    found = []
    while offset < len(data):
        decoded = records.decode(data, SEED, offset)
        assert not isinstance(decoded, Bad), decoded
        found.append(decoded[0])
        offset = decoded[1]
    return found


def test_every_kind_comes_back_as_it_was() -> None:
    assert decode_all(records.encode(EVERY_KIND, SEED, 0)) == EVERY_KIND


def test_a_record_is_valid_only_at_its_own_place() -> None:
    data = records.encode([(b"command", 1, 1)], SEED, 100)
    assert records.decode(bytes(100) + data, SEED, 100) == ((b"command", 1, 1), 100 + len(data))
    assert isinstance(records.decode(bytes(101) + data, SEED, 101), Bad)
    other_segment = records.place_seed(b"j" * 16, 2)
    other_journal = records.place_seed(b"k" * 16, 1)
    for seed in (other_segment, other_journal):
        assert isinstance(records.decode(bytes(100) + data, seed, 100), Bad)


@pytest.mark.parametrize("record", EVERY_KIND, ids=repr)
def test_no_flipped_bit_and_no_shorter_prefix_decodes(record: Record) -> None:
    data = records.encode([record], SEED, 0)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert isinstance(records.decode(bytes(flipped), SEED, 0), Bad)
    for size in range(len(data)):
        assert isinstance(records.decode(data[:size], SEED, 0), Bad)


def test_zeros_are_no_record() -> None:
    assert isinstance(records.decode(bytes(64), SEED, 0), Bad)


def test_a_length_beyond_the_limit_is_refused_without_reading_on() -> None:
    decoded = records.decode(b"\xff\xff\xff\xff\x02" + bytes(64), SEED, 0)
    assert isinstance(decoded, Bad)
    assert "4294967295" in decoded.reason


def test_a_mark_is_found_behind_garbage_but_not_inside_a_command() -> None:
    stolen = records.encode([MARK], SEED, 0)
    data = records.encode([(stolen, 1, 1)], SEED, 0)
    assert records.find_mark(data, SEED, 0) is None
    garbage = b"\x00\x00\x00\x00\x08 looks like one"
    marked = data + garbage + records.encode([MARK], SEED, len(data) + len(garbage))
    assert records.find_mark(marked, SEED, 1) == len(data) + len(garbage)
    assert records.find_mark(marked, SEED, len(data) + len(garbage) + 1) is None


def test_header_comes_back_with_the_offset_behind_it() -> None:
    data = records.encode_header(HEADER)
    assert records.decode_header(data + b"rest") == (HEADER, len(data))


def test_a_header_of_another_format_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FORMAT_VERSION", 2)
    data = records.encode_header(HEADER)
    monkeypatch.undo()
    decoded = records.decode_header(data)
    assert isinstance(decoded, Bad)
    assert "format version 2" in decoded.reason


def test_a_record_is_no_header() -> None:
    decoded = records.decode_header(records.encode([(b"command", 1, 1)], 0, 0))
    assert isinstance(decoded, Bad)
    assert "not an Artemis journal" in decoded.reason
