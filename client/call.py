"""One logical operation, from the first attempt to its value or error, without IO.

The rules, each with its reason:

1. One request id per operation, the same on every attempt and every node. The first copy may be applied after the
   second; the registry answers both with one outcome.
2. An error is definite only if every attempt was. Attempt 1 timed out, attempt 2 was refused because another node has
   another region configured: the write of attempt 1 may still appear, so the refusal is not definite.
3. No attempt starts after the budget, and none may last beyond it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from artemis.client.actions import Abandoned, Action, Answer, Done, Event, Fail, Failure, Send, Wait, Waited
from artemis.client.answers import Accepted, Interpret, Rejected, TryElsewhere, surely_not_applied
from artemis.client.errors import Attempt, ClusterUnavailable
from artemis.client.nodes import NodeChooser
from artemis.client.policy import RetryBudget, RetryPolicy
from artemis.client.results import Provenance
from artemis.errors import ArtemisError, InvalidInput

logger = logging.getLogger("artemis.client")

T = TypeVar("T")

NODE_BUDGET_MS_MAX = 30_000
"""Nodes refuse to be asked for more, unless configured otherwise."""
NODE_BUDGET_FIELD = "x-artemis-timeout-ms"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation(Generic[T]):
    """What is asked, whichever node answers it."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    interpret: Interpret[T]
    changes: bool
    """A write. An attempt of a read is always definite: nothing can have happened."""
    method: Literal["GET", "POST"] = "POST"
    node_budget_ms: int | None = None
    """What the node may take, where that is less than an attempt."""


class Session:
    """What a client has learned of its cluster."""

    def __init__(self) -> None:
        self.revision = 0
        """The highest this client has seen: no session read may show an older one."""
        self.node_budget_ms_max = NODE_BUDGET_MS_MAX
        """Less once a node has refused more: its operator may allow as little as a millisecond."""

    def saw(self, provenance: Provenance, *, floor: int, current: bool) -> None:
        """``floor`` is the session's revision when the call began; ``current``: the answer is linearizable, so it shows
        all that was acknowledged before the call. Such an answer below the floor proves that the cluster lost its
        history (data wiped, or a backup restored). Keeping the old mark would make every session read fail until the
        new history reaches it."""
        if provenance.revision is None:
            return
        if current and provenance.revision < floor:
            logger.warning(
                "the registry went back from revision %d to %d: it was rebuilt; starting a new session",
                floor,
                provenance.revision,
            )
            self.revision = provenance.revision
        else:
            self.revision = max(self.revision, provenance.revision)


class Call(Generic[T]):
    """Feed it ``None`` first, then the event of each action, until it answers ``Done`` or ``Fail``."""

    def __init__(
        self,
        operation: Operation[T],
        *,
        policy: RetryPolicy,
        nodes: NodeChooser,
        retries: RetryBudget,
        session: Session,
        rng: random.Random,
    ) -> None:
        self._operation = operation
        self._policy = policy
        self._nodes = nodes
        self._retries = retries
        self._session = session
        self._rng = rng
        self._floor = session.revision
        self._deadline = 0.0
        self._node = ""
        self._node_budget_ms = 0
        self._attempts: list[Attempt] = []
        self.started_at = 0.0
        """When the first attempt began."""
        self.attempt_started_at = 0.0
        """When the latest attempt began."""

    def step(self, event: Event | None, now: float) -> Action[T]:
        if event is None:
            self.started_at = now
            self._deadline = now + self._policy.budget_s
            self._retries.deposit(now)
            return self._send(now)
        match event:
            case Answer():
                return self._answered(event, now)
            case Failure():
                return self._failed(event.reason, event.definite, now)
            case Waited():
                return self._send(now)
            case Abandoned():
                return self._give_up(event.reason)

    def _send(self, now: float) -> Action[T]:
        remaining_s = self._deadline - now
        if remaining_s <= 0:
            return self._out_of_time()
        self._node = self._nodes.pick(now)
        self.attempt_started_at = now
        timeouts = self._policy.timeouts(remaining_s)
        # The node gives up a little earlier than we do, so that its answer (and whether the write may still happen)
        # arrives instead of our time-out.
        wanted_ms = self._operation.node_budget_ms or int(timeouts.read_s * 900)
        self._node_budget_ms = max(1, min(self._session.node_budget_ms_max, wanted_ms))
        return Send(
            method=self._operation.method,
            node=self._node,
            path=self._operation.path,
            headers={NODE_BUDGET_FIELD: str(self._node_budget_ms), **self._operation.headers},
            body=self._operation.body,
            timeouts=timeouts,
        )

    def _answered(self, answer: Answer, now: float) -> Action[T]:
        verdict = self._operation.interpret(answer, self._node)
        match verdict:
            case Accepted():
                self._nodes.succeeded(self._node)
                given = verdict.provenance
                # A repeated write may be answered with its first outcome, and the revision that had.
                is_repeated_write = self._operation.changes and bool(self._attempts)
                current = given.consistency == "linearizable" and not is_repeated_write
                self._session.saw(given, floor=self._floor, current=current)
                return Done(verdict.value)
            case Rejected():
                self._nodes.succeeded(self._node)
                if self._asked_for_too_much(verdict.error):
                    self._session.node_budget_ms_max = self._node_budget_ms // 2
                    return self._send(now)
                says_unknown = self._operation.changes and answer.headers.get("x-artemis-outcome") == "unknown"
                if says_unknown or not all(attempt.definite for attempt in self._attempts):
                    verdict.error.definite = False
                return Fail(verdict.error)
            case TryElsewhere():
                return self._failed(verdict.reason, surely_not_applied(answer), now)

    def _asked_for_too_much(self, error: ArtemisError) -> bool:
        """The node allows smaller budgets only. At most 15 times in the life of a client."""
        about_budget = isinstance(error, InvalidInput) and error.field == NODE_BUDGET_FIELD
        return about_budget and self._node_budget_ms > 1

    def _failed(self, reason: str, definite: bool, now: float) -> Action[T]:
        self._nodes.failed(self._node, now)
        took_s = max(0.0, now - self.attempt_started_at)
        definite = definite or not self._operation.changes
        self._attempts.append(Attempt(node=self._node, reason=reason, definite=definite, took_s=took_s))
        logger.debug("%s at %s: %s", self._operation.path, self._node, reason)
        if len(self._attempts) >= self._policy.attempts_max:
            return self._give_up(f"its {self._policy.attempts_max} attempts are used up")
        delay_s = self._policy.backoff_s(len(self._attempts), self._rng)
        if now + delay_s >= self._deadline:
            return self._out_of_time()
        if not self._retries.withdraw(now):
            return self._give_up("the client's retry budget is used up")
        return Wait(delay_s)

    def _out_of_time(self) -> Fail:
        return self._give_up(f"its time budget of {self._policy.budget_s:g} s is used up")

    def _give_up(self, stopped_by: str) -> Fail:
        return Fail(ClusterUnavailable(self._operation.path, stopped_by, tuple(self._attempts)))
