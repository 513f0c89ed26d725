"""strace on a running process, and its output as calls that begin and end.

Only what the audit needs: system calls on one file descriptor, with the bytes they carry. ``-yy`` names the file or the
two ends of the connection behind each descriptor, ``-xx`` prints every byte in hex.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CALLS = ("write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg", "fsync", "fdatasync")
ATTACH_S = 10.0
_STRING_BYTES_MAX = 64 * 1024 * 1024

_BEGIN = re.compile(r"^(\d+) +(\w+)\(\d+<(TCP(?:v6)?:\[[^]]*\]|[^>]*)>(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+|\?)[^\"]*$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_UNFINISHED = "<unfinished ...>"


class TraceError(Exception):
    """The process cannot be traced, or the trace cannot be read; nothing is known about the process."""


@dataclass(frozen=True, slots=True)
class Call:
    """The begin or the end of a system call, in the order in which strace saw them.

    ``target``: a path, or ``TCP:[from->to]``. ``data``: all that the call asked to write. ``result``: at the end, what
    it returned, negative when it failed or never returned.
    """

    moment: Literal["begin", "end"]
    thread: int
    name: str
    target: str
    data: bytes
    result: int = 0


class Strace:
    """Traces the process ``pid`` into ``output`` while the context is open. Raises ``TraceError``."""

    def __init__(self, pid: int, output: Path) -> None:
        self._pid = pid
        self.output = output
        self._messages = output.with_suffix(".messages")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Strace:
        if shutil.which("strace") is None:
            raise TraceError("strace is not installed: apt-get install strace")
        options = [
            "-f",
            "-yy",
            "-xx",
            "-s",
            str(_STRING_BYTES_MAX),
            "-e",
            f"trace={','.join(CALLS)}",
            "-e",
            "signal=none",
        ]
        command = ["strace", *options, "-o", str(self.output), "-p", str(self._pid)]
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
        deadline = time.monotonic() + ATTACH_S
        while " attached" not in (said := self._messages.read_text(errors="replace")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise TraceError(said.strip() or "strace does not attach")
            time.sleep(0.01)
        return self

    def __exit__(self, *_error: object) -> None:
        """Detach; the process goes on. Safe when it has ended."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(ATTACH_S)


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a trace. Lines of other kinds (a thread's exit, a signal) are passed over. Raises ``TraceError``."""
    unfinished: dict[int, Call] = {}
    for line in lines:
        resumed = _RESUMED.match(line)
        if resumed is not None:
            begun = unfinished.pop(int(resumed[1]), None)
            if begun is not None:  # else it began before the trace did
                yield _end(begun, resumed[3])
            continue
        found = _BEGIN.match(line)
        if found is None or found[2] not in CALLS:
            continue
        thread, name, rest = int(found[1]), found[2], found[4]
        begun = Call("begin", thread, name, _readable(found[3]), _bytes_in(rest))
        yield begun
        if rest.rstrip().endswith(_UNFINISHED):
            unfinished[thread] = begun
        else:
            yield _end(begun, rest)


def _end(begun: Call, rest: str) -> Call:
    result = _RESULT.search(rest.rstrip())
    value = int(result[1]) if result is not None and result[1] != "?" else -1
    return Call("end", begun.thread, begun.name, begun.target, begun.data, value)


def _bytes_in(arguments: str) -> bytes:
    parts = []
    for found in _STRING.finditer(arguments):
        if found[2]:
            raise TraceError(f"strace printed only a part of {len(found[1]) // 4} bytes and more")
        parts.append(bytes.fromhex(found[1].replace("\\x", "")))
    return b"".join(parts)


def _readable(name: str) -> str:
    """``-xx`` prints paths in hex too."""
    return bytes.fromhex(name.replace("\\x", "")).decode(errors="replace") if name.startswith("\\x") else name
