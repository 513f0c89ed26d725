"""``artemis-node`` with room for 100 unfinished writes, so that a short test meets what otherwise takes 20,000."""

from __future__ import annotations

import sys

from artemis.api.cli import main
from artemis.consensus.timing import Bounds

PENDING_PROPOSALS = 100

if __name__ == "__main__":
    defaults = Bounds.__init__.__kwdefaults__ or {}
    if "pending_proposals" not in defaults:
        sys.exit("Bounds has no pending_proposals")
    defaults["pending_proposals"] = PENDING_PROPOSALS
    sys.exit(main())
