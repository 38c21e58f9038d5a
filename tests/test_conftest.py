"""The suite's own conftest: all cores for the whole suite, and no workers of workers."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import FIRST, pytest_cmdline_main, pytest_collection_modifyitems

ROOT = Path(__file__).parents[1]
SOURCES = pytest.Config.ArgsSource


def processes(**attributes) -> object:
    """What the hook makes of a run with -n not given."""
    option = SimpleNamespace(numprocesses=None, maxprocesses=None, dist="no")
    config = SimpleNamespace(option=option, getoption=lambda name, default: getattr(option, name), **attributes)
    pytest_cmdline_main(config)
    return option.numprocesses


def test_whole_suite_takes_all_cores_and_a_part_of_it_one_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as it is set there
    assert processes(args_source=SOURCES.TESTPATHS) == "logical"
    assert processes(args_source=SOURCES.ARGS) is None


def in_order(*nodeids: str, **attributes) -> list[str]:
    """What the hook makes of the order of tests."""
    items = [SimpleNamespace(nodeid=nodeid) for nodeid in nodeids]
    pytest_collection_modifyitems(SimpleNamespace(**attributes), items)
    return [item.nodeid for item in items]


def test_long_files_come_first_where_files_are_dealt_out():
    found = ("tests/test_case.py::test_b", "tests/test_case.py::test_a", f"{FIRST[1]}test_x.py::test", FIRST[0])
    assert in_order(*found, workerinput={}) == [FIRST[0], f"{FIRST[1]}test_x.py::test", *found[:2]]
    assert in_order(*found) == list(found)


def test_what_comes_first_is_there():
    assert [place for place in FIRST if not (ROOT / place).exists()] == []


def test_workers_start_no_workers():
    assert processes(args_source=SOURCES.TESTPATHS, workerinput={}) is None
