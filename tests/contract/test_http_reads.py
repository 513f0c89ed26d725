"""What a read gets that asks for no level while no majority confirms it: the settings ``reads_*``."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from artemis.api.settings import HttpSettings
from artemis.errors import InvalidInput, Unavailable
from tests.support.http import Api, camel_instance
from tests.support.loopback import LoopbackCluster, LoopbackNode

REGISTER = "/artemis/api/registry/register.json"
PREFERS_STALE = HttpSettings(reads_without_quorum="stale")
READS: list[tuple[str, object]] = [
    ("/artemis/api/discovery/service.json", {"discoveryConfig": {"serviceId": "svc1"}}),
    ("/artemis/api/discovery/lookup.json", {"discoveryConfigs": [{"serviceId": "svc1"}]}),
    ("/artemis/api/discovery/services.json", {}),
    ("/artemis/api/discovery/services-delta.json", {"version": 0}),
]
SERVICE = READS[0]


def code(answer: httpx.Response) -> str:
    value: str = answer.json()["responseStatus"]["errorCode"]
    return value


def cut_off() -> tuple[LoopbackNode, Api]:
    """A node with one instance that has lost its leader, 900 ms ago."""
    cluster = LoopbackCluster("n1", "n2")
    Api(cluster["n1"]).post(REGISTER, {"instances": [camel_instance()]})
    node = cluster["n2"]
    node.cut_off = True
    node.apply_lag_ms = 900
    return node, Api(node, PREFERS_STALE)


@pytest.mark.parametrize(("path", "body"), READS)
def test_a_read_that_asks_for_nothing_is_answered_as_stale_with_its_age(path: str, body: object) -> None:
    _, api = cut_off()
    answer = api.post(path, body)
    assert code(answer) in ("success", "data-not-found")
    assert answer.headers["x-artemis-consistency"] == "stale"
    assert answer.headers["x-artemis-apply-lag-ms"] == "900"


@pytest.mark.parametrize(("path", "body"), READS)
@pytest.mark.parametrize("asked", ["linearizable", "LINEARIZABLE"])
def test_a_read_that_asks_for_linearizable_is_refused_and_never_downgraded(path: str, body: object, asked: str) -> None:
    _, api = cut_off()
    for answer in (api.post(path, body, x_artemis_consistency=asked), api.post(f"{path}?consistency={asked}", body)):
        assert code(answer) == "service-unavailable"
        assert answer.headers["x-artemis-consistency"] == "none"


def test_with_a_majority_the_same_read_is_linearizable() -> None:
    node, api = cut_off()
    node.cut_off = False
    answer = api.post(*SERVICE)
    assert (code(answer), answer.headers["x-artemis-consistency"]) == ("success", "linearizable")


def test_by_default_it_is_refused() -> None:
    node, _ = cut_off()
    answer = Api(node).post(*SERVICE)
    assert code(answer) == "service-unavailable"


def test_the_bounds_that_a_request_names_hold_for_the_stale_answer_too() -> None:
    _, api = cut_off()
    old = api.post(*SERVICE, x_artemis_max_stale_ms="899")
    assert code(old) == "service-unavailable"
    assert "900 ms old" in old.json()["responseStatus"]["message"]
    assert code(api.post(*SERVICE, x_artemis_max_stale_ms="900")) == "success"
    ahead = api.post(*SERVICE, x_artemis_min_revision="2")
    assert code(ahead) == "service-unavailable"
    assert code(api.post(*SERVICE, x_artemis_min_revision="1")) == "success"


def test_a_node_that_is_not_ready_gives_no_stale_answer_either() -> None:
    node, api = cut_off()
    node.ready = False
    assert code(api.post(*SERVICE)) == "service-unavailable"


def test_a_leader_that_does_not_answer_is_waited_for_half_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    node, api = cut_off()
    node.cut_off = False
    asked: list[int] = []

    async def silent(*, timeout_ms: int) -> None:
        asked.append(timeout_ms)
        await asyncio.sleep(0)
        raise Unavailable("no leader with a majority confirmed the read in time", definite=True)

    monkeypatch.setattr(node, "barrier", silent)
    answer = api.post(*SERVICE, x_artemis_timeout_ms="1000")
    assert (code(answer), answer.headers["x-artemis-consistency"]) == ("success", "stale")
    assert asked == [500]


@pytest.mark.parametrize("level", ["stale", "session"])
def test_a_default_that_needs_no_majority_is_given_as_it_is(level: Any) -> None:
    node, _ = cut_off()
    answer = Api(node, HttpSettings(reads_default=level, reads_without_quorum="stale")).post(*SERVICE)
    assert (code(answer), answer.headers["x-artemis-consistency"]) == ("success", level)
    assert node.barriers == 0


def test_other_values_of_the_settings_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="reads_default"):
        HttpSettings(reads_default="fresh")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="reads_without_quorum"):
        HttpSettings(reads_without_quorum="maybe")  # type: ignore[arg-type]
