"""The state as bytes: the same bytes for the same state, the same state from the bytes, and nothing from others."""

from __future__ import annotations

import gc
import struct
import threading
from hashlib import blake2b

import msgspec
import pytest

from artemis import snapshot
from artemis.commands import Announce, Entry, Renew, RequestId
from artemis.errors import DataDamaged
from artemis.model import Compacted, Member
from artemis.outcomes import Refused
from artemis.registry import FrozenState, Registry, StateLimits
from tests.support.replica import Replica, frozen_bytes, instance, register, unregister

X = RequestId("x", b"12345678")


def busy(limits: StateLimits | None = None) -> Replica:
    """A replica with something in every part of its state."""
    replica = Replica(limits)
    replica.step(1_000)
    replica.propose(Announce(Member(node_id="n2", url="http://n2", region_id="lab", zone_id="z")), origin="n2", seq=4)
    replica.propose(Announce(Member(node_id="n1", url="http://n1", region_id="lab", zone_id="z")))
    replica.register(*(instance("Zeta", str(number)) for number in range(3)))
    replica.register(instance("alpha", metadata={"b": "ü", "a": None}), ttl_ms=90_000)
    replica.propose(register(instance("Zeta", "0", port=9)), request=X)
    replica.propose(unregister(instance("Zeta", "1")), request=RequestId("y", b""))
    replica.step(3_000)
    replica.propose(Renew(lease_ids=(3,)))
    return replica


def resealed(data: bytes) -> bytes:
    """The bytes with a checksum that is right again: what a faulty writer would leave."""
    return data[:-16] + blake2b(data[:-16], digest_size=16).digest()


def test_reading_gives_the_state_back_and_writing_it_the_same_bytes() -> None:
    registry = busy().registry
    data = frozen_bytes(registry)
    again = snapshot.decode(data)
    assert again == registry
    assert frozen_bytes(again) == data


def test_an_empty_state_is_a_state() -> None:
    assert snapshot.decode(frozen_bytes(Registry())) == Registry()


def test_every_part_comes_back() -> None:
    registry = busy().registry
    again = snapshot.decode(frozen_bytes(registry))
    assert (again.applied_index, again.revision, again.clock_ms) == (registry.applied_index, 6, 3_000)
    assert (again.instance_count, again.service_count, again.lease_count) == (3, 2, 3)
    assert again.digest == registry.digest
    assert list(again.members) == ["n2", "n1"]
    assert again.session("n2") == registry.session("n2") == (1, 4)
    assert again.outcome_of(X) == registry.outcome_of(X)
    assert again.outcome_of(RequestId("x", b"")) == Refused(6, "request-id-reused")
    assert again.changes_since(0) == registry.changes_since(0)
    assert again.lease_deadline_ms(3) == 3_000 + 20_000 + 200


def test_orders_survive() -> None:
    again = snapshot.decode(frozen_bytes(busy().registry))
    listed = [(view.service_id, [each.instance.instance_id for each in view.records]) for view in again.services()]
    assert listed == [("Zeta", ["0", "2"]), ("alpha", ["i1"])]
    view = again.service("alpha")
    assert view is not None
    assert list(view.records[0].instance.metadata or {}) == ["b", "a"]


def test_the_restored_state_goes_on_like_the_original() -> None:
    original, restored = busy(), busy()
    restored.registry = snapshot.decode(frozen_bytes(restored.registry))
    for replica in (original, restored):
        replica.step(22_500)
        replica.register(instance("later"))
    assert original.registry.instance_count == 3
    assert frozen_bytes(original.registry) == frozen_bytes(restored.registry)


def test_limits_travel_with_the_state() -> None:
    limits = StateLimits(changes_max=2, change_bytes_max=10_000, requests_max=1, request_window_ms=5)
    again = snapshot.decode(frozen_bytes(busy(limits).registry))
    assert again.limits == limits
    assert again.changes_since(0) == Compacted(4)
    assert again == busy(limits).registry


