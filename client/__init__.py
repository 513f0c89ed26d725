"""Python client for an Artemis cluster; see ``docs/client.md``.

``ArtemisClient`` blocks, ``AsyncArtemisClient`` awaits; both are thin shells (``sync``, ``aio``) that only do IO.

Reading order: ``actions`` (what core and shell say to each other), ``call`` (one operation with its retries),
``policy`` and ``nodes`` (when and where to retry), ``wire`` and ``answers`` (bytes and their meaning), ``leases``
(heartbeats), ``watching`` (one watch), ``core`` (all of it together, without IO), ``registration``, ``exchange``,
``sync``, ``aio``.
"""

from artemis.client.aio import AsyncArtemisClient, AsyncRegistration
from artemis.client.errors import Attempt, ClientClosed, ClusterUnavailable, ConditionFailed, Refused
from artemis.client.policy import RetryPolicy
from artemis.client.results import Consistency, InstanceVersion, Service, Services
from artemis.client.sync import ArtemisClient, Registration
from artemis.client.watch_events import (
    WatchBookmark,
    WatchChanges,
    WatchedChange,
    WatchEvent,
    WatchInterrupted,
    WatchState,
)
from artemis.errors import ArtemisError, InvalidInput, RequestIdReused, Unavailable
from artemis.model import Instance, Member

__all__ = [
    "ArtemisClient",
    "ArtemisError",
    "AsyncArtemisClient",
    "AsyncRegistration",
    "Attempt",
    "ClientClosed",
    "ClusterUnavailable",
    "ConditionFailed",
    "Consistency",
    "Instance",
    "InstanceVersion",
    "InvalidInput",
    "Member",
    "Refused",
    "Registration",
    "RequestIdReused",
    "RetryPolicy",
    "Service",
    "Services",
    "Unavailable",
    "WatchBookmark",
    "WatchChanges",
    "WatchEvent",
    "WatchInterrupted",
    "WatchState",
    "WatchedChange",
]
