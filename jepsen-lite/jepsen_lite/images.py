"""Data directories on loop-mounted ext4 images: a copy of the image file is what the disk held at that moment.

What a process wrote and did not sync is in the kernel's page cache, above the loop device; the image file has only what
was written back. So copying the file and mounting the copy is a power cut, with the real file system and its journal.

::

    data directory ── ext4 (page cache) ── loop device ── image file ── copy ── mounted instead

Mounts belong to the mount namespace of ``enter_namespace``: they are seen by this harness and its nodes only and vanish
with the last of them, however that one ends.
"""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

IMAGE_BYTES = 96 * 1024 * 1024
TOOLS = ("mkfs.ext4", "mount", "umount", "unshare", "cp", "fsfreeze")
MOUNT_OPTIONS = "loop,commit=300,noatime"
"""``commit``: the file system's own periodic sync, every 5 s by default, must not do what the node forgot."""
COPIES_MAX = 20
_INSIDE = "JEPSEN_LITE_MOUNT_NAMESPACE"


class ImageError(Exception):
    """The machine did not do what a power cut needs; nothing is known about the nodes."""


def enter_namespace(module: str, arguments: Sequence[str]) -> None:
    """Run ``python -m module arguments`` in place of this process, in a mount namespace of its own.

    Returns when this process is in one already. Raises ``ImageError`` when there can be none.
    """
    if os.environ.get(_INSIDE) == "1":
        return
    if os.geteuid() != 0:
        raise ImageError("mounting needs root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise ImageError(f"not installed: {', '.join(missing)}")
    options = ["--mount", "--propagation", "private"]
    if subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode != 0:
        raise ImageError("unshare --mount is not permitted")
    command = ["unshare", *options, sys.executable, "-m", module, *arguments]
    os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})


def obstacle(directory: Path) -> str | None:
    """Why images under ``directory`` cannot be mounted; None if they can. Tries it."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        image = Image(Path(scratch) / "probe.img", Path(scratch) / "probe", size_bytes=4 * 1024 * 1024)
        try:
            image.make()
            image.mount()
        except ImageError as exc:
            return str(exc)
        finally:
            image.unmount()
    return None


class Image:
    """One image file and the directory it is mounted on."""

    def __init__(self, file: Path, mounted_on: Path, *, size_bytes: int = IMAGE_BYTES) -> None:
        self.file = file
        self.mounted_on = mounted_on
        self._size_bytes = size_bytes

    @property
    def copy_file(self) -> Path:
        return self.file.with_suffix(".copy")

    def make(self) -> None:
        """An empty file system."""
        with self.file.open("wb") as file:
            file.truncate(self._size_bytes)
        self.mounted_on.mkdir(parents=True, exist_ok=True)
        _do("mkfs.ext4", "-q", "-F", str(self.file))

    def mount(self) -> None:
        _do("mount", "-t", "ext4", "-o", MOUNT_OPTIONS, str(self.file), str(self.mounted_on))

    def unmount(self) -> None:
        """Does nothing when it is not mounted."""
        if self.mounted_on.is_mount():
            _do("umount", str(self.mounted_on))

    def remove(self) -> None:
        """Unmount, and delete all files and the directory it was mounted on."""
        self.unmount()
        for file in (self.file, self.copy_file, self.file.with_suffix(".other")):
            file.unlink(missing_ok=True)
        if self.mounted_on.exists():
            self.mounted_on.rmdir()

    def copy(self) -> None:
        """What the disk has now. Copied until two copies are equal: one taken during a write-back shows no moment."""
        other = self.file.with_suffix(".other")
        self._copy_to(self.copy_file)
        for _ in range(COPIES_MAX):
            self._copy_to(other)
            if filecmp.cmp(self.copy_file, other, shallow=False):
                other.unlink()
                return
            other.replace(self.copy_file)
        raise ImageError(f"{self.file} does not stand still")

    def swap(self) -> None:
        """The copy takes the place of the image, as after the power came back."""
        self.unmount()
        self.copy_file.replace(self.file)
        self.mount()

    def _copy_to(self, target: Path) -> None:
        _do("cp", "--sparse=always", str(self.file), str(target))


def copy_all(images: Sequence[Image]) -> None:
    """All at once: nodes that are dead write nothing, but the kernel goes on writing back."""
    with ThreadPoolExecutor(len(images)) as threads:
        list(threads.map(Image.copy, images))


class Canaries:
    """Two files per image: one synced, which a power cut must keep, one not, which it must lose to have been one."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self._images = images
        self._synced = secrets.token_bytes(64 * 1024)
        self._unsynced = secrets.token_bytes(64 * 1024)

    def write(self) -> None:
        for image in self._images.values():
            with (image.mounted_on / "synced").open("wb") as file:
                file.write(self._synced)
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(image.mounted_on)
            (image.mounted_on / "unsynced").unlink(missing_ok=True)
            (image.mounted_on / "unsynced").write_bytes(self._unsynced)

    def faults(self) -> list[str]:
        """Why what happened was no power cut, per image; empty if it was one."""
        found = []
        for node, image in self._images.items():
            if _content(image.mounted_on / "synced") != self._synced:
                found.append(f"{node}: a file that was synced is not what it was")
            if _content(image.mounted_on / "unsynced") == self._unsynced:
                found.append(f"{node}: a file that was not synced has survived")
        return found


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
