"""Power cuts of all nodes under load: every acknowledged write is there when the power is back.

One round: writers on all nodes, SIGKILL of all nodes, a copy of each image before anything is synced, the copies
mounted instead, restart, and a linearizable read of everything from each node. What is lost this way and not by
SIGKILL alone is what the node told somebody before its fdatasync returned.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jepsen_lite.checker import Result
from jepsen_lite.cluster import Cluster, ClusterError
from jepsen_lite.images import Canaries, Image, ImageError, copy_all
from jepsen_lite.load import READ_S, Writes, read_all, writing

SERVICE_ID = "power-cut"
WRITERS_PER_NODE = 4
ACKNOWLEDGED = (150, 400)
"""Least and most acknowledged writes in front of a cut."""


class ImageCluster(Cluster):
    """A cluster whose nodes have their data on images of their own, mounted while the context is open."""

    def __init__(self, directory: Path, *, size: int = 3, command: Sequence[str] | None = None) -> None:
        super().__init__(directory, size=size, command=command)
        self.images = {node: Image(directory / f"{node}.img", directory / node) for node in self.ids}

    def data_dir(self, node: str) -> Path:
        return self.directory / node / "data"

    def cut(self) -> Canaries:
        """The power goes and comes back: all nodes dead, on the disks as they were. Raises ``ImageError``."""
        canaries = Canaries(self.images)
        canaries.write()
        self.kill(*self.ids)
        copy_all(list(self.images.values()))
        for image in self.images.values():
            image.swap()
        return canaries

    def __enter__(self) -> ImageCluster:
        try:
            for image in self.images.values():
                image.make()
                image.mount()
            super().__enter__()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.close()
        for image in self.images.values():
            image.remove()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``text`` says what is wrong; empty when valid."""

    result: Result
    text: str = ""


def powercut(cluster: ImageCluster, rounds: int, seed: int, say: Callable[[str], None] = print) -> Verdict:
    """Cut the power ``rounds`` times on a started cluster. The rounds share their data: nothing is ever forgotten."""
    rng = random.Random(seed)
    writes = Writes(SERVICE_ID)
    for number in range(1, rounds + 1):
        count = rng.randint(*ACKNOWLEDGED)
        try:
            canaries = asyncio.run(_load_and_cut(cluster, writes, count, rng.uniform(0, 0.1)))
            faults = canaries.faults()
        except (ImageError, TimeoutError) as exc:
            return Verdict("inconclusive", f"round {number}: {exc}")
        if faults:
            return Verdict("inconclusive", f"round {number}: {'; '.join(faults)}")
        try:
            cluster.heal()
        except ClusterError as exc:
            # A disk that only lost what was never synced is one that a node must start from.
            return Verdict("invalid", f"round {number}: not up again after the cut: {exc}")
        wrong = asyncio.run(differences(cluster, writes))
        if wrong:
            return Verdict("invalid", f"round {number}: {'; '.join(wrong)}")
        say(f"round {number}: {len(writes.acknowledged)} acknowledged in all, every one on every node after the cut")
    return Verdict("valid")


async def _load_and_cut(cluster: ImageCluster, writes: Writes, count: int, more_s: float) -> Canaries:
    """Raises ``TimeoutError`` when the load does not get there."""
    async with writing(cluster, writes, cluster.ids * WRITERS_PER_NODE):
        await writes.more(count)
        await asyncio.sleep(more_s)  # the moment of the cut is drawn, not always the one of an acknowledgement
        canaries = await asyncio.to_thread(cluster.cut)
        writes.stopped = True
    return canaries


async def differences(cluster: Cluster, writes: Writes) -> list[str]:
    """What each node lacks of the acknowledged, and has of what never happened."""
    found = []
    for node in cluster.ids:
        ids = await read_all(cluster, node, writes.service)
        if ids is None:
            found.append(f"{node} answered no linearizable read within {READ_S:g} s")
            continue
        if lost := writes.acknowledged - ids:
            found.append(f"{node} lost {len(lost)} of {len(writes.acknowledged)} acknowledged: {sorted(lost)[:5]}")
        if refused := ids & writes.by_outcome["fail"]:
            found.append(f"{node} has {len(refused)} that were refused for certain: {sorted(refused)[:5]}")
        if unknown := ids - writes.all:
            found.append(f"{node} has {len(unknown)} that nobody wrote: {sorted(unknown)[:5]}")
    return found
