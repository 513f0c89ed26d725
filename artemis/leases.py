"""Leases on the log's clock: who must renew by when, and whose time is over.

The clock is a number that only committed entries move, so every node ends the same lease at the same entry. Nothing
here reads a clock. Costs: grant, renew and drop do not depend on how many leases exist; ``take_due`` pays for the
leases whose queued time has come, each at most once per TTL. A lease that is due is ended or held (``artemis.held``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from artemis.held import HeldLeases
from artemis.lease_queue import LeaseQueue
from artemis.model import Grant, InstanceKey

LEASE_STAMP_ERROR_MS = 200
"""Added to every deadline, because an entry's stamp may be older than the moment it was ordered.

While a clock step is in flight the leader stamps later entries with the same value and makes the time up with the next
step. Without the addition that shortens a lease (TTL 1000)::

    true lease time 10000   step to 10000 sent to the followers
    true lease time 10150   a renewal arrives, is stamped 10000: deadline 11000
    true lease time 11000   the next step stamps 11000: evicted 850 ms after the renewal began

The leader discards what a step lags beyond 200 ms, so no stamp is older than that, and 200 ms is enough.
"""

DEADLINE_MS_MAX = 2**63 - 1
"""Deadlines stop here: an entry may carry any 64-bit TTL, and a sum that msgpack cannot write would stop the node."""


class LeaseTerm(NamedTuple):
    """One lease as it stands. Times are on the lease clock."""

    ttl_ms: int
    granted_ms: int
    renewed_ms: int
    """The stamp of the last renewal, or of the registration if there was none."""


class LeaseTable:
    """Leases by id. Ids are given by the caller and never used twice.

    The queue holds one time per lease that is not held, not later than its deadline. A renewal leaves the queue alone;
    when the queued time comes up, a renewed lease goes back in with its deadline of then.
    """

    __slots__ = ("_deadlines_ms", "_grants", "_held_until_ms", "_queue", "held")

    def __init__(
        self,
        grants: dict[int, Grant] | None = None,
        deadlines_ms: dict[int, int] | None = None,
        held_until_ms: dict[int, int] | None = None,
    ) -> None:
        """Takes over the first two dicts, which must have the same keys; those of the third are among them."""
        self._grants: dict[int, Grant] = {} if grants is None else grants
        self._deadlines_ms: dict[int, int] = {} if deadlines_ms is None else deadlines_ms
        self.held = HeldLeases()
        self._held_until_ms = self.held.until_ms_by_id
        for lease_id, until_ms in ({} if held_until_ms is None else held_until_ms).items():
            self.held.add(lease_id, self._grants[lease_id].key.service_id, until_ms)
        held = self._held_until_ms
        self._queue = LeaseQueue(item for item in self._deadlines_ms.items() if item[0] not in held)

    def __len__(self) -> int:
        return len(self._grants)

    def deadline_ms(self, lease_id: int) -> int | None:
        """The lease time at which the lease ends unless renewed, or None if there is no such lease."""
        return self._deadlines_ms.get(lease_id)

    def term(self, lease_id: int) -> LeaseTerm | None:
        grant = self._grants.get(lease_id)
        if grant is None:
            return None
        renewed_ms = self._deadlines_ms[lease_id] - grant.ttl_ms - LEASE_STAMP_ERROR_MS
        return LeaseTerm(grant.ttl_ms, grant.granted_ms, renewed_ms)

    def grant(self, lease_id: int, key: InstanceKey, ttl_ms: int, clock_ms: int) -> Grant:
        deadline_ms = _deadline(clock_ms, ttl_ms)
        self._grants[lease_id] = grant = Grant(key, ttl_ms, clock_ms)
        self._deadlines_ms[lease_id] = deadline_ms
        self._queue.push(deadline_ms, lease_id)
        return grant

    def renew(self, lease_id: int, clock_ms: int) -> bool:
        """Start the lease anew. False if it does not exist; a renewal never creates one."""
        grant = self._grants.get(lease_id)
        if grant is None:
            return False
        self._deadlines_ms[lease_id] = deadline_ms = _deadline(clock_ms, grant.ttl_ms)
        if lease_id in self._held_until_ms:
            self.held.discard(lease_id, grant.key.service_id)
            self._queue.push(deadline_ms, lease_id)
        return True

    def drop(self, lease_id: int) -> InstanceKey:
        """Forget an existing lease. Its queued time stays until it comes up or is cleared away: an instance that
        registers every second with a TTL of an hour would otherwise leave 3600 dead times behind."""
        key = self._grants.pop(lease_id).key
        del self._deadlines_ms[lease_id]
        self.held.discard(lease_id, key.service_id)
        self._queue.tidy(self._deadlines_ms, len(self._grants))
        return key

    def take_due(self, clock_ms: int, most: int) -> list[tuple[int, InstanceKey]]:
        """Up to ``most`` leases with ``deadline_ms <= clock_ms`` that are not held, as (lease id, instance), by
        (deadline, lease id). Each must be dropped or held by the caller: its time is not queued any more.

        The order comes from the deadlines and not from the queue, whose shape depends on a node's past: a time is taken
        only when it is the lease's deadline, and then no other lease has an earlier one.
        """
        queue = self._queue
        due: list[tuple[int, InstanceKey]] = []
        while len(due) < most and (first := queue.first(clock_ms)) is not None:
            queued_ms, lease_id = first
            deadline_ms = self._deadlines_ms.get(lease_id)
            if deadline_ms is not None and deadline_ms > queued_ms:
                queue.postpone(deadline_ms)
                continue
            queue.pop()
            if deadline_ms is not None:
                due.append((lease_id, self._grants[lease_id].key))
        return due

    def hold(self, lease_id: int, hold_ms: int) -> None:
        """Keep a lease that came from ``take_due`` until so long after its deadline, unless it is renewed before."""
        until_ms = min(self._deadlines_ms[lease_id] + hold_ms, DEADLINE_MS_MAX)
        self.held.add(lease_id, self._grants[lease_id].key.service_id, until_ms)

    def may_be_due(self, clock_ms: int) -> bool:
        """False: no lease can end at this time."""
        held_ms = self.held.next_ms
        return self._queue.first(clock_ms) is not None or (held_ms is not None and held_ms <= clock_ms)

    def deadlines(self) -> dict[int, int]:
        """All deadlines by lease id, safe to read while this table changes."""
        return self._deadlines_ms.copy()

    def lease_ids(self) -> Iterable[int]:
        return self._grants.keys()

    @property
    def queue_length(self) -> int:
        """How many times are queued, those of dropped leases included."""
        return len(self._queue)


def _deadline(clock_ms: int, ttl_ms: int) -> int:
    deadline_ms = clock_ms + ttl_ms + LEASE_STAMP_ERROR_MS
    return deadline_ms if deadline_ms < DEADLINE_MS_MAX else DEADLINE_MS_MAX
