"""The registry against its specification, and what follows from its rules for every log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from artemis import snapshot
from artemis.commands import Entry, Proposal, Register, Renew, RequestId, Unregister
from artemis.leases import LEASE_STAMP_ERROR_MS
from artemis.model import Change, Compacted, Instance, InstanceKey, key_of
from artemis.outcomes import Refused, Registered, Renewed, Unregistered
from artemis.registry import Registry, StateLimits
from tests.support.histories import commands, logs
from tests.support.naive_registry import NaiveRegistry
from tests.support.replica import Replica, frozen_bytes, instance, register, renew_keys

Log = list[tuple[int, Entry]]
small_limits = st.builds(
    StateLimits,
    changes_max=st.integers(0, 8),
    change_bytes_max=st.integers(0, 1_000),
    requests_max=st.integers(0, 2),
    request_window_ms=st.integers(0, 3_000),
    evictions_max=st.integers(1, 3),
)


def applied(log: Log, limits: StateLimits | None = None) -> Registry:
    registry = Registry(limits)
    for index, entry in log:
        registry.apply(index, entry)
    return registry


def listed(registry: Registry) -> dict[InstanceKey, Instance]:
    return {key_of(record.instance): record.instance for view in registry.services() for record in view.records}


def test_random_logs_reach_every_situation_that_matters() -> None:
    seen: set[str] = set()

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(logs())
    def look(log: Log) -> None:
        registry = Registry()
        for index, entry in log:
            before, held = registry.instance_count, registry.held(None)
            for outcome, proposal in zip(registry.apply(index, entry), entry.proposals, strict=True):
                match outcome:
                    case None:
                        seen.add("skipped")
                    case Refused(reason=reason):
                        seen.add(reason)
                    case Renewed(missing_leases=(), missing_keys=()) if proposal.command != Renew():
                        seen.add("renewed")
                    case Registered(created=created, refused=()) if False in created:
                        seen.add("replaced")
                    case Unregistered(existed=existed, refused=()) if True in existed:
                        seen.add("removed")
                if isinstance(outcome, Registered | Renewed | Unregistered) and outcome.refused:
                    seen.add(f"conflict in {type(outcome).__name__}")
                if isinstance(proposal.command, Register | Unregister) and proposal.command.conditions:
                    met = isinstance(outcome, Registered | Unregistered) and not outcome.refused
                    seen.update({"condition met"} if met else ())
            if not entry.proposals and registry.instance_count < before:
                seen.add("evicted")
            if registry.held(None) > held:
                seen.add("held for a service" if registry.protection.services else "held for all")
            if registry.held(None) < held:
                seen.add("still protected" if registry.protecting else "protected no more")

    look()
    everything = {"skipped", "expired", "request-id-reused", "superseded", "renewed", "replaced", "removed", "evicted"}
    everything |= {"held for a service", "held for all", "still protected", "protected no more"}
    conflicts = {f"conflict in {outcome}" for outcome in ("Registered", "Renewed", "Unregistered")}
    assert seen == everything | conflicts | {"condition met"}


@settings(max_examples=100, deadline=None)
@given(logs(), st.sampled_from([5_000, 5_000, 1, 2]))
def test_the_registry_does_what_the_specification_says(log: Log, evictions_max: int) -> None:
    real, spec = Registry(StateLimits(evictions_max=evictions_max)), NaiveRegistry(evictions_max=evictions_max)
    for index, entry in log:
        assert real.apply(index, entry) == spec.apply(entry)
        assert (real.revision, real.clock_ms) == (spec.revision, spec.clock_ms)
        assert real.changes_since(0) == spec.changes or not spec.changes
        assert real.members == spec.members
        assert real.instance_count == real.lease_count == len(spec.rows)
        assert real.held(None) == sum(row.held_until_ms is not None for row in spec.rows)
        protection = real.protection
        assert (protection.since_ms, protection.settings) == (spec.protected.get(None, (None,))[0], spec.settings)
        since_ms = {service: since for service, (since, _) in spec.protected.items() if service is not None}
        assert {each.service_id: each.since_ms for each in protection.services} == since_ms
        for row in spec.rows:
            record = real.find(row.key)
            assert record is not None
            assert (record.instance, record.lease_id, record.revision) == (row.instance, row.lease_id, row.revision)
            deadline_ms = real.lease_deadline_ms(row.lease_id)
            assert deadline_ms == min(row.ends_at_ms, 2**63 - 1)
        for view in real.services():
            of_service = [row for row in spec.rows if row.key.service_id == view.service_id.lower()]
            assert [record.lease_id for record in view.records] == [row.lease_id for row in of_service]
            assert view.revision == max(
                change.revision
                for change in spec.changes
                if change.instance.service_id.lower() == view.service_id.lower()
            )
        assert real.service_count == len({row.key.service_id for row in spec.rows})


@settings(max_examples=100, deadline=None)
@given(logs(), small_limits, st.integers(0, 13))
def test_two_replicas_of_one_log_are_byte_equal_also_when_one_was_restored(
    log: Log, limits: StateLimits, restart_after: int
) -> None:
    steady, restarted = Registry(limits), Registry(limits)
    for count, (index, entry) in enumerate(log):
        if count == restart_after:
            restarted = snapshot.decode(frozen_bytes(restarted))
        assert steady.apply(index, entry) == restarted.apply(index, entry)
        assert steady.digest == restarted.digest
        assert steady.state_digest() == restarted.state_digest()
    assert frozen_bytes(steady) == frozen_bytes(restarted)
    assert steady == restarted


@settings(max_examples=100, deadline=None)
@given(logs(), small_limits)
def test_reading_a_snapshot_gives_the_state_and_writing_it_the_bytes(log: Log, limits: StateLimits) -> None:
    registry = applied(log, limits)
    data = frozen_bytes(registry)
    again = snapshot.decode(data)
    assert again == registry
    assert again.digest == registry.digest
    assert frozen_bytes(again) == data


@settings(max_examples=100, deadline=None)
@given(logs(), commands, st.sampled_from(["expired", "request-id-reused", "superseded"]))
def test_a_refused_command_leaves_the_state_equal(log: Log, command: object, reason: str) -> None:
    replica = Replica()
    replica.registry = applied(log)
    replica.clock_ms = replica.registry.clock_ms
    taken = RequestId("taken", b"12345678")
    replica.propose(register(instance()), origin="n9", incarnation=5, seq=1, request=taken)
    before = replica.registry.freeze()
    origin, incarnation, request, expires_at_ms = "n9", 5, None, 2**62
    match reason:
        case "expired":
            expires_at_ms = replica.clock_ms - 1
        case "request-id-reused":
            request = RequestId("taken", b"other fp")
        case "superseded":
            incarnation = 4
    proposal = Proposal(origin, incarnation, 2, request, expires_at_ms, command)  # type: ignore[arg-type]
    assert replica.entry(proposal) == [Refused(before.revision, reason)]  # type: ignore[arg-type]
    after = replica.registry.freeze()
    # The number is used up and the entry counted; all else is as it was.
    assert after._replace(sessions={}, applied_index=0) == before._replace(sessions={}, applied_index=0)


@settings(max_examples=100, deadline=None)
@given(logs(), st.integers(0, 13))
def test_a_reader_that_follows_the_changes_has_what_the_services_list(log: Log, from_entry: int) -> None:
    registry = Registry()
    known: dict[InstanceKey, Instance] = {}
    revision = 0
    for count, (index, entry) in enumerate(log):
        registry.apply(index, entry)
        if count < from_entry:
            continue
        found = registry.changes_since(revision)
        for change in found:
            assert isinstance(change, Change)
            assert change.revision == revision + 1
            revision = change.revision
            key = key_of(change.instance)
            assert (key in known) == (change.type != "new")
            if change.type == "delete":
                del known[key]
            else:
                known[key] = change.instance
        assert known == listed(registry)


@settings(max_examples=100, deadline=None)
@given(logs(), small_limits)
def test_a_bounded_ring_answers_as_the_unbounded_one_or_compacted(log: Log, limits: StateLimits) -> None:
    ample = StateLimits(
        requests_max=limits.requests_max,
        request_window_ms=limits.request_window_ms,
        evictions_max=limits.evictions_max,
    )
    bounded, unbounded = applied(log, limits), applied(log, ample)
    for revision in range(bounded.revision + 2):
        found = bounded.changes_since(revision)
        if isinstance(found, Compacted):
            assert revision < found.oldest <= bounded.revision
            assert not isinstance(bounded.changes_since(found.oldest), Compacted)
        else:
            assert list(found) == list(unbounded.changes_since(revision))


@settings(max_examples=100, deadline=None)
@given(
    ttl_ms=st.integers(1, 5_000),
    steps_ms=st.lists(st.tuples(st.integers(1, 700), st.booleans()), max_size=25),
)
@example(ttl_ms=300, steps_ms=[(499, False), (1, False)])
@example(ttl_ms=300, steps_ms=[(500, True), (499, False), (1, False)])
def test_a_lease_is_never_ended_early_and_always_exactly_at_its_deadline(
    ttl_ms: int, steps_ms: list[tuple[int, bool]]
) -> None:
    replica = Replica()
    replica.register(instance(), ttl_ms=ttl_ms)
    deadline_ms = ttl_ms + LEASE_STAMP_ERROR_MS
    for step_ms, renews in steps_ms:
        replica.clock_ms += step_ms
        if renews:
            replica.propose(renew_keys(key_of(instance())))
            deadline_ms = replica.clock_ms + ttl_ms + LEASE_STAMP_ERROR_MS
        else:
            replica.step(replica.clock_ms)
        present = replica.registry.find(key_of(instance())) is not None
        assert present == (replica.clock_ms < deadline_ms)
        if not present:
            return


_HASHED = """
import hashlib, sys
from tests.support.replica import Replica, frozen_bytes, instance, register
replica = Replica()
for number in range(200):
    replica.step(number * 100)
    metadata = {str(each): "v" for each in range(number % 7)}
    replica.register(instance(f"s{number % 13}", str(number % 31), metadata=metadata), ttl_ms=4_000)
    replica.propose(register(instance()), origin=f"n{number % 5}")
print(hashlib.sha256(frozen_bytes(replica.registry)).hexdigest())
"""


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    root = Path(__file__).resolve().parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", _HASHED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
            cwd=root,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


@settings(max_examples=100, deadline=None)
@given(logs())
def test_an_entry_that_comes_again_under_a_later_index_repeats_nothing(log: Log) -> None:
    registry = applied(log)
    last = registry.applied_index
    before = registry.freeze()
    for offset, (_, entry) in enumerate(log, start=1):
        outcomes = registry.apply(last + offset, entry)
        assert all(outcome is None or outcome == Refused(before.revision, "superseded") for outcome in outcomes)
    assert registry.freeze() == before._replace(applied_index=last + len(log))
