"""Side-by-side measurements of a local three-node cluster and etcd. One command: ``python -m benchmarks.run``."""

import sys
from pathlib import Path

# The process control of jepsen-lite starts the nodes; its source root is on the path of pytest and mypy, not of a
# plain interpreter.
sys.path.append(str(Path(__file__).resolve().parent.parent / "jepsen-lite"))
