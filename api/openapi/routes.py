"""``/openapi.json`` and ``/openapi.html``. Made at the first request: most nodes are never asked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from artemis.api.answers import CORS
from artemis.api.endpoints import Endpoint
from artemis.api.openapi.document import openapi_document
from artemis.api.openapi.page import openapi_page
from artemis.api.settings import HttpSettings

_CORS = {name.decode(): value.decode() for name, value in CORS}


class OpenApi:
    """The document of one node and the page that shows it."""

    def __init__(self, table: Mapping[str, Endpoint], settings: HttpSettings) -> None:
        self._table = table
        self._settings = settings

    @cached_property
    def document(self) -> bytes:
        return openapi_document(self._table, self._settings)

    @cached_property
    def page(self) -> bytes:
        return openapi_page(self.document)

    def routes(self) -> list[Route]:
        async def json(_request: Request) -> Response:
            return Response(self.document, headers=_CORS, media_type="application/json")

        async def html(_request: Request) -> Response:
            return Response(self.page, media_type="text/html")

        return [Route("/openapi.json", json), Route("/openapi.html", html)]
