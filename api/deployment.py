"""What ``status/config.json`` and ``status/deployment.json`` tell of a node's settings and its place."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from artemis.api.config import Config, settings
from artemis.api.settings import HttpSettings

HIDDEN = "(hidden)"
_SECRET = re.compile(r"secret|password|token|key")

SOURCES: Mapping[str, int] = {"flags": 1, "environment": 2, "file": 3, "defaults": 4}
"""Where settings come from; the lower number wins, as the earlier servers numbered theirs."""


class Deployment(NamedTuple):
    app_id: str | None
    ip: str | None
    machine_name: str
    port: int
    protocol: str
    path: str | None
    region_id: str | None
    zone_id: str | None
    properties: Mapping[str, str]
    """Every setting by name, as text; those that may hold a secret are hidden."""


def of_config(config: Config) -> Deployment:
    url = urlsplit(config.advertise)
    properties = {
        setting.key: HIDDEN if _SECRET.search(setting.key) else _shown(setting.kind.show, getattr(config, setting.key))
        for setting in settings()
    }
    return Deployment(
        app_id=config.cluster_name,
        ip=url.hostname,
        machine_name=socket.gethostname(),
        port=url.port or (443 if url.scheme == "https" else 80),
        protocol=url.scheme,
        path=url.path or None,
        region_id=config.region or None,
        zone_id=config.zone or None,
        # By these names the scripts around the earlier servers look for them.
        properties={**properties, "region_id": config.region, "zone_id": config.zone},
    )


def of_http_settings(node_id: str, given: HttpSettings) -> Deployment:
    """For an application that runs without a configured process around it."""
    properties = {"node_id": node_id, "region_id": given.region_id, "zone_id": given.zone_id}
    region_id, zone_id = given.region_id or None, given.zone_id or None
    return Deployment(None, None, socket.gethostname(), 0, "http", None, region_id, zone_id, properties)


def _shown(show: object, value: object) -> str:
    assert callable(show)
    return "" if value is None else str(show(value))
