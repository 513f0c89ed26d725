"""A stand-in for ``artemis-node`` with the same command line, to test the harness itself.

All its processes share one SQLite file beside their data directories, so as a cluster it is linearizable by nature;
leadership is a row with a heartbeat. ``FAKE_BUG`` plants one defect:

- ``forget``: every tenth register is acknowledged and not stored;
- ``stale``: one node reads linearizably from a copy that is a few revisions old;
- ``invent``: reads contain an instance that nobody registered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

BEAT_S = 0.05
LEADER_GONE_S = 0.4
STATUS = {"status": "success", "errorCode": "success", "message": ""}


class FakeNode:
    def __init__(self, node_id: str, data_dir: Path, bug: str) -> None:
        self.node_id = node_id
        self.bug = bug
        data_dir.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(data_dir.parent / "shared.db", timeout=10, isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute(
            "create table if not exists item (rev integer primary key autoincrement, id text unique, body text)"
        )
        self.db.execute(
            "create table if not exists leader (one integer primary key, term integer, node text, beat real)"
        )
        self.writes = 0

    async def beat(self) -> None:
        """Renew the own leadership, or take over one that has gone silent."""
        while True:
            now = time.monotonic()
            self.db.execute("begin immediate")
            row = self.db.execute("select term, node, beat from leader").fetchone()
            if row is None:
                self.db.execute("insert into leader values (1, 1, ?, ?)", (self.node_id, now))
            elif row[1] == self.node_id:
                self.db.execute("update leader set beat = ?", (now,))
            elif now - row[2] > LEADER_GONE_S:
                self.db.execute("update leader set term = term + 1, node = ?, beat = ?", (self.node_id, now))
            self.db.execute("commit")
            await asyncio.sleep(BEAT_S)

    def headers(self, revision: int, consistency: str = "") -> dict[str, str]:
        term, leader, beat = self.db.execute("select term, node, beat from leader").fetchone()
        return {
            "x-artemis-revision": str(revision),
            "x-artemis-term": str(term),
            "x-artemis-node": self.node_id,
            "x-artemis-leader": leader,
            "x-artemis-known-leader": "true" if time.monotonic() - beat < LEADER_GONE_S else "false",
            "x-artemis-consistency": consistency,
        }

    async def register(self, request: Request) -> Response:
        self.writes += 1
        revision = self.revision()
        for item in (await request.json())["instances"]:
            if self.bug == "forget" and self.writes % 10 == 0:
                revision += 1
                continue
            row = self.db.execute(
                "insert or replace into item (id, body) values (?, ?) returning rev",
                (item["instanceId"], json.dumps(item)),
            ).fetchone()
            revision = int(row[0])
        return JSONResponse({"responseStatus": STATUS, "failedInstances": None}, headers=self.headers(revision))

    async def service(self, request: Request) -> Response:
        level = request.headers.get("x-artemis-consistency", "linearizable")
        revision = self.revision()
        if self.bug == "stale" and self.node_id == "n3" and level == "linearizable":
            revision = max(0, revision - 3)
        rows = self.db.execute("select body from item where rev <= ? order by rev", (revision,)).fetchall()
        instances = [json.loads(body) for (body,) in rows]
        if self.bug == "invent":
            instances.append({"instanceId": "ghost"})
        body = {"responseStatus": STATUS, "service": {"serviceId": "x", "instances": instances}}
        return JSONResponse(body, headers=self.headers(revision, level))

    def revision(self) -> int:
        return int(self.db.execute("select coalesce(max(rev), 0) from item").fetchone()[0])


def main(arguments: list[str]) -> None:
    flags = dict(zip(arguments[::2], arguments[1::2], strict=True))
    node = FakeNode(flags["--node-id"], Path(flags["--data-dir"]), os.environ.get("FAKE_BUG", ""))
    host, _, port = flags["--listen"].partition(":")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        beating = asyncio.create_task(node.beat())
        yield
        beating.cancel()

    async def readyz(request: Request) -> Response:
        return PlainTextResponse("OK")

    routes = [
        Route("/readyz", readyz),
        Route("/artemis/api/registry/register.json", node.register, methods=["POST"]),
        Route("/artemis/api/discovery/service.json", node.service, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes, lifespan=lifespan), host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1:])
