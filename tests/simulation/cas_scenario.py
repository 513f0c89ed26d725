"""A run of ``scenario`` in which compare-and-set clients take part."""

from __future__ import annotations

from collections import Counter

from tests.simulation.cas import Attempt, CasClient, contradictions, uncertified
from tests.simulation.invariants import ObservedEngine
from tests.simulation.scenario import Run
from tests.simulation.settings import Settings


class CasRun(Run):
    def __init__(
        self, seed: int | str, settings: Settings, engine_class: type[ObservedEngine] = ObservedEngine
    ) -> None:
        super().__init__(seed, settings, engine_class)
        self.attempts: list[Attempt] = []
        self.clients.extend(
            CasClient(f"cas{number}", self.door, settings.think / 2, self.attempts) for number in range(4)
        )

    def _unexplained(self) -> list[str]:
        found = contradictions(self.attempts)
        return super()._unexplained() + found + uncertified(self.attempts, self.cluster.watch)

    def seen(self) -> Counter[str]:
        """What the clients met: a run in which nothing was refused has shown nothing."""
        counts: Counter[str] = Counter()
        for attempt in self.attempts:
            if attempt.command is None:
                counts["read"] += 1
            elif attempt.outcome is None:
                counts["failed" if attempt.returned_at is not None else "unknown"] += 1
            else:
                counts["refused" if attempt.refused else "done"] += 1
        return counts
