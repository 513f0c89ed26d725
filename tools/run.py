"""``make run``: a three-node cluster on loopback in the foreground. Ctrl-C stops it; the data stays for next time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tools.local_cluster import ClusterError, Interrupted, LocalCluster, interruptible

HTTP_PORTS = (8081, 8082, 8083)
RAFT_PORTS = (9081, 9082, 9083)
DIRECTORY = Path(".artemis") / "cluster"
WATCH_S = 0.2

TRY = """
Try, in another terminal: register on n1, look up on n3, renew on n2 (the lease lasts ten minutes):

curl -s http://127.0.0.1:8081/api/registry/register.json -H 'content-type: application/json' -d '{"instances":[{"region_id":"local","zone_id":"z1","service_id":"orders","instance_id":"orders-1","ip":"127.0.0.1","port":9000,"url":"http://127.0.0.1:9000/","status":"up","lease_ttl_ms":600000}]}'
curl -s -i 'http://127.0.0.1:8083/api/discovery/service.json?service_id=orders'
curl -s http://127.0.0.1:8082/api/registry/heartbeat.json -H 'content-type: application/json' -d '{"instance_keys":[{"region_id":"local","service_id":"orders","instance_id":"orders-1"}]}'

Ctrl-C stops the cluster.
"""  # noqa: E501 - lines to paste stay whole


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


def main() -> int:
    cluster = LocalCluster(DIRECTORY, HTTP_PORTS, RAFT_PORTS)
    try:
        with interruptible():
            cluster.check_ports()
            known = DIRECTORY.exists()
            cluster.start_all()
            cluster.wait_ready(list(cluster.nodes))
            print(f"Three nodes are ready, with {'the data found in' if known else 'new data in'} {DIRECTORY}/")
            for node in cluster.nodes.values():
                pid = node.process.pid if node.process is not None else None
                print(f"  {node.node_id}  {node.url}  pid {pid}  log {node.log_path}")
            print(TRY, flush=True)
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
    sys.exit(main())
