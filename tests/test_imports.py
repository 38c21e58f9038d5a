"""What may import what: reference <- torch_twin <- parity <- benchmarks, tests; and the order of parity's rooms."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_statements import Import, imports

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "reference": {"reference"},
    "torch_twin": {"torch_twin", "reference"},
    "parity": {"parity", "torch_twin", "reference"},
    "benchmarks": {"benchmarks", "tests", "parity", "torch_twin", "reference"},  # measured: what tests plant
    "tests": {"tests", "parity", "torch_twin", "reference"},
}
SHARED_WITH_THE_TWIN = {f"reference.config.{name}" for name in ("Config", "Hyper", "State", "Step")}

FLAT = "the modules that lie directly in it"
ROOMS = (
    {FLAT},
    {"oracle", "subjects"},
    {"judging"},
    {"catalogue"},
    {"training"},
    {"ranks"},
    {"gate", "ladder", "vectors", "testing"},
    {"suite", "page", "campaign"},
    {"cli"},
)
"""A room of parity may import itself and those of the lines above, wherever in a file the import stands."""
FRONTS = {
    "__init__": "judging",
    "__main__": "cli",
    "modules": "subjects",
    "plugin": "suite",
    "scalar": "oracle",
    "serve": "subjects",
    "strategies": "testing",
}
"""Addresses directly in parity that users import, and the room that each is a front of: they count as part of it."""

HEAVY = {"torch", "torch_twin", "numba", "flint", "jinja2"}
"""Imported by parity only where they are needed, so that pytest starts without them; torch_twin imports torch."""
MAY_BE_HEAVY = {
    "parity/machine_code.py": {"numba"},
    "parity/oracle/truth.py": {"flint"},
    **{
        f"parity/oracle/shadows/{name}.py": {"torch"}
        for name in (
            *("activations", "attention", "casts", "execution", "gated", "losses", "noise", "norms", "optimizers"),
            *("randomness", "shadow", "signatures", "sums"),
        )
    },
    **{
        f"parity/training/{name}.py": {"torch"}
        for name in (
            *("checking", "comparison", "gates", "link", "names", "observation", "other", "running", "spread", "state"),
            *("training", "bits", "exchange", "remote"),
        )
    },
    "parity/catalogue/fixed_rules.py": {"torch"},
    **{
        f"parity/ranks/{name}.py": {"torch"}
        for name in (
            *("dealing", "explanation", "gathered", "observation", "parts", "processes", "reduction", "running"),
            *("shares", "single", "worker"),
        )
    },
    **{
        f"parity/ladder/parallel/{name}.py": {"torch"}
        for name in (
            *("bfloat16_reduction", "fully_sharded", "no_sync", "pipeline", "sequence_parallel", "sharded_clipping"),
            *("sharded_tensor_parallel", "single", "tensor_parallel", "uneven_data_parallel", "zero"),
        )
    },
    "parity/subjects/frozen.py": {"torch"},
    "parity/judging/chain/expected.py": {"torch"},
    "parity/judging/on_shadows.py": {"torch"},
    "parity/judging/chain/gates.py": {"torch"},
    "parity/judging/chain/rung.py": {"torch", "torch_twin"},
    "parity/subjects/module_sites.py": {"torch"},
    "parity/subjects/modules.py": {"torch"},
    "parity/subjects/observed_relus.py": {"torch"},
    "parity/subjects/name_map.py": {"torch"},
}
"""Modules of parity that exist for one heavy package, and which."""
TEST_MODULE = re.compile(r"\b(?:tests|benchmarks)(?:\.\w+)*\.test_\w+")
TOP_LEVEL = {*MAY_IMPORT, "pyproject.toml", "README.md", "LICENSE"}


def public_names(source: str) -> dict[str, str]:
    """The names that parity/__init__.py offers, and where each is from."""
    found = imports("parity/__init__.py", source)
    return {name.rpartition(".")[2]: name for name, _ in found if name.startswith("parity.")}


PUBLIC = public_names((ROOT / "parity" / "__init__.py").read_text(encoding="utf-8"))


def room_of(name: str) -> str | None:
    """The room of a module or of a name in it, as `parity.judging.run`; None for what is in no room."""
    _, _, below = PUBLIC.get(name.removeprefix("parity."), name).partition(".")
    first, _, rest = below.partition(".")
    if first in FRONTS:
        return FRONTS[first]
    if any(first in line for line in ROOMS):
        return first
    return FLAT if not rest or (ROOT / "parity" / f"{first}.py").is_file() else None


def line_of(room: str) -> int:
    """How far up a room is: it may import those whose number is smaller."""
    return next(number for number, line in enumerate(ROOMS) if room in line)


def out_of_order(path: str, found: list[Import]) -> Iterator[str]:
    """What a file of parity imports from a room that is not below its own, or from none."""
    own = room_of(path.removesuffix(".py").replace("/", "."))
    for name in dict.fromkeys(name for name, _ in found if name.startswith("parity.")):
        room = room_of(name)
        if own is None or room is None or (room != own and line_of(room) >= line_of(own)):
            yield name


def named_test_modules(path: str, source: str) -> Iterator[str]:
    """Test modules that a file of tests or benchmarks imports, or names in a text, other than itself."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    mentioned = [*(name for name, _ in imports(path, source)), *(text for text in texts if isinstance(text, str))]
    found = {module for text in mentioned for module in TEST_MODULE.findall(text)}
    yield from sorted(found - {path.removesuffix(".py").replace("/", ".")})


