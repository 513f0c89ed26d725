"""``docs/guarantees.md``: every promise names tests that exist, and its numbers are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from artemis.api.settings import HttpSettings
from artemis.consensus.leaseclock import STEP_MAX_MS
from artemis.consensus.standing import BEHIND_SECONDS
from artemis.consensus.timing import Timing
from artemis.leases import LEASE_STAMP_ERROR_MS
from artemis.protection import ProtectionSettings
from artemis.registry import StateLimits

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
NOT_PROMISED = "Not promised"
LINES_MAX = 120

CITATION = re.compile(r"\[(tests/[^\]\s]*)\]")
CITATIONS = re.compile(rf"(?:\s*{CITATION.pattern})+")
MARK = "\N{SECTION SIGN}"
SENTENCE_END = re.compile(r"[.!?](?=\s+\S)")


def sections(page: str) -> dict[str, str]:
    """Heading -> text. What stands before the first heading of the second level is no promise."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def paragraphs(text: str) -> Iterator[str]:
    """Bullets and paragraphs, each on one line."""
    for part in re.split(r"\n\s*\n|^- ", text, flags=re.MULTILINE):
        if part.strip():
            yield " ".join(part.split())


def uncited(text: str) -> Iterator[str]:
    """Sentences of a section that no citation follows."""
    for paragraph in paragraphs(text):
        *cited, rest = CITATIONS.sub(MARK, paragraph).split(MARK)
        if rest.strip():
            yield rest.strip()
        for piece in cited:
            *before, last = SENTENCE_END.split(piece)
            yield from (sentence.strip() for sentence in before)
            if not last.rstrip().endswith("."):
                yield last.strip()


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions in a file, which is not imported."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def exists(citation: str) -> bool:
    file, _, name = citation.partition("::")
    path = ROOT / file
    return path.name.startswith("test_") and path.is_file() and name in names_in(path)


def test_every_promise_names_a_test() -> None:
    promises = sections(PAGE.read_text("utf-8"))
    assert promises.pop(NOT_PROMISED), "the page says what it does not promise"
    assert len(promises) >= 8
    missing = [sentence for text in promises.values() for sentence in uncited(text)]
    assert not missing, missing


def test_every_test_named_exists() -> None:
    cited = CITATION.findall(PAGE.read_text("utf-8"))
    assert len(cited) >= 40
    gone = sorted({citation for citation in cited if not exists(citation)})
    assert not gone, gone


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- One. [tests/a.py::test_x]\n- Two.\n  [tests/a.py::test_x] [tests/a.py::test_y]\n", []),
        ("- One. Two. [tests/a.py::test_x]\n", ["One"]),
        ("- One. [tests/a.py::test_x] Two.\n", ["Two."]),
        ("- One\n  is long. [tests/a.py::test_x]\n\nA paragraph.\n", ["A paragraph."]),
        ("- No end [tests/a.py::test_x]\n", ["No end"]),
        ("- See [a page](other.md).\n", ["See [a page](other.md)."]),
    ],
)
def test_a_sentence_without_a_citation_is_seen(text: str, found: list[str]) -> None:
    assert list(uncited(text)) == found


@pytest.mark.parametrize(
    ("citation", "there"),
    [
        ("tests/unit/test_guarantees.py::test_every_test_named_exists", True),
        ("tests/unit/test_guarantees.py::test_nobody_wrote_this", False),
        ("tests/unit/test_guarantees.py::exists", False),
        ("tests/unit/test_guarantees.py", False),
        ("tests/unit/test_no_such_file.py::test_x", False),
        ("tests/simulation/directed.py::test_x", False),
    ],
)
def test_a_citation_of_nothing_is_seen(citation: str, there: bool) -> None:
    assert exists(citation) is there


def test_numbers_are_those_of_the_code() -> None:
    timing, limits, http, protection = Timing(), StateLimits(), HttpSettings(), ProtectionSettings()
    text = " ".join(PAGE.read_text("utf-8").split())
    step = f"{timing.lease_step_ms} ms + {timing.timer_ms} ms"
    for words in (
        f"TTL + {LEASE_STAMP_ERROR_MS} ms + {step} + two commits",
        f"counts as {STEP_MAX_MS} ms at most",
        f"for {limits.request_window_ms // 60_000} minutes",
        f"the last {limits.requests_max:,} requests",
        f"back {limits.changes_max:,} changes",
        f"{limits.change_bytes_max // 2**20} MiB",
        f"{http.request_timeout_ms:,} ms unless",
        f"older than {BEHIND_SECONDS} s",
        f"less than {LEASE_STAMP_ERROR_MS} ms",
        f"beyond {LEASE_STAMP_ERROR_MS} ms",
        f"{limits.evictions_max:,} leases that end at once",
        f"{protection.leases_min} leases or more, and over {protection.share_percent} %",
        f"within {protection.window_ms // 1000} s, the rest is held",
        f"{protection.hold_ms // 60_000} minutes after its deadline",
    ):
        assert words in text


def test_the_page_stays_short_enough_to_be_read() -> None:
    assert len(PAGE.read_text("utf-8").splitlines()) <= LINES_MAX
