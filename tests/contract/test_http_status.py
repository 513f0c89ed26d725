"""The status plane: ``java-http.md`` 4.5 and 8, ``rust-http.md`` 2.3."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from artemis.api.config_sources import load
from artemis.api.deployment import of_config
from artemis.api.health import UNKNOWN
from artemis.api.lease_report import LEASES_AT_ONCE, report
from artemis.api.serving import JAVA, RUST
from artemis.api.settings import HttpSettings
from artemis.commands import Unregister
from artemis.model import InstanceKey
from tests.support.http import NOW_MS, Api, camel_instance
from tests.support.loopback import LoopbackCluster

STATUS = "/artemis/api/status/"
REGISTER = "/artemis/api/registry/register.json"
HEARTBEAT = "/artemis/api/registry/heartbeat.json"
SUCCESS = {"errorCode": "success", "message": "", "status": "success"}
OF_LAB = HttpSettings(region_id="lab", zone_id="zone1")
KINDS = ("node", "cluster", "leases", "legacy-leases", "config", "deployment")


def local(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000).strftime("%Y-%m-%d %H:%M:%S.") + f"{epoch_ms % 1000:03d}"


def node_of(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "allowDiscoveryFromOtherZone": True,
        "allowRegistryFromOtherZone": True,
        "canServiceDiscovery": True,
        "canServiceRegistry": True,
        "node": {
            "url": f"http://n{number}.test:8080",
            "zone": {"metadata": None, "regionId": "lab", "zoneId": "zone1" if number == 1 else "zone2"},
        },
        "status": "up",
        **changed,
    }


NOBODY_KNOWS = {
    "allowDiscoveryFromOtherZone": None,
    "allowRegistryFromOtherZone": None,
    "canServiceDiscovery": None,
    "canServiceRegistry": None,
    "status": "unknown",
}


@pytest.mark.parametrize("kind", KINDS)
def test_get_and_post_give_the_same_answer_under_every_path(kind: str) -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(contexts=("/ctx",)))
    api.post(REGISTER, {"instances": [camel_instance()]})
    for prefix in ("/artemis", "/ctx", ""):
        answers = [
            api.send(method, f"{prefix}/api/status/{kind}.json", body=body)
            for method, body in (("POST", {}), ("GET", None))
        ]
        assert answers[0].status_code == 200
        assert answers[0].content == answers[1].content
        assert answers[0].json()["responseStatus"]["status"] == "success"


def test_a_node_tells_what_it_can_do() -> None:
    cluster = LoopbackCluster("n1", "n2")
    api = Api(cluster["n1"], OF_LAB)
    assert api.post(STATUS + "node.json", {}).json() == {"nodeStatus": node_of(1), "responseStatus": SUCCESS}
    cluster.leader_id = None
    assert api.get(STATUS + "node.json").json()["nodeStatus"] == node_of(1, canServiceRegistry=False)
    cluster["n1"].ready = False
    down = node_of(1, canServiceRegistry=False, canServiceDiscovery=False, status="down")
    assert api.get(STATUS + "node.json").json()["nodeStatus"] == down
    own_zone = Api(cluster["n1"], HttpSettings(zone_id="zone1", any_zone=False)).get(STATUS + "node.json").json()
    assert own_zone["nodeStatus"]["allowRegistryFromOtherZone"] is False


def test_the_cluster_is_every_member_with_what_is_known_of_it() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    cluster["n2"].disconnected = {"n3"}
    api = Api(cluster["n2"], OF_LAB)
    answer = api.post(STATUS + "cluster.json", {})
    assert answer.json() == {
        "nodeCount": 3,
        "nodesStatus": [node_of(2), node_of(1), node_of(3, **NOBODY_KNOWS)],
        "responseStatus": SUCCESS,
    }
    assert answer.headers["x-artemis-leader"] == "n1"
    assert answer.headers["x-artemis-consistency"] == "stale"


def test_what_a_member_says_of_itself_counts_beside_its_link() -> None:
    cluster = LoopbackCluster("n1", "n2", "n3")
    api = Api(cluster["n1"], OF_LAB)
    said = api.peers.heard["n2"] = UNKNOWN._replace(status="down", can_service_registry=False)
    nodes = api.get(STATUS + "cluster.json").json()["nodesStatus"]
    assert [node["status"] for node in nodes] == ["up", said.status, "up"]
    assert nodes[1]["canServiceRegistry"] is False


def test_the_rust_form_names_nodes_by_id_and_leaves_nulls_out() -> None:
    cluster = LoopbackCluster("n1", "n2")
    cluster["n1"].disconnected = {"n2"}
    answer = Api(cluster["n1"]).get("/api/status/cluster.json").json()
    assert answer["responseStatus"] == {"errorCode": "success", "status": "success"}
    assert answer["nodesStatus"][0]["node"] == {
        "nodeId": "n1",
        "url": "http://n1.test:8080",
        "regionId": "lab",
        "zoneId": "zone1",
        "zone": {"regionId": "lab", "zoneId": "zone1"},
    }
    assert [node["leader"] for node in answer["nodesStatus"]] == [True, False]
    assert set(answer["nodesStatus"][1]) == {"node", "status", "leader"}
    snake = Api(cluster["n1"]).post("/api/status/cluster.json", {"region_id": "lab"}).json()
    assert snake["nodes_status"][0]["can_service_registry"] is True


def test_leases_tell_their_times_on_the_wall_clock() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    body = {"instances": [camel_instance()]}
    api.post(REGISTER, body)
    cluster.advance(7_000)
    api.post(HEARTBEAT, body)
    cluster.advance(2_500)
    assert api.post(STATUS + "leases.json", {"serviceIds": ["SVC1"]}).json() == {
        "isSafe": True,
        "isSafeCheckEnabled": True,
        "leaseCount": 1,
        "leaseUpdateCountLastTimeWindow": 0,
        "leaseUpdateMaxCount": 0,
        "leaseUpdateMaxCountLastUpdateTime": 0,
        "leases": {
            "svc1": [
                {
                    "creationTime": local(NOW_MS - 9_500),
                    "evitionTime": local(0),
                    "instance": "lab/zone1/svc1/g1/i1",
                    "renewalTime": local(NOW_MS - 2_500),
                    "ttl": 20_000,
                }
            ]
        },
        "responseStatus": SUCCESS,
    }


def listed(api: Api, path: str, body: object = None) -> dict[str, list[str]]:
    answer = api.post(path, body or {}).json()
    found = {
        service_id: [lease["instance"] for lease in of_service] for service_id, of_service in answer["leases"].items()
    }
    assert answer["leaseCount"] == sum(map(len, found.values()))
    return found


def test_leases_are_those_of_the_services_asked_for() -> None:
    api = Api(LoopbackCluster()["n1"])
    for service_id in ("a", "B", "c"):
        api.post(REGISTER, {"instances": [camel_instance(service_id, zoneId=None, groupId=" ")]})
    expected = {"a": ["lab/null/a/i1"], "B": ["lab/null/b/i1"], "c": ["lab/null/c/i1"]}
    path = STATUS + "leases.json"
    of_all: tuple[dict[str, object], ...] = ({}, {"serviceIds": []}, {"serviceIds": None})
    for everything in of_all:
        assert listed(api, path, everything) == expected
    assert set(listed(api, path, {"serviceIds": ["b", "gone", "B", None]})) == {"B"}
    for query, found in (
        ("?appIds=a,b", {"a", "B"}),
        ("?appIds=a&appIds=c", {"a", "c"}),
        ("?serviceIds=c", {"c"}),
        ("", set(expected)),
    ):
        assert set(api.get(path + query).json()["leases"]) == found
    assert api.post(path, {"serviceIds": [{}]}).status_code == 400


def test_marked_instances_are_listed_as_legacy_leases_only() -> None:
    api = Api(LoopbackCluster()["n1"])
    marked = camel_instance(instance_id="old", metadata={"java_registry": "1"})
    api.post(
        REGISTER,
        {"instances": [camel_instance(), marked, camel_instance(instance_id="x", metadata={"java_registry": " "})]},
    )
    assert listed(api, STATUS + "leases.json") == {"svc1": ["lab/zone1/svc1/g1/i1", "lab/zone1/svc1/g1/x"]}
    assert listed(api, STATUS + "legacy-leases.json") == {"svc1": ["lab/zone1/svc1/g1/old"]}


def test_ended_leases_are_not_listed() -> None:
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance()]})
    cluster.advance(20_200)
    assert listed(api, STATUS + "leases.json") == {}


def test_it_is_not_safe_while_leases_are_held() -> None:
    """Sixty that fall silent together are more often cut off than dead: ``artemis.protection``."""
    cluster = LoopbackCluster()
    api = Api(cluster["n1"])
    api.post(REGISTER, {"instances": [camel_instance(instance_id=f"i{number}") for number in range(60)]})
    cluster.advance(20_200)
    answer = api.get(STATUS + "leases.json").json()
    assert (answer["isSafe"], answer["isSafeCheckEnabled"], answer["leaseCount"]) == (False, True, 60)


def test_many_leases_are_encoded_in_turns_and_what_ends_meanwhile_is_left_out() -> None:
    cluster = LoopbackCluster()
    node = cluster["n1"]
    instances = [camel_instance(instance_id=f"i{number}") for number in range(3 * LEASES_AT_ONCE)]
    Api(node).post(REGISTER, {"instances": instances})
    last = Unregister((InstanceKey("lab", "svc1", instances[-1]["instanceId"]),))

    async def run() -> tuple[int, int]:
        listing = asyncio.ensure_future(report(node.registry, (), RUST, 0, legacy=False))
        await asyncio.sleep(0)
        await node.propose(last, timeout_ms=100)
        turns = 0
        while not listing.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, (await listing).total

    turns, total = asyncio.run(run())
    assert turns > 1
    assert total == len(instances) - 1


def test_the_configuration_is_told_without_what_is_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x" * 32)
    config = load({}, {"ARTEMIS_NODE_ID": "n1", "ARTEMIS_REGION": "lab", "ARTEMIS_SECRET_FILE": str(secret)})
    api = Api(LoopbackCluster()["n1"], deployment=of_config(config))
    answer = api.get(STATUS + "config.json").json()
    properties = answer["properties"]
    assert (properties["node_id"], properties["region_id"], properties["zone_id"]) == ("n1", "lab", "")
    assert properties["default_ttl_ms"] == "20000"
    assert properties["secret_file"] == "(hidden)"
    assert str(secret) not in api.get(STATUS + "config.json").text
    assert set(answer["sources"].values()) == {1, 2, 3, 4}
    assert all(isinstance(value, str) for value in properties.values())
    rust = api.get("/api/status/config.json").json()
    assert rust["properties"] == properties


def test_the_deployment_is_told(tmp_path: Path) -> None:
    config = load(
        {}, {"ARTEMIS_ADVERTISE": "https://artemis.test/ctx", "ARTEMIS_REGION": "lab", "ARTEMIS_ZONE": "zone1"}
    )
    answer = Api(LoopbackCluster()["n1"], deployment=of_config(config)).post(STATUS + "deployment.json", {}).json()
    machine = answer.pop("machineName")
    assert isinstance(machine, str)
    assert answer == {
        "appId": "artemis",
        "ip": "artemis.test",
        "path": "/ctx",
        "port": 443,
        "properties": {
            "app.id": "artemis",
            "app.port": "443",
            "app.protocol": "https",
            "region.id": "lab",
            "zone.id": "zone1",
        },
        "protocol": "https",
        "regionId": "lab",
        "responseStatus": SUCCESS,
        "sources": {"flags": 1, "environment": 2, "file": 3, "defaults": 4},
        "zoneId": "zone1",
    }


@pytest.mark.parametrize(
    "path", ["/artemis/api/status/websocket/connection.json", "/ctx/api/status/message/connections.json"]
)
def test_open_websockets_are_counted_as_texts(path: str) -> None:
    api = Api(LoopbackCluster()["n1"], HttpSettings(contexts=("/ctx",)))
    assert api.get(path).json() == {"registry": "0", "discovery": "0"}
    assert api.send("POST", path, body={}).status_code == 405


def test_the_eleventh_listing_in_ten_seconds_is_refused() -> None:
    """And ``status/node.json`` never is: members ask it of each other."""
    api = Api(LoopbackCluster()["n1"])

    async def codes(kind: str, times: int) -> list[str]:
        headers = {"content-type": "application/json"}
        answers = [
            await api.sending("POST", f"{STATUS}{kind}.json", content=b"{}", headers=headers) for _ in range(times)
        ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json()["responseStatus"]["errorCode"] for answer in answers]

    assert asyncio.run(codes("leases", 11)) == ["success"] * 10 + ["rate-limited"]
    assert asyncio.run(codes("cluster", 31)) == ["success"] * 30 + ["rate-limited"]
    assert set(asyncio.run(codes("node", 50))) == {"success"}
    refused = asyncio.run(
        api.sending("POST", STATUS + "cluster.json", content=b"{}", headers={"content-type": "application/json"})
    )
    assert refused.json() == {
        "nodeCount": 0,
        "nodesStatus": None,
        "responseStatus": {"errorCode": "rate-limited", "message": "Request is rate limited.", "status": "fail"},
    }


def test_the_dialects_differ_in_the_name_of_the_list() -> None:
    fields = {"leases": 1, "nothing": None}
    assert b'"nothing":null' in JAVA.reported(fields)
    assert b"nothing" not in RUST.reported(fields)
