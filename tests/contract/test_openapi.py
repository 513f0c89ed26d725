"""The API document: complete, valid, and true of what the application answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from artemis.api.endpoints import endpoints
from artemis.api.serving import Serving
from artemis.api.settings import HttpSettings
from tests.support.http import NOW_MS, Api, camel_instance, snake_instance
from tests.support.loopback import LoopbackCluster

SETTINGS = HttpSettings(contexts=("/artemis-service",), watch_wait_ms_max=5)
NODE = LoopbackCluster()["n1"]
API = Api(NODE, SETTINGS)
# Answers must have something to show, in either spelling.
API.post("/artemis/api/registry/register.json", {"instances": [camel_instance(), camel_instance("svc2", "i2")]})
API.post("/api/registry/register", {"instances": [snake_instance()]})
DOCUMENT: dict[str, Any] = orjson.loads(API.get("/openapi.json").content)
# One path of each kind: the others share handlers and dialects with these.
PATHS = r"^/artemis/api/.*\.json$|^/api/[^.]*$|^/api/replication/|^/[a-z.]+$"
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).include(path_regex=PATHS)
CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@SCHEMA.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    response = case.call(app=API.app, base_url="http://node.test")
    # Where a 503 is documented it is a refusal; a 500 nowhere is.
    assert response.status_code != 500
    case.validate_response(response, checks=CHECKS)


def test_every_endpoint_is_in_the_document() -> None:
    table = endpoints(Serving(NODE, SETTINGS, lambda: NOW_MS))
    served = {(path, method.lower()) for path, endpoint in table.items() for method in endpoint.handlers}
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert served < described
    assert "/artemis-service/api/registry/register.json" in DOCUMENT["paths"]


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


def test_every_path_in_the_document_is_served() -> None:
    for path, item in DOCUMENT["paths"].items():
        if "get" in item:
            assert API.get(path).status_code != 404, path


def test_the_document_is_the_same_on_every_node() -> None:
    other = Api(LoopbackCluster("n1", "n2")["n2"], SETTINGS)
    assert orjson.loads(other.get("/openapi.json").content) == DOCUMENT


@pytest.mark.parametrize("wanted", ["/artemis/api/registry/register.json", "JavaWritten", "x-artemis-min-revision"])
def test_the_page_shows_the_document_without_anything_from_elsewhere(wanted: str) -> None:
    page = API.get("/openapi.html")
    assert page.headers["content-type"].startswith("text/html")
    assert wanted in page.text
    assert not [word for word in ("<script", "http://", "https://") if word in page.text]
