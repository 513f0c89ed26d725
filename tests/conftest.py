"""One way to run property tests: the same examples every time, judged by what they do and not by how long they take."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")
