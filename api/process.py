"""One ``artemis-node`` process: sockets first, then the node and its HTTP side in one event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from artemis.api import logs
from artemis.api.app import create_app
from artemis.api.config import Config
from artemis.api.config_checks import http_settings, read_secret
from artemis.api.config_kinds import Address
from artemis.api.deployment import of_config
from artemis.api.health import PeerHealth
from artemis.api.link_metrics import LinkMetrics
from artemis.api.peer_polls import PeerPolls, polling_client
from artemis.api.serve import EXIT_FATAL, Parts, StartError, serve
from artemis.api.stalls import StallMetrics
from artemis.consensus.node import Node, NodeConfig
from artemis.consensus.timing import Timing
from artemis.model import Member
from artemis.protection import ProtectionSettings

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0002
GC_THRESHOLDS = (50_000, 20, 100)

FILES_BESIDE_CONNECTIONS = 200
"""Listeners, links to peers, journal segments, the connections that are refused, and some to spare."""


def bind(address: Address, key: str) -> socket.socket:
    """A socket bound to the address, not yet listening. ``StartError`` says which setting to change."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
        except OSError:
            bound.close()
            raise
    except OSError as exc:
        raise StartError(f"{key} = {address}: cannot listen there: {exc.strerror or exc}") from exc
    bound.setblocking(False)
    return bound


def run_node(config: Config, *, rejoin: bool = False) -> int:
    """Run until the node stops; returns the exit code. ``ConfigError`` for a bad secret, ``StartError`` otherwise."""
    secret = read_secret(config.secret_file) if config.secret_file is not None else None
    alone = len(config.peers) == 1
    http_socket = bind(config.listen, "listen")
    raft_socket = None if alone or config.raft_listen is None else bind(config.raft_listen, "raft_listen")
    _create_data_dir(config.data_dir)
    logs.configure(config.log_level, config.log_format)
    config = _within_file_limit(config)
    parts = _parts(config, http_socket, _node_config(config, secret, raft_socket, rejoin=rejoin))
    _tune_interpreter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(serve(parts))
        if code == EXIT_FATAL:
            # A disk that does not answer may hold a thread for ever, and a normal end would wait for it.
            sys.stderr.flush()
            os._exit(code)
    return code


def _node_config(
    config: Config, secret: bytes | None, raft_socket: socket.socket | None, *, rejoin: bool
) -> NodeConfig:
    return NodeConfig(
        node_id=config.node_id,
        peers={name: (address.host, address.port) for name, address in config.peers.items()},
        raft_socket=raft_socket,
        data_dir=config.data_dir,
        cluster=config.cluster_name,
        secret=secret,
        rejoin=rejoin,
        member=Member(node_id=config.node_id, url=config.advertise, region_id=config.region, zone_id=config.zone),
        timing=Timing(
            heartbeat_ms=config.heartbeat_ms,
            election_timeout_ms_min=config.election_timeout_ms,
            election_timeout_ms_max=2 * config.election_timeout_ms,
        ),
        protection=ProtectionSettings(
            enabled=config.protection,
            share_percent=config.protection_share_percent,
            leases_min=config.protection_leases_min,
            window_ms=config.protection_window_ms,
            hold_ms=config.protection_hold_ms,
        ),
    )


def _parts(config: Config, http_socket: socket.socket, node_config: NodeConfig) -> Parts[Node]:
    settings = http_settings(config)
    stalls = StallMetrics()
    metrics = CollectorRegistry()
    metrics.register(stalls)
    client = polling_client() if len(config.peers) > 1 else None
    # The loop keeps weak references only. They are cancelled when it closes.
    tasks: list[asyncio.Future[None]] = []

    async def start_node(on_fatal: Callable[[str], None]) -> Node:
        try:
            return await Node.start(node_config, on_fatal=on_fatal)
        except OSError as exc:
            raise _start_error(config, exc) from exc

    def make_app(node: Node) -> ASGIApp:
        logger.info("node %s has its data and serves %s", config.node_id, config.advertise)
        metrics.register(LinkMetrics(node.link_counters))
        peers = PeerHealth(settings)
        if client is not None:
            tasks.append(asyncio.ensure_future(PeerPolls(node, peers, client).run()))
        return create_app(node, settings, now_ms=_now_ms, metrics=metrics, deployment=of_config(config), peers=peers)

    def on_stall(seconds: float) -> None:
        stalls.observe(seconds)
        logger.warning("the event loop stood still for %d ms", int(seconds * 1000))

    return Parts(
        http_socket=http_socket,
        start_node=start_node,
        make_app=make_app,
        on_stall=on_stall,
        on_lag=stalls.observe_lag,
        connections_max=config.connections_max,
        keep_alive_s=config.keep_alive_s,
        shutdown_timeout_s=config.shutdown_timeout_s,
        in_terminal=sys.stderr.isatty(),
    )


def _tune_interpreter() -> None:
    # The disk thread needs the interpreter for a moment after each fsync. By default a busy loop gives it up only
    # every 5 ms, and each commit waits for that.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # The registry is large and has no cycles: a full collection would walk 100,000 instances (50 ms) to find nothing.
    # The first number is above what the open requests of many connections hold, so that their objects, which no cycle
    # keeps, are gone before anybody looks: with 10,000 heartbeats of 100 at 128 connections cost 1.4 x the work.
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()


def _create_data_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise StartError(f"data_dir = {path}: is not a directory") from exc
    except OSError as exc:
        raise StartError(f"data_dir = {path}: cannot be created: {exc.strerror}") from exc


def _start_error(config: Config, exc: OSError) -> StartError:
    """What kept the node from starting is its data directory, or its port, taken since it was bound."""
    reason = exc.strerror or str(exc)
    if exc.errno == errno.EADDRINUSE:
        return StartError(f"raft_listen = {config.raft_listen}: cannot listen there: {reason}")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason += f"; uid {os.geteuid()} must be able to write there, and own the files of an earlier start"
    elif exc.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += "; make room for 64 MiB there, and delete nothing in it"
    file = Path(str(exc.filename)).name if exc.filename is not None else ""
    named = "" if file in ("", config.data_dir.name) else f"{file}: "
    return StartError(f"data_dir = {config.data_dir}: {named}{reason}")


def _within_file_limit(config: Config) -> Config:
    """Every client connection is an open file, and the usual soft limit is 1,024.

    If the hard limit is too low, clients must leave enough for the journal and the links: fewer may connect.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.connections_max + FILES_BESIDE_CONNECTIONS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit >= wanted:
        return config
    connections_max = limit - FILES_BESIDE_CONNECTIONS
    if connections_max < 1:
        raise StartError(
            f"the limit of open files is {limit}; more than {FILES_BESIDE_CONNECTIONS} are needed, and one for each of"
            f" connections_max = {config.connections_max}: raise it (ulimit -n, LimitNOFILE= of systemd)"
        )
    logger.warning(
        "connections_max is %d and not %d, because the limit of open files is %d: raise that (ulimit -n, LimitNOFILE="
        " of systemd)",
        connections_max,
        config.connections_max,
        limit,
    )
    sockets_max = min(config.sockets_max, connections_max * 4 // 5)
    return dataclasses.replace(config, connections_max=connections_max, sockets_max=sockets_max)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
