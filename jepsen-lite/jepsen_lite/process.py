"""One node process: start, signal, reap. Every signal goes to the process id recorded at the start."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from jepsen_lite.reaper import Reaper

State = Literal["running", "paused", "dead"]
REAP_S = 10.0
"""How long a process may take to vanish after SIGKILL; more means the machine is in trouble."""


class NodeProcess:
    """A process with a command that stays the same over restarts. Output is appended to ``log_path``."""

    def __init__(self, node_id: str, command: Sequence[str], log_path: Path, environment: Mapping[str, str]) -> None:
        self.node_id = node_id
        self.command = tuple(command)
        self.log_path = log_path
        self.environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._reaper: Reaper | None = None

    @property
    def pid(self) -> int:
        return self._live().pid

    @property
    def state(self) -> State:
        """What the process is now; one that ended by itself is ``dead``."""
        if self._process is None or self._process.poll() is not None:
            return "dead"
        return "paused" if self._paused else "running"

    @property
    def exit_code(self) -> int | None:
        """Of the last start: None while it runs, minus the signal number when a signal ended it."""
        return None if self._process is None else self._process.poll()

    def start(self, reaper: Reaper) -> None:
        if self.state != "dead":
            raise RuntimeError(f"{self.node_id} runs already as process {self.pid}")
        self._forget()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_inherited() | self.environment,
                start_new_session=True,  # a Ctrl-C at the terminal is for the harness alone
            )
        self._paused = False
        self._reaper = reaper
        reaper.watch(self._process.pid)

    def strike(self) -> None:
        """Send SIGKILL and return at once; ``reap`` waits. A dead process stays dead."""
        if self.state != "dead":
            self._live().kill()

    def reap(self) -> None:
        """Wait until a process that was struck is gone."""
        if self._process is not None:
            self._process.wait(REAP_S)
        self._forget()

    def pause(self) -> None:
        """SIGSTOP, and wait until every thread has stopped: the signal is sent before it acts, and a thread on
        another core may answer one more request meanwhile."""
        self._signal(signal.SIGSTOP)
        self._paused = True
        deadline = time.monotonic() + REAP_S
        while not all(state in "Tt" for state in self._thread_states()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.node_id} (process {self.pid}) does not stop")
            time.sleep(0.001)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self._paused = False

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM, and its exit code. Raises ``subprocess.TimeoutExpired`` when it does not end in time."""
        self._signal(signal.SIGTERM)
        code = self._live().wait(timeout_s)
        self._forget()
        return code

    def wait(self, timeout_s: float) -> int:
        """The exit code of a process that ends by itself."""
        code = self._live().wait(timeout_s)
        self._forget()
        return code

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log, for error texts."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _thread_states(self) -> list[str]:
        """The kernel's state letter of each thread (proc_pid_stat(5), the field after the parenthesised name)."""
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]

    def _signal(self, number: signal.Signals) -> None:
        process = self._live()
        if process.poll() is not None:
            raise RuntimeError(f"{self.node_id} ended with {process.returncode}:\n{self.log_tail()}")
        process.send_signal(number)

    def _live(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.node_id} was never started")
        return self._process

    def _forget(self) -> None:
        if self._process is not None and self._reaper is not None:
            self._reaper.forget(self._process.pid)
            self._reaper = None


def _inherited() -> dict[str, str]:
    """The harness's environment without the node's own settings: a shell that runs a node must not change a test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ARTEMIS_")}
