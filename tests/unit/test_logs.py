"""Log lines: one record is one line (and its traceback), for people or as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from artemis.api import logs


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    names = ("uvicorn.error", "asyncio")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


def test_text_lines_carry_time_level_logger_message_and_extra(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logging.getLogger("artemis.x").warning("lost %s", "n2", extra={"peer": "n2"})
    logging.getLogger("artemis.x").debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    time, rest = line.split(" ", 1)
    assert len(time) == len("2026-01-31T12:00:00.000Z")
    assert time.endswith("Z")
    assert rest == "warning artemis.x: lost n2 peer=n2"


def test_json_lines_are_objects_with_extra_fields_and_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("artemis.x").exception("failed", extra={"port": 9, "where": {"not", "json"} - {"not"}})
    (line,) = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert document["level"] == "error"
    assert document["logger"] == "artemis.x"
    assert document["message"] == "failed"
    assert document["port"] == 9
    assert document["where"] == "{'json'}"
    assert document["exception"].endswith("ValueError: line one\nline two")


def test_a_stranger_cannot_fill_the_log_through_the_http_server(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert capsys.readouterr().err == ""
