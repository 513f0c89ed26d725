"""``artemis convert-config``: the files of the earlier servers, and what a node makes of the result."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artemis.api import artemis_cli
from artemis.api.config import Config
from artemis.api.config_kinds import Address
from artemis.api.config_sources import load
from artemis.api.convert.java import LEFT as JAVA_LEFT
from artemis.api.convert.rust import LEFT as RUST_LEFT
from artemis.api.rate_limits import LIMIT_MAX

SHIPPED_JAVA = """\
# as shipped
artemis.service.cluster.nodes=zone1:http://127.0.0.1:8080
artemis.service.cluster.node.status.force-up=true
artemis.service.registry.allow-from-other-zone=true
artemis.service.discovery.allow-from-other-zone = true
artemis.service.registry.instance.lease-manager.lease.ttl=20000
artemis.service.registry.legacy-instance.lease-manager.lease.ttl : 90000
artemis.service.registry.instance.lease-manager.clean-task.run-interval=100
artemis.service.registry.instance.lease-manager.thread-pool-size=5
artemis.service.registry.instance.lease-manager.lease-update-safe-checker.time-window=12000
artemis.service.registry.replicaton.batching.task-acceptor.max-buffer-size=1
artemis.service.registry.heartbeat.replication.batching-enabled=
artemis.service.discovery.versioned-cache.cache-count=3
"""
APPLICATION = "region.id=lab\nzone.id=zone1\napp.id=10001\napp.port=8080\napp.protocol=http\napp.path=\n"
RUST = """\
[server]
node_id = "node1"
listen_addr = "127.0.0.1:8080"
peer_port = 9090
region = "local"
zone = "zone1"
[cluster]
enabled = true
peers = ["127.0.0.1:8081", "http://127.0.0.1:8082"]
[replication]
enabled = true
timeout_secs = 5
batch_size = 100
[lease]
ttl_secs = 90
cleanup_interval_secs = 60
[cache]
enabled = true
expiry_secs = 300
[logging]
level = "warn"
format = "pretty"
"""


@dataclass
class Converted:
    code: int
    path: Path
    out: str
    err: str

    @property
    def toml(self) -> dict[str, Any]:
        return tomllib.loads(self.path.read_text())

    @property
    def config(self) -> Config:
        """As a node reads it."""
        return load({}, {}, str(self.path))


Convert = Callable[..., Converted]


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    def run(content: str | bytes, *options: str, name: str = "old.properties", also: str | None = None) -> Converted:
        source = tmp_path / name
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        args = ["convert-config", str(source), str(tmp_path / "node.toml"), *options]
        if also is not None:
            (tmp_path / "also.properties").write_text(also)
            args += ["--also", str(tmp_path / "also.properties")]
        code = artemis_cli.main(args)
        printed = capsys.readouterr()
        return Converted(code, tmp_path / "node.toml", printed.out, printed.err)

    return run


def test_the_shipped_java_files_make_a_node(convert: Convert) -> None:
    made = convert(APPLICATION, also=SHIPPED_JAVA)
    assert (made.code, made.err) == (0, "")
    config = made.config
    assert config.listen == Address("127.0.0.1", 8080)
    assert (config.region, config.zone) == ("lab", "zone1")
    assert (config.any_region, config.any_zone) == (False, True)
    assert (config.default_ttl_ms, config.java_registry_ttl_ms) == (20_000, 90_000)
    assert len(config.peers) == 1


def test_every_key_of_the_input_is_named(convert: Convert) -> None:
    report = json.loads(convert(APPLICATION, "--json", also=SHIPPED_JAVA).out)
    named = [item["key"] for item in report["carried"]] + [item["key"] for item in report["not_carried"]]
    given = [line.replace(":", "=", 1) if " : " in line else line for line in (APPLICATION + SHIPPED_JAVA).splitlines()]
    assert sorted(named) == sorted(line.partition("=")[0].strip() for line in given if line[0] != "#")
    assert all(item["reason"] for item in report["not_carried"])


def test_every_key_of_a_rust_file_is_named(convert: Convert) -> None:
    report = json.loads(convert(RUST, "--json", name="old.toml").out)
    named = [item["key"] for item in report["carried"]] + [item["key"] for item in report["not_carried"]]
    document = tomllib.loads(RUST)
    assert sorted(set(named)) == sorted(f"{section}.{key}" for section, keys in document.items() for key in keys)


def test_a_member_of_a_java_cluster(convert: Convert) -> None:
    nodes = "artemis.service.cluster.nodes=zone1:http://10.0.0.1:8080,http://10.0.0.2:8080/,http://10.0.0.3:8080\n"
    made = convert(APPLICATION, "--advertise", "http://10.0.0.2:8080", "--secret-file", "/s", also=nodes)
    assert made.code == 0, made.err
    config = made.config
    assert config.peers == {f"10.0.0.{n}-8080": Address(f"10.0.0.{n}", 9080) for n in (1, 2, 3)}
    assert config.node_id == "10.0.0.2-8080"
    assert config.listen == Address("0.0.0.0", 8080)
    assert config.raft_listen == Address("0.0.0.0", 9080)
    assert config.advertise == "http://10.0.0.2:8080"
    assert config.secret_file == Path("/s")
    assert not config.insecure
    others = [convert(APPLICATION, "--force", "--advertise", f"http://10.0.0.{n}:8080", also=nodes) for n in (1, 3)]
    assert [other.config.peers for other in others] == [config.peers, config.peers], "the same on every machine"


def test_which_member_a_file_is_for_is_asked_and_not_guessed(convert: Convert) -> None:
    nodes = "artemis.service.cluster.nodes=zone1:http://10.0.0.1:8080,http://10.0.0.2:8080\n"
    made = convert(APPLICATION, also=nodes)
    assert made.code == 2
    assert "--advertise (http://10.0.0.1:8080, http://10.0.0.2:8080)" in made.err
    assert not made.path.exists()
    assert convert(APPLICATION + "host.ip=10.0.0.2\n", also=nodes).config.node_id == "10.0.0.2-8080"


def test_members_that_differ_in_their_port_are_told_apart_by_it(convert: Convert) -> None:
    nodes = "artemis.service.cluster.nodes=a:http://127.0.0.1:8080,http://127.0.0.1:8081,http://127.0.0.1:8082\n"
    made = convert("region.id=lab\napp.port=8081\n" + nodes)
    assert made.config.node_id == "127.0.0.1-8081"
    assert made.config.raft_listen == Address("127.0.0.1", 9081)
    assert made.config.zone == "a"


def test_a_member_that_is_alone_in_its_zone_is_known_by_it(convert: Convert) -> None:
    nodes = "artemis.service.cluster.nodes=zone1:http://10.0.0.1:8080;zone2:http://10.0.0.2:8080,http://10.0.0.3:8080\n"
    assert convert(APPLICATION, also=nodes).config.node_id == "10.0.0.1-8080"
    other = convert(APPLICATION, "--force", "--advertise", "http://10.0.0.2:8080", also=nodes)
    assert other.code == 2
    assert "has this node (10.0.0.2:8080) in zone2, but zone.id is zone1" in other.err
    unknown = convert(APPLICATION, "--force", "--advertise", "http://10.0.0.9:8080", also=nodes)
    assert unknown.code == 2
    assert "is none of 10.0.0.1:8080" in unknown.err


def test_a_servlet_context_is_served_and_advertised(convert: Convert) -> None:
    made = convert("region.id=lab\nartemis.service.cluster.nodes=z:http://127.0.0.1:8080/artemis-service/\n")
    assert made.config.contexts == ("/artemis-service",)
    assert made.config.advertise == "http://127.0.0.1:8080/artemis-service"


def test_a_value_for_this_host_beats_the_plain_one(convert: Convert) -> None:
    key = "artemis.service.registry.instance.lease-manager.lease.ttl"
    made = convert(f"host.ip=127.0.0.1\nregion.id=lab\n{key}=20000\n{key}.127.0.0.1=30000\n{key}.10.9.9.9=40000\n")
    assert made.config.default_ttl_ms == 30_000
    assert f"{key}: {key}.127.0.0.1 beats it" in made.out
    assert f"{key}.10.9.9.9: it is for the host 10.9.9.9 only" in made.out


def test_the_websocket_settings_of_a_java_file(convert: Convert) -> None:
    lists = "artemis.service.{}.ws-ip.black-list"
    given = [
        "artemis.service.websocket.session.ttl=600000",
        lists.format("service-heartbeat") + "=10.0.0.1,10.0.0.2",
        lists.format("service-discovery") + "=10.0.0.3",
        lists.format("service-discovery") + ".enabled=false",
        lists.format("service-discoveries") + "=",
    ]
    done = convert(APPLICATION + "\n".join(given))
    assert done.toml["push_session_ms"] == 600_000
    assert done.config.push_heartbeat_denied == ("10.0.0.1", "10.0.0.2")
    assert not {"push_discovery_denied", "push_discoveries_denied"} & done.toml.keys()
    assert "it was switched off" in done.out + done.path.read_text()


def test_the_rate_limits_of_a_java_file(convert: Convert) -> None:
    key = "artemis.service.{}.rate-limiter.{}"
    given = [
        key.format("registry", "default-rate-limit") + "=5000",
        key.format("registry", "rate-limit-map") + "=heartbeat:7000, other:1",
        key.format("status", "rate-limit-map") + "=get-leases:10",
        key.format("status", "enabled") + "=true",
        key.format("cluster", "enabled") + "=false",
        "artemis.service.registry.rate-limiter.unregister.qps=30",
    ]
    done = convert(APPLICATION + "\n".join(given))
    assert done.config.rate_limits == {
        "register": 5_000,
        "heartbeat": 7_000,
        "unregister": 300,
        "get-leases": 10,
        "up-registry-nodes": LIMIT_MAX,
        "up-discovery-nodes": LIMIT_MAX,
    }
    assert "no such operation is limited here: other" in done.out


def test_the_safe_check_of_a_java_file(convert: Convert) -> None:
    key = "artemis.service.registry.{}instance.lease-manager.lease-update-safe-checker.{}"
    given = [
        key.format("", "enabled") + "=false",
        key.format("", "time-window") + "=12000",
        key.format("", "percentage-threshold") + "=70",
        key.format("", "max-count-threshold") + "=50",
        key.format("legacy-", "time-window") + "=60000",
    ]
    done = convert(APPLICATION + "\n".join(given))
    config = done.config
    assert (config.protection, config.protection_window_ms, config.protection_share_percent) == (False, 12_000, 30)
    assert "max-count-threshold: it counted renewals; protection_leases_min counts leases" in done.out
    assert "there is one protection for all instances" in done.out


def test_the_other_family_of_java_keys(convert: Convert) -> None:
    made = convert(
        "server.host=127.0.0.1\nserver.port=8085\nartemis.region=r\nartemis.zone=z\nartemis.lease.ttl=2m\n"
        "artemis.eviction.interval=1s\nartemis.ratelimit.rps=100\nartemis.cluster.enabled=true\n"
        "artemis.cluster.peers=127.0.0.1:8085,127.0.0.1:8086\nartemis.db.url=mysql://u:secret@h/d\n"
    )
    assert made.code == 0, made.err
    config = made.config
    assert (config.listen, config.region, config.zone) == (Address("127.0.0.1", 8085), "r", "z")
    assert config.default_ttl_ms == 120_000
    assert config.peers == {f"127.0.0.1-{port}": Address("127.0.0.1", port + 1_000) for port in (8085, 8086)}
    assert "artemis.db.url" in made.out
    assert "secret" not in made.out


def test_a_member_of_a_rust_cluster(convert: Convert) -> None:
    made = convert(RUST, name="old.toml")
    assert made.code == 0, made.err
    config = made.config
    assert config.listen == Address("127.0.0.1", 8080)
    assert config.peers == {f"127.0.0.1-{port}": Address("127.0.0.1", port + 1_010) for port in (8080, 8081, 8082)}
    assert config.node_id == "127.0.0.1-8080"
    assert config.raft_listen == Address("127.0.0.1", 9090)
    assert (config.region, config.zone, config.any_region) == ("local", "zone1", True)
    assert (config.default_ttl_ms, config.snake_ttl_ms) == (90_000, 90_000)
    assert (config.log_level, config.log_format) == ("warning", "text")


def test_rust_defaults_make_a_node_and_say_what_they_open(convert: Convert) -> None:
    made = convert("[server]\n", name="old.toml")
    config = made.config
    assert config.listen == Address("0.0.0.0", 8080)
    assert config.advertise.endswith(":8080")
    assert config.insecure
    assert "insecure = true: the earlier servers had no secret" in made.out
    assert config.snake_ttl_ms == 90_000


def test_a_lease_as_short_as_the_clients_renewals_is_pointed_out(convert: Convert) -> None:
    made = convert("[server]\n[lease]\nttl_secs = 30\n", name="old.toml")
    assert (made.config.default_ttl_ms, made.config.snake_ttl_ms) == (30_000, 30_000)
    assert "snake_ttl_ms = 30000: clients of the earlier server renew every 30 s" in made.out
    assert "look at this" not in convert(RUST, "--force", name="old.toml").out


def test_how_others_reach_a_rust_member_is_asked(convert: Convert) -> None:
    content = RUST.replace("127.0.0.1:8080", "0.0.0.0:8080")
    made = convert(content, name="old.toml")
    assert made.code == 2
    assert "say it with --advertise" in made.err
    made = convert(content, "--advertise", "http://127.0.0.1:8080", name="old.toml")
    assert made.config.node_id == "127.0.0.1-8080"
    assert made.config.raft_listen == Address("0.0.0.0", 9090)


def test_nothing_is_overwritten_without_force(convert: Convert) -> None:
    made = convert(RUST, name="old.toml")
    made.path.write_text("mine")
    again = convert(RUST, name="old.toml")
    assert again.code == 2
    assert "is there already; --force overwrites it" in again.err
    assert made.path.read_text() == "mine"
    assert convert(RUST, "--force", name="old.toml").code == 0
    assert made.config.log_level == "warning"
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["node.toml", "old.toml"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("old.toml", "[lease]\nttl_secs = 0\n", "lease.ttl_secs = 0: becomes default_ttl_ms = 0, which must be"),
        ("old.toml", "[lease]\nttl_secs = 999999\n", "lease.ttl_secs becomes: default_ttl_ms = 999999000: must be"),
        ("old.toml", "[lease]\nttl_secs = '30'\n", "lease.ttl_secs = 30: must be an integer"),
        ("old.toml", "[server]\nlisten_addr = 'nowhere'\n", "server.listen_addr = nowhere: becomes listen, which must"),
        ("old.toml", "[logging]\nlevel = 'loud'\n", "logging.level = loud: must be trace, debug"),
        ("old.toml", "[server\n", "is not TOML"),
        ("old.toml", "node_id = 'n1'\n", "node_id is a setting of artemis-node, so it may need no conversion"),
        ("old.toml", "[package]\nname = 'x'\n", "is no configuration of the Rust server"),
        ("old.properties", "region.id=\\u00zz\n", "line 1: \\u must be followed by four hexadecimal digits"),
        ("old.properties", "PNG nonsense\n", "none of its keys is known"),
        ("old.properties", b"\x00\x01\x02", "is not a text file"),
        ("old.properties", "region.id=lab\napp.port=http\n", "app.port = http: must be an integer"),
        ("old.properties", "region.id=lab\napp.port=70000\n", "app.port = 70000: becomes listen = "),
        (
            "old.properties",
            "artemis.service.registry.instance.lease-manager.lease.ttl=500\n",
            "lease-manager.lease.ttl becomes: default_ttl_ms = 500: must be from 1000 to 604800000",
        ),
        ("old.properties", "artemis.service.cluster.nodes=http://h:1\n", "zone:url,url;zone:url"),
        ("old.properties", "artemis.service.cluster.nodes=z:h/:x\n", "cluster.nodes = h/:x: must be host:port"),
        ("old.properties", "region.id=lab\nartemis.lease.ttl=soon\n", "must be as 500ms, 30s, 5m or 2h"),
        (
            "old.properties",
            "artemis.service.status.rate-limiter.rate-limit-map=get-leases:many\n",
            "rate-limit-map = many: must be a number from 1 to 10000000 to become a limit in rate_limits",
        ),
        ("old.yaml", "a: b\n", "must end in .properties (Java server) or .toml (Rust server)"),
    ],
)
def test_nonsense_is_refused_by_name_and_nothing_is_written(
    convert: Convert, name: str, content: str | bytes, told: str
) -> None:
    made = convert(content, name=name)
    assert made.code == 2
    assert told in made.err
    assert made.err.count("\n") == 1
    assert not made.path.exists()


def test_the_format_of_properties_is_read_as_java_does(convert: Convert) -> None:
    content = (
        "! a comment\r\n   region.id   l\\u00e4b\\\r\n     or  \r\n\r\nzone\\.id:z\\\\1\n"
        "# artemis.lease.ttl=1s\nregion.id=last\nregion.id l\\u00e4bor\n"
    )
    made = convert(content)
    assert made.code == 0, made.err
    assert made.config.region == "läbor"
    assert made.config.zone == "z\\1"
    assert "region.id: given twice" in made.out


def test_the_input_is_never_overwritten(convert: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "old.toml"
    source.write_text(RUST)
    (tmp_path / "same.toml").symlink_to(source)
    for name in ("old.toml", "same.toml"):
        assert artemis_cli.main(["convert-config", str(source), str(tmp_path / name), "--force"]) == 2
        assert f"{name}: is the INPUT; give another OUTPUT" in capsys.readouterr().err
    made = convert(APPLICATION, "--force", "--also", str(tmp_path / "node.toml"))
    assert (made.code, made.path.exists()) == (2, False)
    assert source.read_text() == RUST


def test_without_a_command_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert artemis_cli.main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Usage: artemis [OPTIONS] COMMAND [ARGS]..."
    assert "Commands:" in lines


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert artemis_cli.main(["convert-config", str(tmp_path / "no.toml"), str(tmp_path / "out.toml")]) == 2
    assert "no.toml: cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "old.toml").write_text("[server]\n")
    assert artemis_cli.main(["convert-config", str(tmp_path / "old.toml"), str(tmp_path / "no" / "out.toml")]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_reasons_speak_of_the_key_they_stand_for() -> None:
    assert all(reason for _, reason in JAVA_LEFT)
    assert all("." in key and reason for key, reason in RUST_LEFT.items())


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["artemis"] == f"{artemis_cli.__name__}:{artemis_cli.main.__name__}"
