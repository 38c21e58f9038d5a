"""The suite's own conftest: all cores for the whole suite, and no workers of workers."""

from types import SimpleNamespace

import pytest

from tests.conftest import pytest_cmdline_main

SOURCES = pytest.Config.ArgsSource


def processes(**attributes) -> object:
    """What the hook makes of a run with -n not given."""
    option = SimpleNamespace(numprocesses=None, maxprocesses=None, dist="no")
    config = SimpleNamespace(option=option, getoption=lambda name, default: getattr(option, name), **attributes)
    pytest_cmdline_main(config)
    return option.numprocesses


def test_whole_suite_takes_all_cores_and_a_part_of_it_one_process():
    assert processes(args_source=SOURCES.TESTPATHS) == "logical"
    assert processes(args_source=SOURCES.ARGS) is None


def test_workers_start_no_workers():
    assert processes(args_source=SOURCES.TESTPATHS, workerinput={}) is None
