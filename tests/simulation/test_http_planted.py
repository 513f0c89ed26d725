"""Bugs planted in the HTTP side: the checks of ``http_scenario`` must find each within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from artemis.api import registry_routes
from artemis.api.answers import NOT_APPLIED, Answer
from artemis.api.dialects.java import Java
from artemis.api.dialects.snake import Snake
from artemis.api.feed import Batch, Behind, Subscription
from artemis.api.heartbeats import Heartbeats, propose
from artemis.api.options import ReadOptions
from artemis.api.registry_routes import RegistryRoutes
from artemis.api.serving import Serving
from artemis.commands import Command, Renew, RequestId, Unregister
from artemis.consensus.futures import EngineFutures
from artemis.consensus.proposals import Session
from artemis.consensus.status import NodeStatus
from artemis.model import Change
from artemis.outcomes import Renewed, Unregistered
from tests.simulation.http_scenario import drawn
from tests.simulation.world import Violation

SECONDS = 15.0
SEEDS = range(1, 31)


def forget_request_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry_routes, "name_write", lambda *_: None)


def call_every_refusal_definite(patch: pytest.MonkeyPatch) -> None:
    guarded = RegistryRoutes._failed

    def failed(self: RegistryRoutes, kind: Any, dialect: Any, code: Any, message: str, headers: Any) -> Answer:
        return guarded(self, kind, dialect, code, message, NOT_APPLIED)

    patch.setattr(RegistryRoutes, "_failed", failed)


def say_nothing_of_the_outcome(patch: pytest.MonkeyPatch) -> None:
    guarded = RegistryRoutes._failed

    def failed(self: RegistryRoutes, kind: Any, dialect: Any, code: Any, message: str, headers: Any) -> Answer:
        return guarded(self, kind, dialect, code, message, [])

    patch.setattr(RegistryRoutes, "_failed", failed)


def read_without_a_barrier(patch: pytest.MonkeyPatch) -> None:
    guarded = Serving.current

    async def current(self: Serving, options: ReadOptions) -> NodeStatus:
        return self.node.status() if options.consistency == "linearizable" else await guarded(self, options)

    patch.setattr(Serving, "current", current)


def claim_a_fresh_state(patch: pytest.MonkeyPatch) -> None:
    guarded = EngineFutures.status
    patch.setattr(EngineFutures, "status", lambda self: replace(guarded(self), apply_lag_ms=0))


def let_late_writes_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "expire", lambda self, now: None)


def believe_in_leases_that_are_gone(patch: pytest.MonkeyPatch) -> None:
    """The second look by key is left out: an instance that registered anew elsewhere is called unknown."""

    async def renew(
        self: Heartbeats, keys: list[Any], conditions: Any, timeout_ms: int
    ) -> tuple[list[int], list[Any], int]:
        missing = [position for position, key in enumerate(keys) if self._node.registry.find(key) is None]
        outcome = await propose(self._node, _renewal(self, keys), Renewed, None, timeout_ms)
        return missing, [], outcome.revision

    patch.setattr(Heartbeats, "_renew", renew)


def _renewal(heartbeats: Heartbeats, keys: list[Any]) -> Command:
    found = [heartbeats._node.registry.find(key) for key in keys]
    return Renew(tuple(record.lease_id for record in found if record is not None), ())


def answer_before_it_is_ordered(patch: pytest.MonkeyPatch) -> None:
    guarded = EngineFutures.propose

    def propose(self: EngineFutures, command: Command, *, request: RequestId | None = None, timeout_ms: int) -> Any:
        ordered = guarded(self, command, request=request, timeout_ms=timeout_ms)
        if not isinstance(command, Unregister):
            return ordered
        ordered.add_done_callback(lambda done: done.exception())
        early = self._loop.create_future()
        outcome = Unregistered(self.registry.revision, tuple(False for _ in command.keys))
        early.set_result(outcome)
        return early

    patch.setattr(EngineFutures, "propose", propose)


def drop_the_last_change_of_a_delta(patch: pytest.MonkeyPatch) -> None:
    for dialect in (Java, Snake):
        patch.setattr(dialect, "changed", _without_the_last(dialect.changed))


def _without_the_last(guarded: Callable[..., bytes]) -> Callable[..., bytes]:
    def changed(self: Any, changes: Sequence[Change], version: int, offset_ms: int) -> bytes:
        return guarded(self, changes[:-1], version, offset_ms)

    return changed


def skip_the_change_that_wakes(patch: pytest.MonkeyPatch) -> None:
    guarded = Subscription._mark
    patch.setattr(Subscription, "_mark", lambda self, complete_to: guarded(self, complete_to + 1))


def vouch_for_what_is_not_applied(patch: pytest.MonkeyPatch) -> None:
    guarded = Subscription.next

    async def next_batch(self: Subscription, wait_s: float | None = None) -> Batch | Behind:
        got = await guarded(self, wait_s)
        return got if isinstance(got, Behind) or got.changes else Batch((), got.revision + 1)

    patch.setattr(Subscription, "next", next_batch)


def cut_entries_in_two(patch: pytest.MonkeyPatch) -> None:
    def cut(self: Subscription, changes: Sequence[Change], revision: int) -> Batch:
        self._position = changes[0].revision
        return Batch((changes[0],), changes[0].revision)

    patch.setattr(Subscription, "_cut", cut)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (forget_request_ids, "revision|more than once|executions|not in the log|lost"),
        (call_every_refusal_definite, "definitely failed|failed for certain|which nobody added|lacks"),
        (say_nothing_of_the_outcome, "says None of whether it happened"),
        (read_without_a_barrier, "lacks|older|sees|asks from version"),
        (claim_a_fresh_state, "ms old at most"),
        (let_late_writes_wait, "allowed are|never answered"),
        (believe_in_leases_that_are_gone, "does not find|too early|before its lease can have ended"),
        (drop_the_last_change_of_a_delta, "out of turn|lacks|too many|sees|differ"),
        (skip_the_change_that_wakes, "out of turn|lacks|differ|sees"),
        (vouch_for_what_is_not_applied, "out of turn|lacks|differ|sees|is told"),
        (cut_entries_in_two, "differ|part|torn|without"),
        (answer_before_it_is_ordered, "after|older|wrong-answer|lost|repeated"),
    ],
)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation, match=expected):
        run_all()


def run_all() -> None:
    for seed in SEEDS:
        drawn(seed).run(SECONDS)
