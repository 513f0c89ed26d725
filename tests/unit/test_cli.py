"""The command line: help from the table, one-line errors, exit codes, real processes where only those can tell."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artemis.api import cli
from artemis.api.config import Config, settings
from artemis.api.config_kinds import Address
from artemis.api.serve import StartError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations with which a node would have been run; no ``ARTEMIS_`` variable leaks in from outside."""
    configs: list[Config] = []

    def run_node(config: Config, *, rejoin: bool) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(cli, "run_node", run_node)
    for name in [name for name in os.environ if name.startswith("ARTEMIS_")]:
        monkeypatch.delenv(name)
    return configs


def test_every_setting_has_a_flag_that_reaches_the_node(started: list[Config], tmp_path: Path) -> None:
    values: dict[str, str | bool] = {
        "node_id": "n2",
        "peers": "n1=127.0.0.1:1,n2=127.0.0.1:2",
        "raft_listen": "127.0.0.1:2",
        "data_dir": str(tmp_path),
        "cluster_name": "other",
        "secret_file": str(tmp_path / "secret"),
        "insecure": True,
        "listen": "127.0.0.1:3",
        "advertise": "http://127.0.0.1:4",
        "region": "r",
        "zone": "z",
        "any_region": False,
        "any_zone": False,
        "contexts": "/x",
        "snake_default": False,
        "reads_default": "stale",
        "reads_without_quorum": "stale",
        "rate_limiting": False,
        "rate_limits": "register:5",
        "request_timeout_ms": "5",
        "request_timeout_ms_max": "6",
        "body_bytes_max": "7",
        "items_max": "15",
        "cache_bytes_max": "8",
        "connections_max": "9",
        "sockets_max": "8",
        "watch_wait_ms_max": "13",
        "watch_bookmark_ms": "14",
        "change_cache_bytes_max": "12",
        "keep_alive_s": "10",
        "shutdown_timeout_s": "11",
        "default_ttl_ms": "2000",
        "java_registry_ttl_ms": "2001",
        "snake_ttl_ms": "2002",
        "ttl_ms_min": "1999",
        "ttl_ms_max": "2003",
        "protection": False,
        "protection_share_percent": "16",
        "protection_leases_min": "17",
        "protection_window_ms": "1018",
        "protection_hold_ms": "1019",
        "push_session_ms": "1020",
        "push_subscriptions_max": "21",
        "push_heartbeat_timeout_ms": "22",
        "push_message_bytes_max": "1024",
        "push_reload_on_subscribe": False,
        "push_heartbeat_denied": "10.0.0.1",
        "push_discovery_denied": "10.0.0.2",
        "push_discoveries_denied": "10.0.0.3",
        "heartbeat_ms": "50",
        "election_timeout_ms": "200",
        "log_level": "debug",
        "log_format": "json",
    }
    args: list[str] = []
    for setting in settings():
        value = values[setting.key]
        if isinstance(value, bool):
            args.append(setting.flag if value else f"--no-{setting.flag[2:]}")
        else:
            args += [setting.flag, value]
    assert cli.main(args) == 0
    (config,) = started
    shown = {setting.key: setting.kind.show(getattr(config, setting.key)) for setting in settings()}
    assert shown == {key: str(value).lower() if isinstance(value, bool) else value for key, value in values.items()}


def test_environment_and_file_are_read(started: list[Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('region = "file"\nlisten = "127.0.0.1:5"\n', encoding="utf-8")
    monkeypatch.setenv("ARTEMIS_LISTEN", "127.0.0.1:6")
    assert cli.main(["--config", str(path), "--zone", "flag"]) == 0
    (config,) = started
    assert (config.region, config.zone, config.listen) == ("file", "flag", Address("127.0.0.1", 6))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--node-id", "n4", "--peers", "n1=h:1"], ["--node-id = n4", "n1"]),
        (["--nod-id", "n1"], ["--nod-id"]),
        (["--node-id"], ["--node-id", "argument"]),
        (["extra"], ["extra"]),
        (["--heartbeat-ms", "fast"], ["--heartbeat-ms = fast", "an integer, 10 to 60000"]),
    ],
)
def test_a_usage_error_is_one_line_on_stderr_and_exit_code_2(
    started: list[Config], capsys: pytest.CaptureFixture[str], args: list[str], parts: list[str]
) -> None:
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("artemis-node: error: ")
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err
    assert started == []


def test_a_start_failure_is_one_line_on_stderr_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_node(config: Config, *, rejoin: bool) -> int:
        raise StartError("the journal\nis damaged")

    monkeypatch.setattr(cli, "run_node", run_node)
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "artemis-node: error: the journal is damaged\n"


