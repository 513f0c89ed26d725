"""``artemis-node`` that takes a snapshot every 100 entries and keeps 20 behind it, so that a short run meets what
otherwise takes 50,000 entries: snapshots under load, restarts from one, and nodes that are sent one in chunks."""

from __future__ import annotations

import sys

from artemis.api.cli import main
from artemis.consensus.timing import Bounds

SMALL = {"snapshot_log_entries": 100, "snapshot_trailing_entries": 20, "snapshot_chunk_bytes": 4096}

if __name__ == "__main__":
    defaults = Bounds.__init__.__kwdefaults__ or {}
    if missing := SMALL.keys() - defaults.keys():
        sys.exit(f"Bounds has no {', '.join(sorted(missing))}")
    defaults.update(SMALL)
    sys.exit(main())
