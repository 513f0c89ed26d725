"""One way to run property tests: the same examples every time, judged by what they do and not by how long they take.
And ``--golden-update``, which rewrites the golden files from what the application answers."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-update", action="store_true", help="rewrite tests/contract/golden/cases from what is answered now"
    )
