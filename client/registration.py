"""The owner's view of a lease, the same for both shells."""

from __future__ import annotations

from artemis.client.leases import Lease, LeaseState
from artemis.client.results import InstanceVersion
from artemis.model import Instance


class RegistrationView:
    """A registration that its client keeps alive until it is unregistered or the client is closed.

    ``state`` is ``active``; ``lost`` (the registry said it is gone, or a TTL passed without an acknowledged renewal;
    the client goes on trying to get it back); or ``closed``.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    @property
    def instance(self) -> Instance:
        return self._lease.instance

    @property
    def ttl_ms(self) -> int:
        return self._lease.ttl_ms

    @property
    def state(self) -> LeaseState:
        return self._lease.state

    @property
    def version(self) -> InstanceVersion | None:
        """Revision and lease epoch of the registration that ``register`` made; None from an earlier Artemis server."""
        return self._lease.version

    @property
    def last_renewed(self) -> float:
        """Start of the last acknowledged renewal in seconds of ``time.monotonic()``. The registry keeps the instance at
        least one TTL from then."""
        return self._lease.last_renewed

    @property
    def last_error(self) -> str | None:
        """Why the latest heartbeat failed; None after one that did not."""
        return self._lease.last_error

    def __repr__(self) -> str:
        instance = self._lease.instance
        # Ids are printed escaped: they may hold anything, and this is printed to logs.
        return f"<{type(self).__name__} {instance.service_id!r}/{instance.instance_id!r} {self.state}>"
