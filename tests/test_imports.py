"""What may import what: reference <- torch_twin <- parity <- benchmarks, tests."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "reference": {"reference"},
    "torch_twin": {"torch_twin", "reference"},
    "parity": {"parity", "torch_twin", "reference"},
    "benchmarks": {
        "benchmarks",
        "tests",
        "parity",
        "torch_twin",
        "reference",
    },  # measured: what tests plant
    "tests": {"tests", "parity", "torch_twin", "reference"},
}
SHARED_WITH_THE_TWIN = {f"reference.config.{name}" for name in ("Config", "Hyper", "State", "Step")}
HEAVY = {"torch", "torch_twin", "numba", "flint", "matplotlib"}
"""Imported by parity only where they are needed, so that pytest starts without them; torch_twin imports torch."""
MAY_BE_HEAVY = {
    "parity/machine_code.py": {"numba"},
    "parity/oracle/truth.py": {"flint"},
    "parity/subjects/modules.py": {"torch"},
    "parity/subjects/name_map.py": {"torch"},
}
"""Modules of parity that exist for one heavy package, and which."""
TOP_LEVEL = {*MAY_IMPORT, "pyproject.toml", "README.md", "LICENSE"}


class Import(NamedTuple):
    """One imported name. at_start: it is imported as soon as its module is."""

    name: str
    at_start: bool


def imports(path: str, source: str) -> Iterator[Import]:
    """Every import in a file, wherever it stands, with relative names made absolute; path is below the root."""
    yield from _imports(ast.parse(source), Path(path).parent.parts, at_start=True)


def _imports(node: ast.AST, package: tuple[str, ...], at_start: bool) -> Iterator[Import]:
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(alias.name, at_start)
        case ast.ImportFrom():
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{module}.{alias.name}".removeprefix("."), at_start)
        case ast.Call(args=[ast.Constant(str(name)), *_]) if ast.unparse(node.func).endswith(
            ("import_module", "__import__", "importorskip")
        ):
            yield Import(name, at_start)
    for child in ast.iter_child_nodes(node):
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body
        yield from _imports(child, package, at_start and not later)


def violations(path: str, source: str) -> list[str]:
    """What a file imports and should not, one sentence each."""
    package = Path(path).parts[0]
    found = []
    for name, at_start in imports(path, source):
        top = name.partition(".")[0]
        if top in MAY_IMPORT and top not in MAY_IMPORT[package]:
            found.append(f"{path} imports {name}, against the direction of imports.")
        if package == "reference" and top not in sys.stdlib_module_names and top not in MAY_IMPORT:
            found.append(f"{path} imports {name}, which is not in the standard library.")
        if package == "torch_twin" and top == "reference" and name not in SHARED_WITH_THE_TWIN:
            found.append(f"{path} imports {name}: the two models would share more than their vocabulary.")
        if package == "parity" and at_start and top in HEAVY - MAY_BE_HEAVY.get(path, set()):
            found.append(f"{path} imports {name} as soon as it is imported itself.")
    return found


def strangers(files: list[str]) -> set[str]:
    """Entries at the top level of the repository that do not belong there."""
    return {top for top in (file.split("/")[0] for file in files) if top not in TOP_LEVEL and not top.startswith(".")}


def source_files() -> list[Path]:
    return [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_package_but_the_benchmarks_has_sources():
    assert {path.relative_to(ROOT).parts[0] for path in source_files()} >= MAY_IMPORT.keys() - {"benchmarks"}


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_imports_only_what_it_may(path):
    assert violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("reference/microgpt.py", "import numpy", "not in the standard library"),
        ("reference/microgpt.py", "def f():\n    import torch", "not in the standard library"),
        ("reference/microgpt.py", "from parity import Case", "against the direction"),
        ("reference/data.py", "from ..torch_twin import microgpt", "against the direction"),
        ("torch_twin/microgpt.py", "import parity.case", "against the direction"),
        ("torch_twin/microgpt.py", "from reference.microgpt import adam", "share more than their vocabulary"),
        ("torch_twin/microgpt.py", "from reference import microgpt", "share more than their vocabulary"),
        ("torch_twin/microgpt.py", "import reference", "share more than their vocabulary"),
        ("torch_twin/microgpt.py", "from reference.config import PRESETS", "share more than their vocabulary"),
        ("parity/case.py", "from tests.conftest import names_file", "against the direction"),
        ("parity/case.py", "import benchmarks", "against the direction"),
        ("parity/case.py", "import torch", "as soon as"),
        ("parity/case.py", "from torch.nn import functional", "as soon as"),
        ("parity/case.py", "try:\n    import numba\nexcept ImportError:\n    pass", "as soon as"),
        ("parity/case.py", "class Case:\n    import flint", "as soon as"),
        ("parity/case.py", "import importlib\nimportlib.import_module('torch')", "as soon as"),
        ("parity/case.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", "as soon as"),
        ("parity/subjects/subject.py", "from torch_twin import microgpt", "as soon as"),
        ("tests/test_case.py", "from benchmarks import calibrate", "against the direction"),
        ("tests/test_step.py", "import benchmarks", "against the direction"),
    ],
)
def test_planted_import_is_caught(path, source, expected):
    found = violations(path, source)
    assert len(found) == 1
    assert found[0].startswith(f"{path} imports ")
    assert expected in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("reference/__main__.py", "import math\nfrom reference.config import Config"),
        ("reference/data.py", "from . import config\nfrom .microgpt import Value"),
        ("torch_twin/microgpt.py", "import torch\nfrom reference.config import State, Step, Config, Hyper"),
        ("parity/case.py", "def f():\n    import torch\n    from torch_twin import microgpt"),
        ("parity/case.py", "if TYPE_CHECKING:\n    import torch"),
        ("parity/case.py", "import numpy\nfrom reference import microgpt"),
        ("tests/test_step.py", "import torch, parity\nfrom torch_twin.microgpt import make"),
    ],
)
def test_import_that_is_allowed_is_not_caught(path, source):
    assert violations(path, source) == []


@pytest.mark.parametrize("path", MAY_BE_HEAVY)
def test_module_that_may_be_heavy_is(path):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert {name.partition(".")[0] for name, at_start in imports(path, source) if at_start} >= MAY_BE_HEAVY[path]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("parity", HEAVY | {"numpy"}),
        ("parity.cli", HEAVY),
        ("parity.options", HEAVY | {"numpy", "reference"}),
        ("parity.plugin", HEAVY | {"numpy", "hypothesis"}),
        ("parity.judging.checking", HEAVY - {"numba"}),
        ("tests.conftest", HEAVY),
    ],
)
def test_importing_it_does_not_import_heavy_packages(module, absent):
    program = f"import sys, {module}; print(*sorted({absent!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_top_level_of_the_repository_holds_only_what_belongs_there():
    try:
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listing.returncode or not listing.stdout:
        pytest.skip("this is not a git checkout")
    assert strangers(listing.stdout.splitlines()) == set()


def test_stranger_at_the_top_level_is_caught():
    files = ["reference/microgpt.py", "README.md", ".ci/run", ".gitignore", "setup.py", "docs/index.md", "parity.py"]
    assert strangers(files) == {"setup.py", "docs", "parity.py"}
