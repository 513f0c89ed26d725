"""What is published: the same modules in wheel and sdist, one top-level name, no link, nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("consensus", "api", "client")
TIMEOUT_S = 300


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output; a failure shows what the command said."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def sources() -> dict[str, bytes]:
    """Import path -> content, of every file that belongs to the package."""
    found: dict[str, bytes] = {}
    for room in ("artemis", *ROOMS):
        for path in sorted((ROOT / room).rglob("*")):
            inside = path.relative_to(ROOT)
            through_link = room == "artemis" and len(inside.parts) > 1 and inside.parts[1] in ROOMS
            if path.is_file() and not through_link and path.suffix in (".py", ".typed"):
                prefix = "" if room == "artemis" else "artemis/"
                found[prefix + inside.as_posix()] = path.read_bytes()
    return found


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Sdist from the tree, wheel from the sdist, as an index would serve and a user would build them.

    Without isolation no index is needed: the build backend is a development dependency."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory)
    (wheel,) = directory.glob("*.whl")
    (sdist,) = directory.glob("*.tar.gz")
    return Built(wheel, sdist)


def in_wheel(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_built_from_the_sdist_holds_every_module_under_artemis(built: Built) -> None:
    packed = {name: content for name, content in in_wheel(built.wheel).items() if name.endswith((".py", ".typed"))}
    assert packed == sources()


def test_the_wheel_has_one_top_level_name(built: Built) -> None:
    """``import client`` must load the user's own folder, never ours."""
    assert {name.split("/")[0] for name in in_wheel(built.wheel)} == {"artemis"}


def test_a_wheel_built_from_the_tree_is_the_same(built: Built, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert in_wheel(wheel) == in_wheel(built.wheel)


def test_the_sdist_holds_each_room_once_and_no_link(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if member.issym() or member.islnk()] == []
    inside = {member.name.split("/", 1)[1] for member in members if member.isfile()}
    wanted = {name.removeprefix("artemis/") if name.split("/")[1] in ROOMS else name for name in sources()}
    packed = {name for name in inside if name.split("/")[0] in ("artemis", *ROOMS) and name.endswith((".py", ".typed"))}
    assert packed == wanted


def test_the_links_are_in_the_tree_and_relative() -> None:
    for room in ROOMS:
        link = ROOT / "artemis" / room
        assert link.is_symlink(), room
        assert link.readlink() == Path("..") / room


@pytest.mark.slow
def test_an_installed_package_runs_away_from_the_tree_beside_folders_of_the_same_names(
    built: Built, tmp_path: Path
) -> None:
    """The packages it needs come from this environment, so no index is needed; the package itself is the wheel's."""
    for name in ("api", "client", "consensus"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n", encoding="utf-8")
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built.wheel, cwd=tmp_path)
    (packages,) = environment.glob("lib/python*/site-packages")
    here = run(sys.executable, "-c", "import click; print(click.__path__[0])", cwd=tmp_path).strip()
    # Appended, and as a plain directory: editable installs of this environment do not take part.
    (packages / "needed.pth").write_text(f"import sys; sys.path.append({str(Path(here).parent)!r})\n", encoding="utf-8")
    version = run(environment / "bin" / "artemis-node", "--version", cwd=tmp_path)
    assert version.startswith("artemis-node, version ")
    probe = "import api, client, consensus, artemis.api.cli as cli; print(api.MINE, client.MINE, cli.__file__)"
    where = run(python, "-c", probe, cwd=tmp_path).split()
    assert where[:2] == ["True", "True"]
    assert Path(where[2]).is_relative_to(environment)
