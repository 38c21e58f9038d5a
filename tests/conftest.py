"""What all tests share: Hypothesis profiles and the real names. Nothing here imports torch."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The scalar reference is slow by nature, and a slow machine is no failure: neither deadlines nor a limit on drawing.
settings.register_profile("dev", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=50)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=500)
settings.load_profile(os.environ.get("PARITY_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def names_file() -> Path:
    """The real names.txt, which is not part of the repository; a test that asks for it is skipped without it."""
    path = os.environ.get("MICROGPT_NAMES")
    if not path:
        pytest.skip("set MICROGPT_NAMES to names.txt of makemore to run this")
    if not Path(path).is_file():
        pytest.skip(f"MICROGPT_NAMES is {path!r}, which is not a file")
    return Path(path)
