"""The Java SDK of the earlier servers, as published, in a process of its own (``tests/java_sdk``)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

PROJECT = Path(__file__).parents[1] / "java_sdk"
RESOLVE_S = 120.0
"""For the artifacts, where they have to be fetched first."""
CALL_S = 60.0
"""The first call of a client loads its classes and connects, on a busy machine."""
LINE_BYTES_MAX = 16 * 1024 * 1024
# A heap as it needs it, and a compiler that starts quickly: there are several of them beside a cluster.
JVM = ("-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_CONNECTED = re.compile(r"connected to: ws://127\.0\.0\.1:(\d+)/artemis/websocket/(\w+)/")
_ALARM = re.compile(r"^\S+ \[[^]]*\] (?:WARN|ERROR) (.*)$", re.MULTILINE)


class Unavailable(Exception):
    """No Java, no Maven, or no way to the artifacts."""


def build(directory: Path) -> str:
    """Compile the program into ``directory``; the class path to run it with. Raises ``Unavailable``."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed")
    listed = directory / "class-path"
    settings = (f"-Dsdk.output={directory / 'maven'}", f"-Dmdep.outputFile={listed}")
    resolve = ["mvn", "-B", "-q", "-f", str(PROJECT / "pom.xml"), *settings, "dependency:build-classpath"]
    try:
        offline = subprocess.run([*resolve, "-o"], capture_output=True, timeout=RESOLVE_S, check=False)
        if offline.returncode:
            subprocess.run(resolve, capture_output=True, timeout=RESOLVE_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"the artifacts of the SDK cannot be had: {(exc.stdout or b'')[-500:].decode()}") from exc
    classes = directory / "classes"
    libraries = listed.read_text().strip()
    sources = [str(one) for one in PROJECT.rglob("*.java")]
    subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "--release", "11", "-d", str(classes), "-cp", libraries, *sources],
        check=True,
    )
    return f"{libraries}:{classes}"


@dataclass(frozen=True, slots=True)
class Event:
    """What a listener was told: the kind of change, and the instances of the service after it."""

    manager: str
    type: str
    ids: frozenset[str]


@dataclass(slots=True)
class Sdk:
    """One JVM. Calls go one after another; ``events`` grows meanwhile."""

    log_path: Path
    events: list[Event] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _answers: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)

    async def open(self, manager: str, url: str, settings: dict[str, int]) -> None:
        await self._call("open", manager, settings={"service.domain.url": url, **settings})

    async def register(self, manager: str, instances: list[dict[str, Any]]) -> None:
        await self._call("register", manager, instances=instances)

    async def unregister(self, manager: str, instances: list[dict[str, Any]]) -> None:
        await self._call("unregister", manager, instances=instances)

    async def listen(self, manager: str, service: str) -> None:
        await self._call("listen", manager, service=service)

    async def service(self, manager: str, service: str) -> frozenset[str]:
        """The instances in the cache of the SDK."""
        return _ids((await self._call("service", manager, service=service))["service"])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def ports(self, plane: str) -> list[int]:
        """Of every WebSocket so far, ``registry`` or ``discovery``; the last one is the present one."""
        return [int(port) for port, found in _CONNECTED.findall(self._log()) if found == plane]

    def alarms(self) -> list[str]:
        """Everything that it logged as a warning or an error."""
        return _ALARM.findall(self._log())

    def _log(self) -> str:
        return self.log_path.read_text(errors="replace")

    async def _call(self, what: str, manager: str, **rest: object) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"do": what, "manager": manager, **rest}) + b"\n")
        async with asyncio.timeout(CALL_S):
            answer = await self._answers.get()
        assert answer is not None, f"the JVM ended:\n{self._log()[-3_000:]}"
        return answer

    async def _read(self, stream: asyncio.StreamReader) -> None:
        # A JVM that is killed may leave half a line.
        while (line := await stream.readline()).endswith(b"\n"):
            told = orjson.loads(line)
            if told["event"] == "done":
                self._answers.put_nowait(told)
            else:
                self.events.append(Event(told["manager"], told["type"], _ids(told["service"])))
        self._answers.put_nowait(None)

    @contextlib.asynccontextmanager
    async def running(self, class_path: str, region: str, zone: str) -> AsyncIterator[Sdk]:
        """Ends it at the end; it ends by itself when this process does, with its input."""
        log = ("showDateTime=true", "dateTimeFormat=HH:mm:ss.SSS")
        properties = [f"-Dregion.id={region}", f"-Dzone.id={zone}"]
        properties += [f"-Dorg.slf4j.simpleLogger.{one}" for one in log]
        with self.log_path.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                "java",
                *JVM,
                *properties,
                "-cp",
                class_path,
                "SdkDriver",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                limit=LINE_BYTES_MAX,
            )
        assert self._process.stdout is not None
        reading = asyncio.ensure_future(self._read(self._process.stdout))
        try:
            yield self
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await reading


def _ids(service: dict[str, Any]) -> frozenset[str]:
    return frozenset(one["instanceId"] for one in service["instances"] or ())


async def until(condition: Callable[[], bool], what: str, deadline_s: float) -> None:
    end = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.02)