def violations(path: str, source: str) -> list[str]:
    """What a file imports and should not, one sentence each."""
    package = Path(path).parts[0]
    found, imported = [], list(imports(path, source))
    for name, at_start in imported:
        top = name.partition(".")[0]
        if top in MAY_IMPORT and top not in MAY_IMPORT[package]:
            found.append(f"{path} imports {name}, against the direction of imports.")
        if package == "reference" and top not in sys.stdlib_module_names and top not in MAY_IMPORT:
            found.append(f"{path} imports {name}, which is not in the standard library.")
        if package == "torch_twin" and top == "reference" and name not in SHARED_WITH_THE_TWIN:
            found.append(f"{path} imports {name}: the two models would share more than their vocabulary.")
        if package == "parity" and at_start and top in HEAVY - MAY_BE_HEAVY.get(path, set()):
            found.append(f"{path} imports {name} as soon as it is imported itself.")
    if package == "parity":
        found += [f"{path} imports {name}, against the order of rooms." for name in out_of_order(path, imported)]
    if package in ("tests", "benchmarks"):
        found += [f"{path} imports {name}: what tests share lies apart." for name in named_test_modules(path, source)]
    return found


def strangers(files: list[str]) -> set[str]:
    """Entries at the top level of the repository that do not belong there."""
    return {top for top in (file.split("/")[0] for file in files) if top not in TOP_LEVEL and not top.startswith(".")}


def sources() -> dict[str, str]:
    """Every source file of the packages, by its path below the root."""
    paths = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_every_file_imports_only_what_it_may():
    files = sources()
    assert {Path(path).parts[0] for path in files} >= MAY_IMPORT.keys() - {"benchmarks"}  # which nobody need install
    del files["tests/test_imports.py"]  # plants them
    found = [sentence for path, source in files.items() for sentence in violations(path, source)]
    assert not found, "\n".join(["", *found])


