"""What all tests share: Hypothesis profiles and the real names. Nothing here imports torch."""

import os
from pathlib import Path

import pytest

from parity.suite.profiles import load_profile

load_profile()  # that of PARITY_PROFILE; ci where CI is set, dev otherwise


@pytest.fixture(scope="session")
def names_file() -> Path:
    """The real names.txt, which is not part of the repository; a test that asks for it is skipped without it."""
    path = os.environ.get("MICROGPT_NAMES")
    if not path:
        pytest.skip("set MICROGPT_NAMES to names.txt of makemore to run this")
    if not Path(path).is_file():
        pytest.skip(f"MICROGPT_NAMES is {path!r}, which is not a file")
    return Path(path)
