"""What all tests share: Hypothesis profiles and the real names. Nothing here imports torch."""

import os
from pathlib import Path

import pytest

from parity.testing.profiles import load_profile

load_profile()  # that of PARITY_PROFILE; ci where CI is set, dev otherwise


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite on up to four cores; a part of it that was asked for by name starts sooner in one process."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    worker = hasattr(config, "workerinput")  # one of the processes that this starts, which must start none
    if whole and not worker and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses, config.option.maxprocesses, config.option.dist = "logical", 4, "loadscope"


@pytest.fixture(scope="session")
def names_file() -> Path:
    """The real names.txt, which is not part of the repository; a test that asks for it is skipped without it."""
    path = os.environ.get("MICROGPT_NAMES")
    if not path:
        pytest.skip("set MICROGPT_NAMES to names.txt of makemore to run this")
    if not Path(path).is_file():
        pytest.skip(f"MICROGPT_NAMES is {path!r}, which is not a file")
    return Path(path)
