"""Properties of the code itself: which way imports go, how long a function is, who may catch everything.

Each rule has a test that it can fail. An exception to a rule is named here with its reason, so that a new one is a
decision and not an accident.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOMAIN, CONSENSUS, API, CLIENT = "artemis", "consensus", "api", "client"
PRODUCT = (DOMAIN, CONSENSUS, API, CLIENT)
TOOLS = ("jepsen-lite", "benchmarks")

DOMAIN_LIBRARY = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "msgspec",
    "operator",
    "struct",
    "types",
    "typing",
    "zlib",
}
"""All that the domain may import from outside: nothing that knows a clock, chance, a thread, a file or a socket."""

ARROWS = {
    DOMAIN: {DOMAIN},
    CONSENSUS: {DOMAIN, CONSENSUS},
    API: {DOMAIN, CONSENSUS, API},
    CLIENT: {CLIENT, "artemis.errors", "artemis.model"},
}
"""What each folder may import of this package."""

FUNCTION_LINES_MAX = 70
LONGER_FUNCTIONS: dict[str, int] = {}
"""Functions over the limit, as ``path:name``, with the length they must not exceed. May only shrink."""

BROAD_EXCEPTS = {
    "client/aio.py:_send_batch": "a transport given by the user may raise anything, and no lease may end for it",
    "client/core.py:tell": "a callback given by the user may raise anything, and no lease may end for it",
    "client/sync.py:_send_batch": "a transport given by the user may raise anything, and no lease may end for it",
    "consensus/disk.py:run": "the border of the disk thread: the engine's thread gets the exception",
    "consensus/engine.py:_guarded": "the border of the core: what escapes it stops the node",
}
"""Where everything is caught and not raised again, as ``path:function``, and why."""


def sources(*folders: str) -> list[Path]:
    """Python files under their real paths; the links inside ``artemis/`` are left out."""
    found: list[Path] = []
    for folder in folders:
        links = [link for link in (ROOT / folder).iterdir() if link.is_symlink()]
        files = sorted((ROOT / folder).rglob("*.py"))
        found += [path for path in files if not any(path.is_relative_to(link) for link in links)]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of imported modules. Of ``from a import b`` both ``a`` and ``a.b``, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or "")
            if node.module == "artemis":
                yield from (f"artemis.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """``artemis.consensus.core`` is in ``consensus``, ``artemis.model`` in ``artemis``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (CONSENSUS, API, CLIENT) else DOMAIN


def wrong_arrows(folder: str, tree: ast.AST) -> list[str]:
    """Imports of our own modules that go the wrong way. Relative imports hide the way and are wrong too."""
    allowed = ARROWS[folder]
    return [
        module
        for module in imports(tree)
        if module.startswith(".")
        or (module.startswith("artemis.") and room_of(module) not in allowed and module not in allowed)
    ]


def foreign_to_domain(tree: ast.AST) -> list[str]:
    return [module for module in imports(tree) if module.split(".")[0] not in DOMAIN_LIBRARY | {"artemis"}]


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def is_broad(caught: ast.expr | None) -> bool:
    """``except:``, ``except Exception``, ``except BaseException``, also inside a tuple."""
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(map(is_broad, caught.elts))
    return isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException")


def is_call_of(node: ast.AST, *names: str) -> bool:
    """``name(...)`` or ``anything.name(...)``."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return (isinstance(called, ast.Name) and called.id in names) or (
        isinstance(called, ast.Attribute) and called.attr in names
    )


def broad_excepts(tree: ast.AST, function: str = "<module>") -> Iterator[str]:
    """Names of functions that catch everything and do not end the handler by raising."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, Function) else function
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type) and not isinstance(node.body[-1], ast.Raise):
            yield function
        if isinstance(node, ast.Call) and is_call_of(node, "suppress"):
            yield from (function for argument in node.args if is_broad(argument))
        yield from broad_excepts(node, inner)


MARKER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")


@pytest.mark.parametrize("folder", PRODUCT)
def test_imports_go_one_way(folder: str) -> None:
    wrong = {name_of(path): found for path in sources(folder) if (found := wrong_arrows(folder, parsed(path)))}
    assert not wrong


def test_the_domain_imports_nothing_that_could_differ_between_nodes() -> None:
    wrong = {name_of(path): found for path in sources(DOMAIN) if (found := foreign_to_domain(parsed(path)))}
    assert not wrong


