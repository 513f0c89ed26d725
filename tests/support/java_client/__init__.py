"""A client that behaves as the Java SDK does, on asyncio, so that a thousand of them fit into one process.

What it does, when and how often follows ``java-client-and-push.md``: the address list (7.1), the registration through a
failed heartbeat (7.2), subscriptions and pushes (7.3), the reactions to errors (4), the keys and times (6). It is a
model of existing programs for tests, with their weaknesses: it forgets no dead node, sees no pong while it
registers in its receiving thread, and never hears of a push it missed.
"""

from tests.support.java_client.discovery import DiscoveryClient
from tests.support.java_client.observed import Observed
from tests.support.java_client.registry import RegistryClient
from tests.support.java_client.settings import JavaSettings, java1, java2

__all__ = ["DiscoveryClient", "JavaSettings", "Observed", "RegistryClient", "java1", "java2"]
