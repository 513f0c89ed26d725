"""HTTP: dialects, routes, headers, metrics, and the ``artemis-node`` command."""
