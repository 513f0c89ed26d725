"""Settings: one table feeds flags, environment, TOML and the reference page; what is wrong is one line with the key."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from artemis.api.config import Config, ConfigError, settings
from artemis.api.config_checks import http_settings, read_secret
from artemis.api.config_kinds import Address
from artemis.api.config_sources import load
from artemis.api.settings import HttpSettings
from tools import reference

ROOT = Path(__file__).parents[2]
PEERS = "n1=127.0.0.1:9081,n2=127.0.0.1:9082,n3=127.0.0.1:9083"
MEMBER = {"node_id": "n1", "peers": PEERS, "raft_listen": "127.0.0.1:9081"}


def read(flags: Mapping[str, str | bool] | None = None, **environ: str) -> Config:
    return load(flags or {}, environ)


def refused(flags: Mapping[str, str | bool] | None = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# -- defaults and precedence ------------------------------------------------------------------------------------------


def test_without_any_setting_it_is_a_one_node_cluster_on_loopback() -> None:
    config = read()
    assert config.node_id == "n1"
    assert list(config.peers) == ["n1"]
    assert config.raft_listen is None
    assert config.listen == Address("127.0.0.1", 8080)
    assert config.advertise == "http://127.0.0.1:8080"
    assert config.data_dir == Path(".artemis/n1")


def test_a_member_knows_every_peer_in_the_order_given() -> None:
    config = read({**MEMBER, "listen": "127.0.0.1:8081"})
    assert dict(config.peers) == {f"n{n}": Address("127.0.0.1", 9080 + n) for n in (1, 2, 3)}
    assert config.advertise == "http://127.0.0.1:8081"


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    path = toml(tmp_path, 'region = "file"\nzone = "file"\nlog_level = "error"\n')
    config = load({"region": "flag"}, {"ARTEMIS_REGION": "env", "ARTEMIS_ZONE": "env"}, path)
    assert (config.region, config.zone, config.log_level, config.log_format) == ("flag", "env", "error", "text")


def test_the_file_is_named_by_the_flag_or_else_by_the_environment(tmp_path: Path) -> None:
    path = toml(tmp_path, 'region = "file"\n')
    assert read(ARTEMIS_CONFIG=path).region == "file"
    assert load({}, {"ARTEMIS_CONFIG": str(tmp_path / "missing")}, path).region == "file"


def test_an_empty_environment_variable_counts_as_not_set() -> None:
    assert read(ARTEMIS_LISTEN="").listen == Config.listen


def test_peers_may_be_a_toml_table(tmp_path: Path) -> None:
    path = toml(tmp_path, 'node_id = "a"\n[peers]\na = "127.0.0.1:1"\n')
    assert load({}, {}, path).peers == {"a": Address("127.0.0.1", 1)}


def test_booleans_and_lists_from_each_source(tmp_path: Path) -> None:
    path = toml(tmp_path, 'snake_default = false\ncontexts = ["/artemis-service", "/a/b"]\n')
    from_file = load({}, {}, path)
    assert from_file.snake_default is False
    assert from_file.contexts == ("/artemis-service", "/a/b")
    assert load({"snake_default": True}, {}, path).snake_default is True
    from_environment = read(ARTEMIS_SNAKE_DEFAULT="false", ARTEMIS_CONTEXTS="/x,/y")
    assert from_environment.snake_default is False
    assert from_environment.contexts == ("/x", "/y")


def test_rate_limits_are_a_table_or_pairs(tmp_path: Path) -> None:
    path = toml(tmp_path, "[rate_limits]\nregister = 5\nget-leases = 6\n")
    assert load({}, {}, path).rate_limits == {"register": 5, "get-leases": 6}
    assert read(ARTEMIS_RATE_LIMITS="register:5, get-leases: 6").rate_limits == {"register": 5, "get-leases": 6}
    for wrong in ("register", "register:x", "lookup:5", "register:0"):
        with pytest.raises(ConfigError, match="ARTEMIS_RATE_LIMITS = "):
            read(ARTEMIS_RATE_LIMITS=wrong)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    config = read({"listen": "[::1]:8080"})
    assert config.listen == Address("::1", 8080)
    assert config.advertise == "http://[::1]:8080"


def test_snake_ttl_is_a_setting_of_its_own() -> None:
    assert read(ARTEMIS_DEFAULT_TTL_MS="7000").snake_ttl_ms == 90_000
    assert read(ARTEMIS_SNAKE_TTL_MS="7000").snake_ttl_ms == 7_000


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({**MEMBER, "node_id": "n4"}, ["--node-id = n4", "n1, n2, n3"]),
        ({"peers": PEERS, "raft_listen": "127.0.0.1:9081"}, ["node_id is missing", "n1, n2, n3"]),
        ({"node_id": "n1", "peers": PEERS}, ["raft_listen is not set", "host:port"]),
        ({"raft_listen": "127.0.0.1:9081"}, ["--raft-listen = 127.0.0.1:9081", "peers"]),
        ({**MEMBER, "raft_listen": "127.0.0.1:9082"}, ["--raft-listen = 127.0.0.1:9082", "member n2"]),
        ({**MEMBER, "listen": "127.0.0.1:9081"}, ["--listen = 127.0.0.1:9081", "raft_listen"]),
        ({"node_id": "n1", "peers": "n1=h:1,n1=h:2"}, ["--peers = ", "two members have the id n1"]),
        ({"node_id": "n1", "peers": "n1=h:1,n2=H:1"}, ["--peers = ", "n1 and n2", "address"]),
        ({"node_id": "n1", "peers": "n1=0.0.0.0:1"}, ["--peers = ", "0.0.0.0"]),
        ({"node_id": "n1", "peers": "n1"}, ["--peers = n1", "id=host:port"]),
        ({"node_id": "n1", "peers": "n1=h:0"}, ["--peers = ", "member n1=h:0", "1 to 65535"]),
        ({"node_id": "../n1"}, ["--node-id = ../n1", "letters"]),
        ({"listen": "8080"}, ["--listen = 8080", "host:port"]),
        ({"listen": "127.0.0.1:65536"}, ["--listen = 127.0.0.1:65536", "1 to 65535"]),
        ({"listen": "0.0.0.0:80", "advertise": "http://h"}, ["--listen = 0.0.0.0:80", "secret_file", "insecure"]),
        ({"listen": "example.org:80"}, ["--listen = example.org:80", "secret_file"]),
        ({**MEMBER, "raft_listen": "0.0.0.0:9081"}, ["--raft-listen = 0.0.0.0:9081", "secret_file", "insecure"]),
        ({"listen": "0.0.0.0:80", "insecure": True}, ["advertise = http://0.0.0.0:80 (default)", "must be set"]),
        ({"advertise": "ftp://h"}, ["--advertise = ftp://h", "http://"]),
        ({"advertise": "http://u:p@h"}, ["--advertise = ", "without user"]),
        ({"advertise": "http://0.0.0.0:1"}, ["--advertise = ", "0.0.0.0"]),
        ({"election_timeout_ms": "300"}, ["--election-timeout-ms = 300", "three times heartbeat_ms (100)"]),
        ({"heartbeat_ms": "400"}, ["election_timeout_ms = 500 (default)", "heartbeat_ms (400)"]),
        ({"heartbeat_ms": "0.1"}, ["--heartbeat-ms = 0.1", "an integer, 10 to 60000"]),
        ({"default_ttl_ms": "10"}, ["--default-ttl-ms = 10", "1000"]),
        ({"ttl_ms_max": "5000"}, ["default_ttl_ms = 20000 (default)", "5000"]),
        ({"request_timeout_ms": "99999"}, ["--request-timeout-ms = 99999", "30000"]),
        ({"log_level": "loud"}, ["--log-level = loud", "debug, info, warning or error"]),
        ({"any_region": False}, ["--any-region = false", "region"]),
        ({"contexts": "service/"}, ["--contexts = service/", "/artemis-service"]),
        ({"region": "a\nb"}, ["--region = 'a\\nb'", "printable"]),
    ],
)
def test_a_wrong_flag_is_one_line_with_key_value_and_what_is_allowed(
    flags: Mapping[str, str | bool], parts: list[str]
) -> None:
    message = refused(flags)
    for part in parts:
        assert part in message


def test_a_wrong_environment_variable_is_named() -> None:
    assert "ARTEMIS_HEARTBEAT_MS = x: must be an integer" in refused(ARTEMIS_HEARTBEAT_MS="x")


def test_an_unknown_environment_variable_is_refused_because_a_slip_would_start_another_cluster() -> None:
    message = refused(ARTEMIS_PEER=PEERS)
    assert "ARTEMIS_PEER = " in message
    assert "did you mean ARTEMIS_PEERS?" in message


def test_the_variables_kubernetes_sets_for_a_service_called_artemis_are_not_ours() -> None:
    config = read(
        ARTEMIS_SERVICE_HOST="10.0.0.1",
        ARTEMIS_SERVICE_PORT="80",
        ARTEMIS_SERVICE_PORT_HTTP="80",
        ARTEMIS_PORT="tcp://10.0.0.1:80",
        ARTEMIS_PORT_80_TCP_ADDR="10.0.0.1",
        ARTEMIS_UI_SERVICE_HOST="10.0.0.2",
    )
    assert config == read()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('peer = "n1=h:1"', ['peer = "n1=h:1"', "unknown setting", "did you mean peers?"]),
        ("[server]\nlisten = 1", ["server", "unknown setting"]),
        ('heartbeat_ms = "100"', ['heartbeat_ms = "100"', "an integer"]),
        ("heartbeat_ms = true", ["heartbeat_ms = true", "an integer"]),
        ("insecure = 1", ["insecure = 1", "true or false"]),
        ("listen = 8080", ["listen = 8080", "host:port"]),
        ('region = "a\\nb"', ['region = "a\\nb"', "printable"]),
        ('contexts = "/a"', ['contexts = "/a"', "a list"]),
        ("[peers]\nn1 = 9081", ["peers", "member n1", "host:port"]),
        ("listen = ", ["is not TOML", "Invalid value"]),
        ('listen = "a"\nlisten = "b"', ["is not TOML"]),
    ],
)
def test_a_wrong_toml_file_is_one_line_with_its_path(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load({}, {}, path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [path, *parts]:
        assert part in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load({}, {}, str(tmp_path / "missing.toml"))


# -- the secret -------------------------------------------------------------------------------------------------------


def secret_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    assert read_secret(secret_file(tmp_path, b"0123456789abcdef\r\n")) == b"0123456789abcdef"


@pytest.mark.parametrize("content", [b"", b"\n", b"0123456789abcde\n", b"x" * 65_537])
def test_a_secret_that_is_empty_short_or_huge_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"secret_file = .* must be 16 to 65536"):
        read_secret(secret_file(tmp_path, content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_open_to_others_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, b"0123456789abcdef", mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {re.escape(str(path))}"):
        read_secret(path)


@pytest.mark.parametrize(
    ("owner", "user", "mode", "taken"),
    [
        (0, 10001, 0o640, True),  # a Kubernetes secret with fsGroup
        (0, 10001, 0o644, False),
        (0, 10001, 0o660, False),
        (0, 0, 0o640, False),
        (10001, 10001, 0o640, False),
        (10002, 10001, 0o640, False),
    ],
)
def test_only_a_secret_of_roots_may_be_readable_by_the_nodes_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, user: int, mode: int, taken: bool
) -> None:
    path = secret_file(tmp_path, b"0123456789abcdef", mode)
    real = Path.stat

    def of_owner(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(real(self, follow_symlinks=follow_symlinks))
        found[stat.ST_UID] = owner
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", of_owner)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if taken:
        assert read_secret(path) == b"0123456789abcdef"
    else:
        with pytest.raises(ConfigError, match="others may use it"):
            read_secret(path)


def test_a_missing_secret_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(tmp_path / "none")
    with pytest.raises(ConfigError, match="regular file"):
        read_secret(tmp_path)


def test_with_a_secret_or_insecure_addresses_beyond_loopback_are_allowed() -> None:
    beyond = {"listen": "10.0.0.1:80"}
    assert read({**beyond, "insecure": True}).listen == Address("10.0.0.1", 80)
    assert read({**beyond, "secret_file": "secret"}).secret_file == Path("secret")


# -- one table --------------------------------------------------------------------------------------------------------


def test_each_setting_of_the_http_side_can_be_set() -> None:
    """Each field of ``HttpSettings``, and of the settings in it, that differs from its default arrives there."""
    environ = {
        "REGION": "r",
        "ZONE": "z",
        "ANY_REGION": "false",
        "ANY_ZONE": "false",
        "DEFAULT_TTL_MS": "5000",
        "JAVA_REGISTRY_TTL_MS": "6000",
        "SNAKE_TTL_MS": "7000",
        "TTL_MS_MIN": "2000",
        "TTL_MS_MAX": "8000",
        "REQUEST_TIMEOUT_MS": "100",
        "REQUEST_TIMEOUT_MS_MAX": "200",
        "BODY_BYTES_MAX": "10",
        "ITEMS_MAX": "15",
        "RATE_LIMITING": "false",
        "RATE_LIMITS": "register:5",
        "CACHE_BYTES_MAX": "20",
        "CHANGE_CACHE_BYTES_MAX": "30",
        "SOCKETS_MAX": "40",
        "WATCH_WAIT_MS_MAX": "50",
        "WATCH_BOOKMARK_MS": "60",
        "CONTEXTS": "/x",
        "SNAKE_DEFAULT": "false",
        "READS_DEFAULT": "stale",
        "READS_WITHOUT_QUORUM": "stale",
        "PUSH_SESSION_MS": "50000",
        "PUSH_SUBSCRIPTIONS_MAX": "60",
        "PUSH_HEARTBEAT_TIMEOUT_MS": "70",
        "PUSH_MESSAGE_BYTES_MAX": "8000",
        "PUSH_RELOAD_ON_SUBSCRIBE": "false",
        "PUSH_HEARTBEAT_DENIED": "10.0.0.1",
        "PUSH_DISCOVERY_DENIED": "10.0.0.2,::1",
        "PUSH_DISCOVERIES_DENIED": "10.0.0.3",
    }
    made = http_settings(load({}, {f"ARTEMIS_{name}": value for name, value in environ.items()}))
    default = HttpSettings()
    same = [
        field.name
        for given, unchanged in ((made, default), (made.push, default.push))
        for field in dataclasses.fields(unchanged)
        if getattr(given, field.name) == getattr(unchanged, field.name)
    ]
    assert same == []


@pytest.mark.parametrize(
    "text", ['reads_default = "session"', 'reads.default = "session"', '[reads]\ndefault = "session"']
)
def test_a_table_of_a_file_stands_for_the_first_word_of_its_settings(text: str, tmp_path: Path) -> None:
    assert load({}, {}, toml(tmp_path, text + "\n")).reads_default == "session"


def test_a_table_that_is_no_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reads"):
        load({}, {}, toml(tmp_path, '[reads]\ndefault = "session"\ndefalt = "stale"\n'))


def test_the_defaults_are_those_of_the_http_side() -> None:
    assert http_settings(read()) == HttpSettings()


def test_the_reference_page_equals_the_table() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")
    assert page == reference.updated(page), "run make fix"
    assert all(f"| `{setting.key}` |" in page for setting in settings())


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_file_loads_with_and_without_its_commented_lines(path: Path, tmp_path: Path) -> None:
    load({}, {}, str(path))
    text = path.read_text(encoding="utf-8")
    complete = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert complete != text
    load({}, {}, toml(tmp_path, complete))


def test_there_is_an_example_for_each_role() -> None:
    names = {path.stem for path in (ROOT / "configs").glob("*.toml")}
    assert names == {"embedded", "member", "development"}
