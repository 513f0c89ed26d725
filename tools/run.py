"""``make run``: a three-node cluster on loopback in the foreground. Ctrl-C stops it; the data stays for next time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.local_cluster import ClusterError, Interrupted, LocalCluster, interruptible

HTTP_PORTS = (8081, 8082, 8083)
RAFT_PORTS = (9081, 9082, 9083)
DIRECTORY = Path(".artemis") / "cluster"
WATCH_S = 0.2


def lines_to_try(cluster: LocalCluster) -> list[str]:
    """Shell lines that work as pasted while the cluster runs."""
    first, second, third = (node.url for node in cluster.nodes.values())
    key = {"region_id": "local", "service_id": "orders", "instance_id": "orders-1"}
    place = {"zone_id": "z1", "ip": "127.0.0.1", "port": 9000, "url": "http://127.0.0.1:9000/", "status": "up"}
    register = json.dumps({"instances": [{**key, **place, "lease_ttl_ms": 600_000}]}, separators=(",", ":"))
    heartbeat = json.dumps({"instance_keys": [key]}, separators=(",", ":"))
    post = "curl -s -H 'content-type: application/json'"
    return [
        f"{post} {first}/api/registry/register.json -d '{register}'",
        f"curl -si '{third}/api/discovery/service.json?service_id=orders'",
        f"{post} {second}/api/registry/heartbeat.json -d '{heartbeat}'",
    ]


def _watch(cluster: LocalCluster) -> int:
    """Report each node that ends; return when none is left."""
    gone: set[str] = set()
    majority = len(cluster.nodes) // 2 + 1
    while len(gone) < len(cluster.nodes):
        for node in cluster.nodes.values():
            if node.node_id in gone or node.running:
                continue
            gone.add(node.node_id)
            code = node.process.returncode if node.process is not None else None
            left = len(cluster.nodes) - len(gone)
            state = "the cluster goes on" if left >= majority else "without a majority the cluster refuses writes"
            print(
                f"{node.node_id} ended with exit code {code}; {left} left, {state}. {node.log_path} ends:", flush=True
            )
            print(node.log_tail(), flush=True)
        time.sleep(WATCH_S)
    return 1


def main(directory: Path, http_ports: Sequence[int], raft_ports: Sequence[int]) -> int:
    cluster = LocalCluster(directory, http_ports, raft_ports)
    try:
        with interruptible():
            cluster.check_ports()
            known = directory.exists()
            cluster.start_all()
            cluster.wait_ready(list(cluster.nodes))
            print(f"Three nodes are ready, with {'the data found in' if known else 'new data in'} {directory}/")
            for node in cluster.nodes.values():
                pid = node.process.pid if node.process is not None else None
                print(f"  {node.node_id}  {node.url}  pid {pid}  log {node.log_path}")
            print("\nTry in another terminal: register on n1, look up on n3, renew on n2 (a lease of ten minutes):\n")
            print("\n".join(lines_to_try(cluster)))
            print("\nCtrl-C stops the cluster.\n", flush=True)
            return _watch(cluster)
    except Interrupted:
        print("\nstopping", flush=True)
        codes = cluster.stop()
        print("stopped: " + ", ".join(f"{node_id} exit {code}" for node_id, code in codes.items()), flush=True)
        return 1 if any(codes.values()) else 0
    except ClusterError as exc:
        print(f"make run: {exc}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main(DIRECTORY, HTTP_PORTS, RAFT_PORTS))
