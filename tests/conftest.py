"""What all tests share: Hypothesis profiles and the real names. Nothing here imports torch."""

import gc
import os
from pathlib import Path

import pytest

from parity.testing.profiles import load_profile

load_profile(cases=25 if os.environ.get("CI") and "PARITY_PROFILE" not in os.environ else None)
"""That of PARITY_PROFILE; ci where CI is set, with half its cases, since scripts of benchmarks/ draw by the hundred."""

FIRST = (
    "tests/vectors/",
    "tests/reference/",
    "tests/torch_twin/test_compiled.py",
    "tests/suite/",
    "tests/ladder/",
    "tests/subjects/test_command.py",
    "tests/gate/",
    "tests/test_benchmarks.py",
    "tests/torch_twin/test_data_parallel.py",
    "tests/training/",
    "tests/ranks/",
)
"""Where whole files are dealt out, the long ones, so that none is left at the end for one process alone.

The reference's come second: they need no oracle, which another process compiles meanwhile.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite on up to four cores; a part of it that was asked for by name starts sooner in one process."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    worker = hasattr(config, "workerinput")  # one of the processes that this starts, which must start none
    if whole and not worker and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses, config.option.maxprocesses, config.option.dist = "logical", 4, "loadscope"
        config.option.loadscopereorder = False  # by number of tests: FIRST knows better
        # Where every core has a process, its second thread only waits for the first; rungs ask for theirs.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put FIRST first in a worker: it is from what workers collect that files are dealt out."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what was imported, and look seldom: it takes a tenth of the time else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def rank(nodeid: str) -> int:
    """The place among FIRST; all others come after them, in the order in which they were found."""
    return next((place for place, beginning in enumerate(FIRST) if nodeid.startswith(beginning)), len(FIRST))


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing check by the command looks for no known mistake, which takes seconds and has tests of its own."""
    monkeypatch.setattr("parity.catalogue.naming.name_mistakes", lambda result, again=None: None)


@pytest.fixture
def by_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is judged at its noise floor alone: exact arithmetic, which takes longer, has tests of its own."""
    monkeypatch.setattr("parity.judging.checking._may_run_exactly", lambda result, options: False)


@pytest.fixture(scope="session")
def names_file() -> Path:
    """The real names.txt, which is not part of the repository; a test that asks for it is skipped without it."""
    path = os.environ.get("MICROGPT_NAMES")
    if not path:
        pytest.skip("set MICROGPT_NAMES to names.txt of makemore to run this")
    if not Path(path).is_file():
        pytest.skip(f"MICROGPT_NAMES is {path!r}, which is not a file")
    return Path(path)
