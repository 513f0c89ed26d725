"""What an operator is told to do about a member whose files cannot be used."""

from __future__ import annotations

from typing import Final

REPLACE: Final = (
    "empty the directory and start this member once with --rejoin. An older copy of the files will not do: it lacks"
    " what was acknowledged since (a cluster of one has nothing else)"
)