def test_only_consensus_imports_pysyncobj() -> None:
    others = [folder for folder in (*PRODUCT, *TOOLS) if folder != CONSENSUS]
    wrong = [
        name_of(path)
        for path in sources(*others)
        for module in imports(parsed(path))
        if module.split(".")[0] == "pysyncobj"
    ]
    assert not wrong


def test_nothing_imports_pickle() -> None:
    pickles = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}
    wrong = [
        name_of(path)
        for path in sources(*PRODUCT)
        for module in imports(parsed(path))
        if module.split(".")[0] in pickles or module.startswith("pysyncobj.pickle")
    ]
    assert not wrong


def test_the_domain_asks_for_no_hash_or_address_and_names_no_any() -> None:
    wrong = [
        f"{name_of(path)}:{ast.unparse(node)}"
        for path in sources(DOMAIN)
        for node in ast.walk(parsed(path))
        if is_call_of(node, "hash", "id") or (isinstance(node, ast.Name) and node.id == "Any")
    ]
    assert not wrong


def test_functions_fit_on_a_screen() -> None:
    wrong = {}
    for path in sources(*PRODUCT, *TOOLS):
        for function in functions(parsed(path)):
            where = f"{name_of(path)}:{function.name}"
            if lines_of(function) > LONGER_FUNCTIONS.get(where, FUNCTION_LINES_MAX):
                wrong[where] = lines_of(function)
    assert not wrong


def test_only_named_functions_catch_everything() -> None:
    found = {f"{name_of(path)}:{function}" for path in sources(*PRODUCT) for function in broad_excepts(parsed(path))}
    assert found - BROAD_EXCEPTS.keys() == set()
    assert BROAD_EXCEPTS.keys() - found == set(), "named, but no longer there"


def test_no_markers_are_left_over() -> None:
    files = [*sources(*PRODUCT, *TOOLS, "tests"), ROOT / "pyproject.toml", *(ROOT / "configs").glob("*")]
    wrong = [
        f"{name_of(path)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MARKER.search(line)
    ]
    assert not wrong


def test_every_folder_was_looked_at() -> None:
    assert all(len(sources(folder)) > 1 for folder in PRODUCT)
    assert not [path for path in sources(DOMAIN) if "consensus" in path.parts]


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        (DOMAIN, "from artemis.consensus.wire import encode"),
        (DOMAIN, "from artemis import api"),
        (DOMAIN, "import artemis.client.core"),
        (CONSENSUS, "from artemis.api.app import App"),
        (API, "from artemis.client import ArtemisClient"),
        (CLIENT, "from artemis.registry import Registry"),
        (CLIENT, "from artemis.api.names import NAMES"),
        (API, "from .app import App"),
    ],
)
def test_an_arrow_the_wrong_way_is_seen(folder: str, line: str) -> None:
    assert wrong_arrows(folder, ast.parse(f"def late() -> None:\n    {line}"))


@pytest.mark.parametrize("module", ["time", "random", "os.path", "asyncio", "logging", "pysyncobj", "httpx", "uuid"])
def test_an_impure_import_of_the_domain_is_seen(module: str) -> None:
    assert foreign_to_domain(ast.parse(f"import {module}")) == [module]


@pytest.mark.parametrize(
    "body",
    [
        "try:\n    go()\nexcept:\n    pass",
        "try:\n    go()\nexcept (OSError, Exception) as exc:\n    note(exc)",
        "with contextlib.suppress(BaseException):\n    go()",
    ],
)
def test_a_broad_except_is_seen(body: str) -> None:
    assert list(broad_excepts(ast.parse(body))) == ["<module>"]


def test_a_narrow_except_and_one_that_raises_again_are_not_broad() -> None:
    body = "try:\n    go()\nexcept OSError:\n    pass\nexcept BaseException:\n    undo()\n    raise"
    assert list(broad_excepts(ast.parse(body))) == []


def test_a_long_function_and_a_marker_are_seen() -> None:
    long = ast.parse("def long():\n" + "    go()\n" * FUNCTION_LINES_MAX)
    assert [lines_of(function) for function in functions(long)] == [FUNCTION_LINES_MAX + 1]
    assert MARKER.search("# TO" + "DO: later")
