"""The bytes of an entry: strict, because an entry that two nodes read differently lets their states part."""

from __future__ import annotations

import msgspec
import pytest

from artemis.commands import (
    ENTRY_FORMAT,
    Announce,
    Command,
    Entry,
    Proposal,
    Renew,
    RequestId,
    Unregister,
    decode_entry,
    decode_proposal,
    encode_entry,
    encode_proposal,
)
from artemis.errors import DataDamaged
from artemis.model import InstanceKey, Member
from tests.support.replica import instance, register

COMMANDS: list[Command] = [
    register(instance(metadata={"a": None, "ü": "1"}), instance(region_id=None), ttl_ms=5),
    Renew(lease_ids=(1, 2**40), keys=(InstanceKey("r", "s", "i"),)),
    Renew(),
    Unregister((InstanceKey("", "s", "i"),)),
    Announce(Member(node_id="n1", url="http://n1", region_id="r", zone_id="z")),
]


def proposal(command: Command, request: RequestId | None = None) -> Proposal:
    return Proposal("n1", 3, 7, request, 1_000, command)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("request_id", [None, RequestId("x", b"\x00" * 8)])
def test_a_proposal_comes_back_as_it_was(command: Command, request_id: RequestId | None) -> None:
    given = proposal(command, request_id)
    assert decode_proposal(encode_proposal(given)) == given


def test_an_entry_comes_back_with_its_proposals_in_order() -> None:
    given = [proposal(command) for command in COMMANDS]
    entry = decode_entry(encode_entry(9, [encode_proposal(each) for each in given]))
    assert entry == Entry(9, tuple(given))
    assert [type(each.command) for each in entry.proposals] == [type(command) for command in COMMANDS]


def test_a_step_is_an_entry_without_proposals() -> None:
    assert decode_entry(encode_entry(9)) == Entry(9)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x03" + encode_entry(9)[1:], b"\x80\x04pickle"])
def test_another_format_is_named(data: bytes) -> None:
    with pytest.raises(DataDamaged, match="format"):
        decode_entry(data)


def test_bytes_after_an_entry_are_refused() -> None:
    with pytest.raises(DataDamaged, match="entry"):
        decode_entry(encode_entry(9) + b"\x00")


def test_every_prefix_of_an_entry_is_refused() -> None:
    data = encode_entry(9, [encode_proposal(proposal(command)) for command in COMMANDS])
    for length in range(len(data)):
        with pytest.raises(DataDamaged):
            decode_entry(data[:length])


def test_bytes_of_something_else_are_refused_as_a_proposal() -> None:
    with pytest.raises(DataDamaged, match="proposal"):
        decode_proposal(b"\xc1 nothing")


LONG = [None, None, None, None, None, 0, None, None, None, None, None]
"""The fields of an instance after its two ids."""


def packed(*fields: object) -> bytes:
    return bytes((ENTRY_FORMAT,)) + msgspec.msgpack.encode([9, [list(fields)]])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(("n1", 1, 1, None, 5, [9, []]), id="unknown command"),
        pytest.param(("n1", 1, 1, None, 5, [2, [], [], "later"]), id="unknown field of a command"),
        pytest.param(("n1", 1, 1, None, 5, [2, [], []], "later"), id="unknown field of a proposal"),
        pytest.param(("n1", 1, 1, None, 5, [1, [[["s", "i", *LONG, "later"], 5]]]), id="unknown field of an instance"),
        pytest.param(("n1", 1, 1, None, 5, [1, [[["s", "i"], "5"]]]), id="wrong type"),
        pytest.param(("n1", 1, 1, ["x"], 5, [2, [], []]), id="half a request id"),
        pytest.param(("n1", 1, 1), id="missing fields"),
    ],
)
def test_what_this_version_does_not_know_is_refused_and_not_skipped(fields: tuple[object, ...]) -> None:
    with pytest.raises(DataDamaged):
        decode_entry(packed(*fields))


def test_the_fields_it_knows_are_accepted_in_the_same_frame() -> None:
    assert decode_entry(packed("n1", 1, 1, None, 5, [2, [], []])) == Entry(9, (Proposal("n1", 1, 1, None, 5, Renew()),))


def test_the_bytes_of_an_entry_are_pinned() -> None:
    # A change here is a change of the format: give it a new number.
    given = Proposal("n1", 2, 3, RequestId("x", b"12345678"), 4, Renew(lease_ids=(5,)))
    assert encode_entry(9, [encode_proposal(given)]).hex() == (
        "02" "9209" "91" "96" "a26e31" "02" "03" "92a178" "c4083132333435363738" "04" "94" "02" "9105" "90" "90"
    )  # fmt: skip


def test_an_entry_of_the_format_before_conditions_is_read() -> None:
    written = bytes.fromhex("01" "9209" "91" "96" "a26e31" "02" "03" "c0" "04" "93" "02" "9105" "90")  # fmt: skip
    assert decode_entry(written) == Entry(9, (Proposal("n1", 2, 3, None, 4, Renew(lease_ids=(5,))),))
