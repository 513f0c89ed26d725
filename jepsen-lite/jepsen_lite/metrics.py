"""Single values of a node's ``/metrics`` (Prometheus text format 0.0.4)."""

from __future__ import annotations

import http.client

from jepsen_lite.cluster import HOST, Address, ClusterError

TIMEOUT_S = 5.0


def value_of(address: Address, name: str) -> float:
    """The metric ``name``, summed over its labels; 0 if it has no sample yet. Raises ``ClusterError``."""
    connection = http.client.HTTPConnection(HOST, address.http_port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        raise ClusterError(f"{address.url}/metrics: {exc}") from exc
    finally:
        connection.close()
    if answer.status != 200 or f"# TYPE {name} " not in text:
        raise ClusterError(f"{address.url}/metrics: status {answer.status}, without {name}")
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return sum(float(value) for sample, _, value in samples if sample.partition("{")[0] == name)
