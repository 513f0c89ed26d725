"""Where benchmarks keep the data of the nodes they start, and what they found."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory for the data of one run, removed at its end.

    Beside the results and not under /tmp, which is memory on many machines: fsync would cost nothing there.
    """
    RESULTS.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=RESULTS))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
