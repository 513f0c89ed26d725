"""``make run`` and ``make demo`` as a newcomer meets them, on free ports and in a temporary directory."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.local_cluster import free_ports

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
RUN = """
import sys
from pathlib import Path
from tools.run import main
ports = [int(port) for port in sys.argv[2:]]
sys.exit(main(Path(sys.argv[1]), ports[:3], ports[3:]))
"""


class Terminal:
    """A program in the foreground; what it prints is in a file."""

    def __init__(self, path: Path, *command: str) -> None:
        self._path = path
        with path.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    @property
    def text(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, text)
        assert text in self.text, self.text

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.02)


def processes_of(directory: Path) -> list[str]:
    """Command lines of nodes with their data below the directory."""
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"--data-dir {directory}/" in line]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*command: str) -> Terminal:
        opened.append(Terminal(tmp_path / f"output-{len(opened)}", sys.executable, *command))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.process.terminate()
        each.process.wait(DEADLINE_S)


def test_run_prints_lines_that_work_and_finds_its_data_again(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("the lines to paste are curl lines, and curl is not installed")
    directory = tmp_path / "data"
    run = ("-c", RUN, str(directory), *map(str, free_ports(6)))
    first = terminal(*run)
    first.wait_for("Ctrl-C stops the cluster.")
    lines = [line for line in first.text.splitlines() if line.startswith("curl ")]
    answers = [subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout for line in lines]
    assert len(answers) == 3
    assert all('"error_code":"success"' in answer for answer in answers)
    assert '"instance_id":"orders-1"' in answers[1]

    second = terminal(*run)
    assert second.process.wait(DEADLINE_S) == 1
    assert re.fullmatch(r"make run: port \d+, meant for n1, cannot be used: Address already in use\n", second.text)

    victim = re.search(r"n2  http://\S+  pid (\d+) ", first.text)
    assert victim is not None
    assert len(processes_of(directory)) == 3
    subprocess.run(["kill", "-9", victim[1]], check=True)
    first.wait_for("n2 ended with exit code -9; 2 left, the cluster goes on.")
    assert first.interrupt() == 0
    assert "stopped: n1 exit 0, n3 exit 0" in first.text
    assert processes_of(directory) == []

    again = terminal(*run)
    again.wait_for("Ctrl-C stops the cluster.")
    assert "with the data found in" in again.text
    found = subprocess.run(lines[1], shell=True, capture_output=True, text=True, check=True).stdout
    assert '"instance_id":"orders-1"' in found
    assert again.interrupt() == 0


def test_the_demo_ends_by_itself_and_succeeds(terminal: Callable[..., Terminal]) -> None:
    demo = terminal("-m", "tools.demo")
    assert demo.process.wait(2 * DEADLINE_S) == 0, demo.text
    assert "WRONG" not in demo.text
    assert demo.text.rstrip().endswith("The story went as promised.")


def test_an_interrupted_demo_fails_and_leaves_no_process_and_no_file(terminal: Callable[..., Terminal]) -> None:
    demo = terminal("-m", "tools.demo")
    demo.wait_for("n1 is ready")
    started = re.search(r"Start three nodes in (\S+)", demo.text)
    assert started is not None
    directory = Path(started[1])
    # The story goes on meanwhile and may be between killing the leader and starting it again.
    assert len(processes_of(directory)) >= 2
    assert demo.interrupt() != 0
    assert processes_of(directory) == []
    assert not directory.exists()