def test_help_shows_each_setting_with_default_and_environment_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for setting in settings():
        assert setting.flag in words
        # Help may break a line inside any text, also after a hyphen.
        expected = cli.help_line(setting).replace(" ", "")
        assert expected in words.replace(" ", ""), setting.key
    for code in ("0 stopped by a signal", "1 could not start", "2 wrong flag or setting", "70 stopped itself"):
        assert code in words


@pytest.mark.parametrize("rejoin", [False, True])
def test_rejoin_is_a_flag_for_one_start_and_no_setting(monkeypatch: pytest.MonkeyPatch, rejoin: bool) -> None:
    seen: list[bool] = []

    def run_node(config: Config, *, rejoin: bool) -> int:
        seen.append(rejoin)
        return 0

    monkeypatch.setattr(cli, "run_node", run_node)
    two = ["--node-id=n1", "--peers=n1=127.0.0.1:1,n2=127.0.0.1:2", "--raft-listen=127.0.0.1:1"]
    assert cli.main([*two, "--rejoin"] if rejoin else two) == 0
    assert seen == [rejoin]
    assert "rejoin" not in {setting.key for setting in settings()}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("artemis-node, version ")


# -- real processes ---------------------------------------------------------------------------------------------------


def node(*args: str, cwd: Path, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command to its end; ``before`` runs in its process first."""
    command = [str(Path(sys.executable).parent / "artemis-node"), *args]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ARTEMIS_")}
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False, preexec_fn=before
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize("taken", ["listen", "raft_listen"])
def test_an_address_in_use_is_one_line_and_exit_code_1_and_nothing_is_written(taken: str, tmp_path: Path) -> None:
    with socket.socket() as other, socket.socket() as free:
        other.bind(("127.0.0.1", 0))
        other.listen()
        free.bind(("127.0.0.1", 0))
        used, unused = other.getsockname()[1], free.getsockname()[1]
        free.close()
        listen, raft = (used, unused) if taken == "listen" else (unused, used)
        result = node(
            "--node-id=n1",
            f"--listen=127.0.0.1:{listen}",
            f"--raft-listen=127.0.0.1:{raft}",
            f"--peers=n1=127.0.0.1:{raft},n2=127.0.0.1:1",
            cwd=tmp_path,
        )
    assert result.returncode == 1
    assert (
        result.stderr
        == f"artemis-node: error: {taken} = 127.0.0.1:{used}: cannot listen there: Address already in use\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_others_may_read_is_exit_code_2(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef")
    secret.chmod(0o644)
    result = node("--secret-file", str(secret), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"chmod 600 {secret}" in result.stderr


def test_a_data_directory_that_cannot_be_made_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = node(f"--listen=127.0.0.1:{_free_port()}", "--data-dir=file/below", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "artemis-node: error: data_dir = file/below: cannot be created: Not a directory\n"


def test_a_data_directory_that_is_a_file_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = node(f"--listen=127.0.0.1:{_free_port()}", "--data-dir=file", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "artemis-node: error: data_dir = file: is not a directory\n"


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a directory in which nobody can make a file")
def test_a_data_directory_that_cannot_be_written_says_who_must_be_able_to(tmp_path: Path) -> None:
    result = node(f"--listen=127.0.0.1:{_free_port()}", "--data-dir=/sys", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("artemis-node: error: data_dir = /sys: lock: ")
    assert f"uid {os.geteuid()} must be able to write there" in result.stderr
    assert result.stderr.count("\n") == 1


def test_too_few_open_files_are_exit_code_1_with_the_number_needed(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))

    result = node(f"--listen=127.0.0.1:{_free_port()}", cwd=tmp_path, before=limit)
    assert result.returncode == 1
    assert "the limit of open files is 150; more than 200 are needed" in result.stderr
    assert result.stderr.count("\n") == 1


def test_rejoin_without_other_members_is_refused(
    started: list[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty node would found a new cluster of one, and look like one that had taken its state from somewhere."""
    assert cli.main(["--rejoin"]) == 2
    assert "--rejoin: a cluster of one has no other member" in capsys.readouterr().err
    monkeypatch.setenv("ARTEMIS_REJOIN", "true")
    assert cli.main([]) == 2
    assert "unknown setting; --rejoin is a flag only" in capsys.readouterr().err
    assert started == []


def test_rejoin_is_a_decision_for_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or an environment that held it would silently take a member's data for gone at every restart."""
    seen: list[bool] = []

    def run_node(config: Config, *, rejoin: bool) -> int:
        seen.append(rejoin)
        return 0

    monkeypatch.setattr(cli, "run_node", run_node)
    two = ["--node-id=n1", "--peers=n1=127.0.0.1:1,n2=127.0.0.1:2", "--raft-listen=127.0.0.1:1"]
    assert cli.main([]) == 0
    assert cli.main([*two, "--rejoin"]) == 0
    assert seen == [False, True]
    assert "rejoin" not in {setting.key for setting in settings()}