PLANTED = [
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
    # The order of rooms.
    ("parity/case.py", "from parity.oracle.graph import record", "order of rooms"),
    ("parity/case.py", "def f():\n    import parity.judging.run", "order of rooms"),
    ("parity/case.py", "if TYPE_CHECKING:\n    from parity.judging.result import Result", "order of rooms"),
    ("parity/case.py", "from parity import check", "order of rooms"),
    ("parity/case.py", "from . import cli", "order of rooms"),
    ("parity/case.py", "from parity.scalar import Scalar", "order of rooms"),
    ("parity/oracle/graph.py", "from parity.subjects.calls import guarded", "order of rooms"),
    ("parity/oracle/graph.py", "from ..subjects import calls", "order of rooms"),
    ("parity/subjects/calls.py", "from parity.oracle.graph import record", "order of rooms"),
    ("parity/subjects/calls.py", "from parity import Verdict, check", "order of rooms"),
    ("parity/judging/run.py", "from parity.catalogue import mutants", "order of rooms"),
    ("parity/catalogue/mutants.py", "import importlib\nimportlib.import_module('parity.gate.git')", "order of rooms"),
    ("parity/training/checking.py", "from parity.ranks.processes import Ranks", "order of rooms"),
    ("parity/ranks/single.py", "from parity.gate.git import root", "order of rooms"),
    ("parity/gate/git.py", "from parity.ladder import machine", "order of rooms"),
    ("parity/testing/tally.py", "from parity.suite.bound import Bound", "order of rooms"),
    ("parity/testing/tally.py", "from parity import plugin", "order of rooms"),
    ("parity/vectors/verify.py", "from parity.cli.check_report import rendered", "order of rooms"),
    ("parity/suite/laws.py", "from parity.page import rendering", "order of rooms"),
    ("parity/scalar.py", "from parity.subjects.server import serve", "order of rooms"),
    ("parity/strategies.py", "from parity.cli import main", "order of rooms"),
    ("parity/cellar/wine.py", "from parity.case import Case", "order of rooms"),
    ("parity/cli/commands.py", "from parity.cellar import wine", "order of rooms"),
    # Tests and benchmarks.
    ("tests/test_case.py", "from tests.test_imports import violations", "lies apart"),
    ("tests/suite/test_suite.py", "from .test_plugin import run", "lies apart"),
    ("tests/suite/test_suite.py", "def f():\n    from tests.suite import test_plugin", "lies apart"),
    ("tests/test_case.py", "SUBJECT = 'tests.suite.test_suite:fused'", "lies apart"),
    ("benchmarks/claims.py", "import tests.test_imports", "lies apart"),
    ("benchmarks/claims.py", "from benchmarks import test_step", "lies apart"),
]


def test_planted_import_is_caught():
    for path, source, expected in PLANTED:
        found = violations(path, source)
        assert len(found) == 1, (path, source, found)
        assert found[0].startswith(f"{path} imports ")
        assert expected in found[0], (path, source, found)


ALLOWED = [
    ("reference/__main__.py", "import math\nfrom reference.config import Config"),
    ("reference/data.py", "from . import config\nfrom .microgpt import Value"),
    ("torch_twin/microgpt.py", "import torch\nfrom reference.config import State, Step, Config, Hyper"),
    ("parity/case.py", "def f():\n    import torch\n    from torch_twin import microgpt"),
    ("parity/case.py", "if TYPE_CHECKING:\n    import torch"),
    ("parity/case.py", "import numpy\nfrom reference import microgpt"),
    ("parity/oracle/graph.py", "import parity\nfrom parity import __version__\nfrom parity.case import Case"),
    ("parity/subjects/skeleton.py", "from parity import Config, Subject\nfrom . import calls\nfrom .. import case"),
    ("parity/gate/git.py", "from parity import Case, Verdict, check\nfrom parity.catalogue.mutants import MUTANTS"),
    ("parity/__init__.py", "from parity.judging.checking import check\nfrom parity.subjects.subject import Subject"),
    ("parity/suite/laws.py", "from parity.testing.strategies import configs\nfrom parity.strategies import cases"),
    ("parity/__main__.py", "from parity.cli import main"),
    ("tests/test_step.py", "import torch, parity\nfrom torch_twin.microgpt import make\nimport tests.faults"),
    ("tests/suite/test_suite.py", "import parity.suite.test_adam\nSUBJECT = 'tests.suite.test_suite:fused'"),
]


def test_import_that_is_allowed_is_not_caught():
    for path, source in ALLOWED:
        assert violations(path, source) == [], (path, source)


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
