"""The planted bugs by name, for plans that show one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """With the guard of that name switched off; ``""``: with all of them. Raises ``ValueError``."""
    if not name:
        yield
        return
    switches = _switches()
    if name not in switches:
        raise ValueError(f"plant: {name!r} is not one of {', '.join(switches)}")
    with pytest.MonkeyPatch.context() as patch:
        switches[name](patch)
        yield


def _switches() -> Mapping[str, Callable[[pytest.MonkeyPatch], None]]:
    from tests.simulation import mutants  # they import the scenario, which needs none of this

    return {planted.plant.__name__: planted.plant for planted in mutants.MUTANTS.values()}
