"""Ends the processes of a harness that died without its teardown (a kill -9, a time-out of the test runner).

A child of the harness. It reads ``+PID`` and ``-PID`` lines from its standard input, a pipe that nobody else holds, and
at the end of that input kills what is still listed. Stopped processes are covered: SIGKILL does not need SIGCONT.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import IO


class Reaper:
    """The harness's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__], stdin=subprocess.PIPE, start_new_session=True, close_fds=True
        )

    def watch(self, pid: int) -> None:
        self._write(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Call it after the process was waited for, or its number may by then belong to another."""
        self._write(f"-{pid}\n")

    def close(self) -> None:
        """End of the harness: what is still watched is killed."""
        pipe = self._pipe()
        if not pipe.closed:
            pipe.close()
        self._process.wait(timeout=10)

    def _write(self, line: str) -> None:
        pipe = self._pipe()
        pipe.write(line.encode())
        pipe.flush()

    def _pipe(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise RuntimeError("the reaper was started without a pipe")
        return self._process.stdin


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the harness, whose teardown comes first
    pids: set[int] = set()
    for line in sys.stdin:
        (pids.add if line[0] == "+" else pids.discard)(int(line[1:]))
    for pid in sorted(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
