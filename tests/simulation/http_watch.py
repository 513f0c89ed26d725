"""What must hold of every answer of the HTTP side, beside what the history says.

- No request is inside the application for longer than its time budget allows, also without a leader.
- ``x-artemis-apply-lag-ms`` is honest: the answer holds every change that any node had applied that long ago.
- An answer has the level that was asked, and a session's answer is not older than the revision it names.
- A write that is refused says whether it may still happen.
- A repeated request id gets the first answer's revision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from tests.simulation.http import Frontends, Handling, Server
from tests.simulation.http_calls import OUTCOME, Exchange
from tests.simulation.settings import Settings


class HttpWatch:
    def __init__(self, frontends: Frontends, settings: Settings) -> None:
        self._world = frontends.world
        self._frontends = frontends
        free_clocks = "clock-rate" in settings.faults
        self._drift = 1.0 if free_clocks else 2.5 * settings.clock_drift
        """How much longer a node's time may take than the world's."""
        self._ages_mean_something = not free_clocks
        self._slack = 0.1 + 2 * settings.timing.timer_ms / 1000 + 20 * settings.lateness
        self._times: list[float] = []
        self._revisions: list[int] = []
        """``_revisions[i]`` was first applied anywhere at ``_times[i]``."""
        self.handled = 0
        self.longest = 0.0
        self.ages_checked = 0
        self.oldest_ms = 0
        self.told: Counter[str] = Counter()
        """``x-artemis-outcome`` of the writes that were refused."""
        frontends.on_started.append(self._server_started)
        frontends.on_handled.append(self._request_handled)

    # what nodes do

    def _server_started(self, server: Server) -> None:
        def applied(_index: int) -> None:
            revision = server.node.registry.revision
            if not self._revisions or revision > self._revisions[-1]:
                self._revisions.append(revision)
                self._times.append(self._world.now)

        server.node.on_applied(applied)

    def _request_handled(self, server: Server, handling: Handling) -> None:
        self.handled += 1
        if handling.complete_at is None:
            return  # its client went before its body was there
        took = self._world.now - max(handling.complete_at, server.process.resumed_at)
        self.longest = max(self.longest, took)
        allowed = self.allowed(handling.budget_ms)
        if took > allowed:
            self._world.violate(f"{server.name} takes {took:.3f} s for {handling.path}, allowed are {allowed:.3f} s")

    def allowed(self, budget_ms: int) -> float:
        return budget_ms / 1000 * (1 + self._drift) + self._slack

    def open_requests(self) -> list[str]:
        """Those that have all they need to be answered."""
        return [
            f"{server.name} {handling.path} since {handling.began_at:.3f}"
            for server in self._frontends.servers.values()
            for handling in server.open.values()
            if handling.complete_at is not None
        ]

    # what clients see

    def check_read(self, exchange: Exchange, level: str, *, min_revision: int, max_stale_ms: int | None) -> None:
        """Of a read that succeeded."""
        reply = exchange.reply
        assert reply is not None
        what = f"{exchange.request.method} {exchange.request.path} by {exchange.node}"
        given = reply.headers["x-artemis-consistency"]
        if given != level:
            self._world.violate(f"{what} is asked for {level} and gives {given}")
        if reply.revision < min_revision:
            self._world.violate(f"{what} answers from revision {reply.revision}, asked for {min_revision} at least")
        if max_stale_ms is not None and reply.apply_lag_ms > max_stale_ms:
            self._world.violate(f"{what} gives a state of {reply.apply_lag_ms} ms, allowed are {max_stale_ms} ms")
        self._check_age(what, exchange.written_at, reply.revision, reply.apply_lag_ms)

    def _check_age(self, what: str, written_at: float, revision: int, lag_ms: int) -> None:
        if not self._ages_mean_something:
            return
        self.ages_checked += 1
        proven = written_at - (lag_ms + 1) / 1000 * (1 + self._drift) - 1e-6
        position = bisect_left(self._times, proven)
        known = self._revisions[position - 1] if position else 0
        if lag_ms < 10**9:
            self.oldest_ms = max(self.oldest_ms, lag_ms)
        if revision < known:
            self._world.violate(
                f"{what} says at {written_at:.4f} that its state is {lag_ms} ms old at most; it is of revision "
                f"{revision}, and {known} was applied at {self._times[position - 1]:.4f}"
            )

    def check_refusal(self, exchange: Exchange) -> None:
        """Of a write that was answered, but not with success."""
        reply = exchange.reply
        assert reply is not None
        told = reply.headers.get(OUTCOME)
        self.told[str(told)] += 1
        if told not in ("not-applied", "unknown"):
            self._world.violate(
                f"{exchange.request.path} by {exchange.node} answers {reply.status} {reply.code} and says {told} of"
                " whether it happened"
            )
