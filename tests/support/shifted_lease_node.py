"""``artemis-node`` with a planted fault: every lease ends ``LEASES_SHIFTED_MS`` (environment) after its TTL, early if
negative, instead of after the bound of a stamp's error."""

from __future__ import annotations

import os
import sys

from artemis import leases
from artemis.api.cli import main

if __name__ == "__main__":
    if not hasattr(leases, "LEASE_STAMP_ERROR_MS"):
        sys.exit("artemis.leases has no LEASE_STAMP_ERROR_MS")
    leases.LEASE_STAMP_ERROR_MS = int(os.environ["LEASES_SHIFTED_MS"])
    sys.exit(main())
