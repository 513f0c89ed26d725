"""The rate limits of the Java servers (``java-http.md`` 4.3): three keys for each of four limiters become one table."""

from __future__ import annotations

import re
from collections.abc import Callable

from artemis.api.convert.draft import Draft
from artemis.api.rate_limits import LIMIT_MAX, WINDOW_S

OPERATIONS = {
    "artemis.service.registry": {name: name for name in ("register", "heartbeat", "unregister")},
    "artemis.service.registry.replication": {
        name: f"replication-{name}" for name in ("register", "heartbeat", "unregister", "get-services")
    },
    "artemis.service.cluster": {name: name for name in ("up-registry-nodes", "up-discovery-nodes")},
    "artemis.service.status": {
        name: name for name in ("get-cluster", "get-leases", "get-legacy-leases", "get-config", "get-deployment")
    },
}
"""By limiter: an operation as the earlier servers named it, and as it is named here."""
QPS = re.compile(r"artemis\.service\.registry\.rate-limiter\.(register|heartbeat|unregister)\.qps")
"""The specification of the Rust server had these, per second."""

Take = Callable[[str], tuple[str, str] | None]
"""The key as it stands in the file and its value, taken out of what is left to convert."""


def carry_limits(draft: Draft, take: Take) -> None:
    """Raises ``ConvertError``."""
    for limiter, operations in OPERATIONS.items():
        default = take(f"{limiter}.rate-limiter.default-rate-limit")
        listed = take(f"{limiter}.rate-limiter.rate-limit-map")
        switch = take(f"{limiter}.rate-limiter.enabled")
        if default is not None:
            number = _number(draft, *default)
            draft.carry(*default, "rate_limits", dict.fromkeys(operations.values(), number))
        if listed is not None:
            _carry_listed(draft, *listed, operations)
        if switch is not None and _is_on(draft, *switch):
            draft.leave(switch[0], "limits are on unless rate_limiting says otherwise")
        elif switch is not None:
            # The switch here is for all limiters, so one alone is switched off by limits beyond reach.
            draft.carry(*switch, "rate_limits", dict.fromkeys(operations.values(), LIMIT_MAX))
    for name in ("register", "heartbeat", "unregister"):
        qps = take(f"artemis.service.registry.rate-limiter.{name}.qps")
        if qps is not None:
            draft.carry(*qps, "rate_limits", {name: _number(draft, *qps) * WINDOW_S})


def _carry_listed(draft: Draft, key: str, shown: str, operations: dict[str, str]) -> None:
    limits: dict[str, str | int] = {}
    unknown: list[str] = []
    for item in shown.split(","):
        if not item.strip():
            continue
        name, _, limit = (part.strip() for part in item.partition(":"))
        if name in operations:
            limits[operations[name]] = _number(draft, key, limit)
        else:
            unknown.append(name)
    if limits:
        draft.carry(key, shown, "rate_limits", limits)
    elif not unknown:
        draft.leave(key, "it is empty")
    if unknown:
        draft.leave(key, f"no such operation is limited here: {', '.join(unknown)}")


def _number(draft: Draft, key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not 1 <= int(text) <= LIMIT_MAX:
        raise draft.wrong(key, text, f"must be a number from 1 to {LIMIT_MAX} to become a limit in rate_limits")
    return int(text)


def _is_on(draft: Draft, key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise draft.wrong(key, text, "must be true or false")
    return text.lower() == "true"