def test_what_is_frozen_stays_while_the_registry_goes_on() -> None:
    replica = busy()
    data = frozen_bytes(replica.registry)
    frozen = snapshot.freeze(replica.registry)
    replica.register(instance("Zeta", "0", port=77), instance("new"))
    replica.propose(Renew(lease_ids=(3,)), request=RequestId("z", b""))
    replica.propose(Announce(Member(node_id="n3", url="", region_id="", zone_id="")), origin="n3")
    replica.step(10**9)
    assert replica.registry.instance_count == 0
    assert b"".join(snapshot.encode(frozen)) == data


def test_each_of_several_freezes_stays_as_it_was() -> None:
    replica = busy()
    kept: list[tuple[FrozenState, bytes]] = []
    for number in range(3):
        for _ in range(2):  # the second freezes what the first has frozen already
            kept.append((snapshot.freeze(replica.registry), frozen_bytes(replica.registry)))
        replica.register(instance("Zeta", "0", port=number), instance("Zeta", f"new{number}"), instance(f"s{number}"))
        replica.propose(unregister(instance("Zeta", "2"), instance(f"s{number - 1}")))
        views = [*replica.registry.services(), *replica.registry.frozen_services()]
        assert views[: len(views) // 2] == views[len(views) // 2 :]
    restored = snapshot.decode(kept[3][1])
    again = snapshot.freeze(restored)
    restored.apply(restored.applied_index + 1, Entry(10**9))
    assert restored.instance_count == 0
    assert b"".join(snapshot.encode(again)) == kept[3][1]
    assert [b"".join(snapshot.encode(frozen)) for frozen, _ in kept] == [data for _, data in kept]
    assert len({data for _, data in kept}) == 3


def test_what_is_taken_apart_stays_whole_for_those_who_hold_a_part_of_it() -> None:
    replica = busy()
    data = frozen_bytes(replica.registry)
    frozen = snapshot.freeze(replica.registry)
    views = replica.registry.frozen_services()
    listed = [view.records for view in views]
    assert sum(1 for _ in snapshot.take_apart(replica.registry)) > 10
    assert frozen_bytes(replica.registry) == data
    assert [view.records for view in views] == listed
    assert b"".join(snapshot.encode(frozen)) == data


def test_a_registry_that_is_taken_apart_is_gone_without_the_collector() -> None:
    data = frozen_bytes(busy().registry)
    gc.collect()
    gc.disable()
    try:
        before = registries()
        parts = snapshot.take_apart(snapshot.decode(data))
        assert registries() == before + 1
        next(parts)
        assert registries() == before
        assert len(list(parts)) > 10
    finally:
        gc.enable()


def registries() -> int:
    return sum(type(each) is Registry for each in gc.get_objects())


def test_another_thread_writes_while_this_one_applies() -> None:
    replica = Replica()
    replica.register(*(instance(f"s{number % 50}", str(number)) for number in range(2_000)))
    data = frozen_bytes(replica.registry)
    frozen = snapshot.freeze(replica.registry)
    written: list[bytes] = []
    writer = threading.Thread(target=lambda: written.extend(snapshot.encode(frozen)))
    writer.start()
    number = 0
    while writer.is_alive():
        number += 1
        replica.register(instance(f"s{number % 50}", str(number), port=number))
    writer.join()
    assert b"".join(written) == data


def test_chunks_are_bounded() -> None:
    replica = Replica()
    replica.register(*(instance("s", str(number), url="u" * 500) for number in range(1_000)))
    chunks = list(snapshot.encode(snapshot.freeze(replica.registry)))
    assert len(chunks) > 10
    assert max(map(len, chunks)) < snapshot.CHUNK_BYTES + 1_000


def test_every_single_bit_flip_is_refused() -> None:
    data = bytearray(frozen_bytes(busy().registry))
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(DataDamaged):
                snapshot.decode(bytes(data))
            data[position] ^= 1 << bit
    assert snapshot.decode(bytes(data)) == busy().registry


def test_every_prefix_and_every_addition_is_refused() -> None:
    data = frozen_bytes(busy().registry)
    for length in range(len(data)):
        with pytest.raises(DataDamaged):
            snapshot.decode(data[:length])
    with pytest.raises(DataDamaged, match="checksum"):
        snapshot.decode(data + b"\x00")


def test_a_later_format_is_named() -> None:
    data = bytearray(frozen_bytes(Registry()))
    data[7] = 9
    with pytest.raises(DataDamaged, match="format 9, this node reads 2"):
        snapshot.decode(resealed(bytes(data)))


def test_something_else_is_not_a_snapshot() -> None:
    with pytest.raises(DataDamaged, match="does not begin like one"):
        snapshot.decode(b"x" * 100)


Row = list[object]


def rows_of(data: bytes) -> list[Row]:
    rows, offset = [], len(snapshot.MAGIC)
    while offset < len(data) - 16:
        (length,) = struct.unpack_from(">I", data, offset)
        rows.append(msgspec.msgpack.decode(data[offset + 4 : offset + 4 + length], type=Row))
        offset += 4 + length
    return rows


def of_rows(rows: list[Row]) -> bytes:
    body = snapshot.MAGIC
    for row in rows:
        encoded = msgspec.msgpack.encode(row)
        body += struct.pack(">I", len(encoded)) + encoded
    return resealed(body + bytes(16))


# Head fields by position: 4 next lease id, 5 digest, 6 oldest change, 7 services, 8 changes, 9 requests.
# Rows of ``busy``: head, service Zeta, two records, service alpha, one record, six changes, two requests.
def _wrong(rows: list[Row], fault: str) -> list[Row]:
    head = list(rows[0])
    rows = [head, *rows[1:]]
    match fault:
        case "digest":
            head[5] = 1
        case "changes do not end":
            head[6] = 3
        case "ends before its last row":
            rows.pop()
        case "after its last row":
            rows.append(rows[-1])
        case "share a lease":
            rows[3] = [*rows[3][:1], rows[2][1], *rows[3][2:]]
            head[5] = None
        case "an instance twice":
            rows[3] = [rows[2][0], *rows[3][1:]]
        case "a service twice":
            head[7] = 3
            rows[2:3] = [rows[2], ["zeta", 6, 1]]
            rows[1] = ["Zeta", 6, 1]
            head[5] = None
        case "a request id twice":
            rows[-1] = rows[-2]
        case "an instance of 'zeta'":
            rows[1] = ["other", *rows[1][1:]]
        case "a lease id a second time":
            head[4] = rows[5][1]
        case "Expected `int`":
            rows[1] = ["Zeta", "six", 2]
    return rows


@pytest.mark.parametrize(
    "fault",
    [
        "digest",
        "changes do not end",
        "ends before its last row",
        "after its last row",
        "share a lease",
        "an instance twice",
        "a service twice",
        "a request id twice",
        "an instance of 'zeta'",
        "a lease id a second time",
        "Expected `int`",
    ],
)
def test_a_writer_that_contradicts_itself_is_refused_with_the_reason(fault: str) -> None:
    data = frozen_bytes(busy().registry)
    assert of_rows(rows_of(data)) == data
    rows = _wrong(rows_of(data), fault)
    if rows[0][5] is None:
        rows[0][5] = _digest_of(rows)
    with pytest.raises(DataDamaged, match=fault):
        snapshot.decode(of_rows(rows))


def _digest_of(rows: list[Row]) -> int:
    """What a reader will compute, taken from its own complaint, so that the next check is reached."""
    rows = [list(rows[0]), *rows[1:]]
    rows[0][5] = 0
    with pytest.raises(DataDamaged, match="digest") as caught:
        snapshot.decode(of_rows(rows))
    return int(caught.value.message.split(" is ")[1].split(",")[0], 16)


def test_a_row_longer_than_the_rest_is_refused() -> None:
    data = bytearray(frozen_bytes(Registry()))
    data[len(snapshot.MAGIC)] = 0xFF
    with pytest.raises(DataDamaged, match="ends inside a row"):
        snapshot.decode(resealed(bytes(data)))
