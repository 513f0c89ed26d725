"""One instance of one service, chosen here: what the earlier Rust server made of ``lookup`` (``rust-http.md`` 2.3).

Its body has one ``discoveryConfig`` where Java's has a list, and its answer no status but ``success``; nothing found is
HTTP 404, which only clients that ask this way ever see.
"""

from __future__ import annotations

import itertools
import random
from http import HTTPStatus

from artemis.api.answers import Answer
from artemis.api.dialects.bodies import PickBody
from artemis.api.dialects.snake import Rust, Snake
from artemis.api.options import ReadOptions
from artemis.api.serving import Serving, is_blank
from artemis.errors import Unavailable
from artemis.model import Instance, canonical

ROUND_ROBIN = "round-robin"

_CAMEL, _SNAKE = Rust(), Snake()


class SingleLookup:
    """``strategy`` is ``round-robin``, or anything else for a random choice. One counter turns for all services."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._turn = itertools.count()

    async def answer(self, body: PickBody, options: ReadOptions) -> Answer:
        node = self._serving.node
        form = _SNAKE if body.naming == "snake" else _CAMEL
        try:
            status, level = await self._serving.given(options)
        except Unavailable as exc:
            text = form.not_picked(self._serving.unavailable("discovery", exc))
            code, http_status = "service-unavailable", HTTPStatus.SERVICE_UNAVAILABLE
            return Answer(text, code, node.status(), node.registry.revision, http_status=http_status)
        misplaced = self._serving.misplaced(body.region_id, body.zone_id)
        if misplaced is not None:
            text, http_status = form.not_picked(misplaced), HTTPStatus.FORBIDDEN
            return Answer(text, "no-permission", status, node.registry.revision, http_status=http_status)
        picked = self._pick(body.service_id, body.strategy, form)
        if isinstance(picked, Instance):
            return Answer(form.picked(picked), "success", status, node.registry.revision, level)
        text, http_status = form.not_picked(picked), HTTPStatus.NOT_FOUND
        return Answer(text, "data-not-found", status, node.registry.revision, level, http_status=http_status)

    def _pick(self, service_id: str | None, strategy: str | None, form: Snake) -> Instance | str:
        """An instance that is up, or why there is none."""
        service = (
            None if service_id is None or is_blank(service_id) else self._serving.node.registry.service(service_id)
        )
        if service is None:
            return f"Service not found: {canonical(service_id)}"
        up = [record.instance for record in service.records if form.is_up(record.instance)]
        if not up:
            return f"No instances found for service: {canonical(service_id)}"
        return up[next(self._turn) % len(up)] if strategy == ROUND_ROBIN else random.choice(up)
