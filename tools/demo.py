"""``make demo``: the story of a killed leader, played on real processes. Fails if any step is not as promised."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tools.local_cluster import ClusterError, Interrupted, LocalCluster, free_ports, interruptible

FAILOVER_S = 15.0
POLL_S = 0.05
HEADERS = ("x-artemis-node", "x-artemis-leader", "x-artemis-revision", "x-artemis-consistency")

REGISTER = "/api/registry/register.json"
SERVICE = "/api/discovery/service.json?service_id=orders"


class WrongStep(Exception):
    """A step did not show what was promised."""


def instance(name: str, port: int) -> dict[str, object]:
    return {
        "region_id": "local",
        "zone_id": "z1",
        "service_id": "orders",
        "instance_id": name,
        "ip": "127.0.0.1",
        "port": port,
        "url": f"http://127.0.0.1:{port}/",
        "status": "up",
        "lease_ttl_ms": 600_000,
    }


class Story:
    """The steps, their real output, and the checks between them."""

    def __init__(self, cluster: LocalCluster, client: httpx.Client) -> None:
        self.cluster = cluster
        self.client = client
        self.registered: list[dict[str, object]] = []
        self.step_number = 0

    def step(self, text: str) -> None:
        self.step_number += 1
        print(f"\n{self.step_number}. {text}", flush=True)

    def register(self, node_id: str, new: dict[str, object]) -> None:
        body = json.dumps({"instances": [new]})
        url = self.cluster.nodes[node_id].url + REGISTER
        print(f"$ curl -si {url} -H 'content-type: application/json' -d '{body}'")
        answer = self.client.post(url, content=body, headers={"content-type": "application/json"})
        self._show(answer)
        self._expect(_code(answer) == "success", "the registration is acknowledged")
        self.registered.append(new)

    def look_up(self, node_id: str, *, within_s: float = 0.0) -> str:
        """Look up on the node and compare every field; returns the leader the answer names.

        For ``within_s`` seconds the node may refuse: while there is no leader it must not answer from memory.
        """
        url = self.cluster.nodes[node_id].url + SERVICE
        print(f"$ curl -si '{url}'")
        began = time.monotonic()
        refusals: list[str] = []
        while True:
            answer = self.client.get(url)
            code = _code(answer)
            if code != "service-unavailable" or time.monotonic() - began >= within_s:
                break
            refusals.append(code)
            time.sleep(POLL_S)
        if refusals:
            seconds = time.monotonic() - began
            print(
                f"({node_id} had no leader: service-unavailable {len(refusals)} times, answered after {seconds:.1f} s)"
            )
        self._show(answer)
        self._expect(code == "success", "the look-up succeeds")
        found = sorted(answer.json()["service"]["instances"], key=lambda item: str(item["instance_id"]))
        wanted = [{key: value for key, value in new.items() if key != "lease_ttl_ms"} for new in self.registered]
        names = ", ".join(str(new["instance_id"]) for new in self.registered)
        self._expect(found == wanted, f"{node_id} shows exactly {names}, every field as registered")
        return str(answer.headers.get("x-artemis-leader", ""))

    def _show(self, answer: httpx.Response) -> None:
        print(f"HTTP {answer.status_code} after {answer.elapsed.total_seconds() * 1000:.0f} ms")
        for name in HEADERS:
            if name in answer.headers:
                print(f"{name}: {answer.headers[name]}")
        print(answer.text, flush=True)

    def _expect(self, holds: bool, what: str) -> None:
        print(f"{'ok' if holds else 'WRONG'}: {what}", flush=True)
        if not holds:
            raise WrongStep(f"step {self.step_number}: expected that {what}")

    def play(self) -> None:
        nodes = list(self.cluster.nodes)
        self.step(f"Start three nodes in {self.cluster.directory}")
        self.cluster.start_all()
        self.cluster.wait_ready(nodes)
        for node in self.cluster.nodes.values():
            print(f"{node.node_id} is ready at {node.url}", flush=True)

        self.step("Register an instance on n1")
        self.register("n1", instance("orders-1", 9000))
        self.step("Look it up on n3, at once")
        leader = self.look_up("n3")
        self._expect(leader in nodes, f"the answer names the leader: {leader or 'nobody'}")

        process = self.cluster.nodes[leader].process
        assert process is not None
        self.step(f"Kill the leader, {leader}")
        print(f"$ kill -9 {process.pid}")
        self.cluster.kill(leader)
        survivors = [node_id for node_id in nodes if node_id != leader]
        self.step(f"Look up on {survivors[-1]}: what was acknowledged is there")
        successor = self.look_up(survivors[-1], within_s=FAILOVER_S)
        self._expect(successor in survivors, f"the leader is a living node: {successor or 'nobody'}")
        self.step(f"Register another instance on {survivors[0]}")
        self.register(survivors[0], instance("orders-2", 9001))

        self.step(f"Start {leader} again, with its old data")
        self.cluster.start(leader)
        self.cluster.wait_ready([leader])
        print(f"{leader} is ready")
        self.step(f"Look up on {leader}: it has caught up")
        self.look_up(leader, within_s=FAILOVER_S)

        self.step("Stop all nodes")
        codes = self.cluster.stop()
        print("exit codes: " + ", ".join(f"{node_id} {code}" for node_id, code in codes.items()))
        self._expect(codes == dict.fromkeys(nodes, 0), "each node stopped cleanly")


def _code(answer: httpx.Response) -> str:
    """The application's outcome code; HTTP status for answers that have none."""
    try:
        return str(answer.json()["response_status"]["error_code"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="artemis-demo-") as directory:
        ports = free_ports(6)
        cluster = LocalCluster(Path(directory), ports[:3], ports[3:])
        try:
            with interruptible(), httpx.Client(timeout=10.0) as client:
                Story(cluster, client).play()
        except Interrupted as exc:
            print(f"\nmake demo: stopped by {exc}", file=sys.stderr)
            return 130
        except (WrongStep, ClusterError, httpx.HTTPError) as exc:
            print(f"\nmake demo: {exc}", file=sys.stderr)
            for node in cluster.nodes.values():
                if node.log_path.exists():
                    print(node.log_tail(), file=sys.stderr)
            return 1
        finally:
            cluster.stop()
    print("\nThe story went as promised.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
